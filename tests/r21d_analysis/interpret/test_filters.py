"""Filter statistics equal hand computations, singular values and what the convolutions compute."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from r21d_analysis.interpret import filters
from r21d_analysis.interpret.filters import filter_statistics, layers
from r21d_core.models.architecture import midplanes
from r21d_core.models.network import VideoResNet
from r21d_core.study.variants import LETTERS, VARIANTS
from tests.r21d_core.models.test_network import small


def state_of(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def test_order_of_a_filter_has_most_of_its_energy():
    found = np.array([[1, 1, 1], [1, 2, 1], [-3, -3, -2], [1, 0, -1], [-2, 0, 2], [1, 1, -1], [1, -2, 1], [0, 1, 0.0]])
    # (1, 1, −1) has energy 1/3, 2 and 2/3; (0, 1, 0) has 1/3, 0 and 2/3; (1, 2, 1) has 16/3, 0 and 2/3
    assert filters.filter_order(found).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert filters.order_statistics(found)[0].tolist() == [3, 3, 2]
    two = np.array([[1, 1, -1], [0, 1, 0]], float)
    np.testing.assert_allclose(filters.order_statistics(two)[1], [(1 / 3 + 1 / 3) / 4, 2 / 4, (2 / 3 + 2 / 3) / 4])


def test_temporal_taps_by_position_and_channel():
    kernel = np.arange(2 * 5 * 3 * 3 * 3).reshape(2, 5, 3, 3, 3)
    found = filters.temporal_taps(kernel)
    assert found.shape == (2 * 5 * 9, 3)
    assert kernel[1, 2, :, 0, 1].tolist() in found.tolist()
    kernel[0, 0, :, 1, 1] = 0
    assert len(filters.temporal_taps(kernel)) == 2 * 5 * 9 - 1


def test_spectra_of_known_filters_and_of_noise():
    average, spike = np.array([[1, 1, 1.0]]), np.array([[0, 1.0, 0]])
    power = filters.temporal_spectrum(average)
    assert power[0] == pytest.approx(3) and power[-1] == pytest.approx(1 / 3)
    np.testing.assert_allclose(filters.temporal_spectrum(spike), 1)
    stripes = np.tile([1.0, -1, 1, -1, 1, -1, 1], (7, 1))[None]
    space = filters.spatial_spectrum(stripes)
    assert space[-1] > 2 * space[:-4].max(), "all of it lies at half a cycle a pixel"
    np.testing.assert_allclose(filters.spatial_spectrum(np.eye(1, 49, 24).reshape(1, 7, 7)), 1)
    noise = np.random.default_rng(0).normal(size=(40_000, 3))
    np.testing.assert_allclose(filters.temporal_spectrum(noise), 1, atol=0.03)


@given(st.integers(2, 5), st.integers(1, 12), st.integers(0, 99), st.floats(1e-3, 1e3))
def test_rank_one_energy_is_that_of_the_svd(t, k, seed, scale):
    matrices = scale * np.random.default_rng(seed).normal(size=(3, t, k))
    squares = np.linalg.svd(matrices, compute_uv=False) ** 2
    found = filters.rank_one_energy(np.insert(matrices, 1, 0, axis=0))  # a matrix of zeros is left out
    np.testing.assert_allclose(found, squares[:, 0] / squares.sum(axis=1), rtol=1e-6)


def test_separable_kernels_are_recognized():
    random = np.random.default_rng(0)
    time, space = random.normal(size=(4, 3)), random.normal(size=(4, 5, 3, 3))
    kernel = np.einsum("ot,oiyx->oityx", time, space)
    found = filters.separability(kernel, 4)
    np.testing.assert_allclose(found["filter_separability"], 1)
    np.testing.assert_allclose(found["kernel_separability"], 1)
    pictures, curves = filters.separate_filters(kernel)
    np.testing.assert_allclose(np.einsum("ot,oiyx->oityx", curves, pictures), kernel, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(curves, axis=1), 1)
    other = random.normal(size=(4, 5, 3, 3, 3))
    other[:] = np.einsum("oit,oiyx->oityx", random.normal(size=(4, 5, 3)), space)  # a time of its own each channel
    found = filters.separability(other, 4)
    np.testing.assert_allclose(found["kernel_separability"], 1)
    assert found["filter_separability"].max() < 0.95


def test_curves_are_of_most_energy_with_a_positive_peak():
    random = np.random.default_rng(0)
    temporal, kernel = random.normal(size=(20, 6, 3, 1, 1)), random.normal(size=(20, 2, 3, 3, 3))
    strongest = filters.strongest_taps(temporal)
    for curve, taps in zip(strongest, temporal[..., 0, 0], strict=True):
        best = max(taps, key=np.linalg.norm)
        assert abs(curve @ best) == pytest.approx(np.linalg.norm(best))
    for curves in (strongest, filters.separate_filters(kernel)[1]):
        np.testing.assert_allclose(np.linalg.norm(curves, axis=1), 1)
        assert all(max(curve, key=abs) > 0 for curve in curves)


def test_low_rank_energy_is_that_of_the_svd():
    random = np.random.default_rng(0)
    kernel = np.einsum("omt,miyx->oityx", random.normal(size=(6, 4, 3)), random.normal(size=(4, 5, 3, 3)))
    squares = np.linalg.svd(kernel.transpose(0, 2, 1, 3, 4).reshape(18, 45), compute_uv=False) ** 2
    found = [filters.separability(kernel, planes)["low_rank_energy"] for planes in (4, 3)]
    assert found == pytest.approx([1, squares[:3].sum() / squares.sum()]) and found[1] < 0.99
    assert filters.separability(kernel, 3, pair=True)["low_rank_energy"] == 1


@pytest.mark.parametrize("which", ["conv1", "conv3_x.0.conv1", "conv5_x.0.conv2"])
def test_composed_kernel_equals_pair_without_relu(which):
    network = small("R(2+1)D")
    pair = network.get_submodule(which)
    layer = next(layer for layer in layers(state_of(network)) if layer.name == which)
    assert layer.midplanes == pair[0].out_channels
    plain = nn.Sequential(pair[0], pair[1], pair[3])
    x = torch.randn(2, pair[0].in_channels, 8, 9, 9, dtype=torch.float64)
    stride = (pair[3].stride[0], *pair[0].stride[1:])
    padding = (1, *pair[0].padding[1:])
    composed = F.conv3d(x, torch.from_numpy(layer.kernel).double(), stride=stride, padding=padding)
    torch.testing.assert_close(composed, plain(x) - plain(torch.zeros_like(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("which", ["conv2_x.0.conv1", "conv3_x.0.conv1"])
def test_kernel_of_each_letter_equals_its_parts_without_relus(which, letter):
    network = small(f"2{letter * 4}")
    module = network.get_submodule(which)
    for name, relu in [*module.named_modules()]:
        if isinstance(relu, nn.ReLU):
            setattr(module, name, nn.Identity())
    layer = next(layer for layer in layers(state_of(network)) if layer.name == which)
    assert layer.temporal.shape[2] == 1 + 2 * (letter != "2") and layer.spatial.shape[3] == 3
    x = torch.randn(2, 4, 8, 9, 9, dtype=torch.float64)
    size, stride = layer.kernel.shape[2:], 1 + (which == "conv3_x.0.conv1")
    options = {"stride": (stride if size[0] > 1 else 1, stride, stride), "padding": (size[0] // 2, 1, 1)}
    composed = F.conv3d(x, torch.from_numpy(layer.kernel).double(), **options)
    torch.testing.assert_close(composed, module(x) - module(torch.zeros_like(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("letter", LETTERS)
def test_statistics_of_every_letter(letter):
    """Untrained weights have the separability of random ones, and each layer of the network has its frames."""
    network = VideoResNet(f"2{letter * 4}", 10, 16, num_classes=6).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 1  # the statistics of one batch
    network(torch.randn(4, 3, 8, 32, 32))
    state = state_of(network)
    found = filter_statistics(state)
    frames = filters.input_frames({"variant": f"2{letter * 4}", "depth": 10, "width": 16, "frames": 8,
                                   "midplanes_per_block": False})  # fmt: skip
    assert found["layer"].tolist() == [*frames] and len(frames) == 9
    assert (found["midplanes"][1:] > 0).all() == (letter in "pnlhd")
    if letter != "2":
        for name in filters.SEPARABILITY:
            values = found[name][1:, 0] if found[name].ndim > 1 else found[name][1:]
            random = found[f"random_{name}"][1:]
            assert np.isnan(random).all() if letter in "bs" else values.mean() == pytest.approx(random.mean(), abs=0.02)
    turned = {key: -value if key.endswith("weight") and value.ndim == 5 else value for key, value in state.items()}
    np.testing.assert_allclose(filters.weight_changes(turned, state)["temporal_angle"], 180)


@pytest.mark.parametrize("variant", VARIANTS)
def test_statistics_of_every_variant(variant):
    network = small(variant)
    found = filter_statistics(state_of(network))
    letters = VARIANTS[variant]
    assert found["layer"].tolist()[:2] == ["conv1", "conv2_x.0.conv1"] and len(found["layer"]) == 9
    lengths = {"c": 8, "2": 1, "3": 3, "p": 3}
    assert found["length"].tolist() == [lengths[letters[0]]] + [lengths[one] for one in letters[1:] for _ in range(2)]
    has = found["length"] > 1
    assert (found["n_filters"] > 0).tolist() == has.tolist()
    assert (found["counts"].sum(axis=1) == found["n_filters"]).all()
    for name in ("spectrum", *filters.SEPARABILITY, *(f"random_{name}" for name in filters.SEPARABILITY)):
        assert np.isfinite(found[name][has]).all() and np.isnan(found[name][~has]).all()
    if variant == "R3D":
        assert found["n_filters"][1] == 4 * 4 * 9
        np.testing.assert_allclose(found["energy"], 1 / 3, atol=0.08)  # as no weights were trained
    if variant == "R(2+1)D":
        planes = midplanes(4, 4)
        assert found["midplanes"].tolist()[1:3] == [planes] * 2 and found["n_filters"][1] == 4 * planes
        assert found["pictures"].shape == (2, 3, 7, 7) and found["curves"].shape == (4, 3)
        np.testing.assert_allclose(np.linalg.norm(found["curves"].astype(float), axis=1), 1, atol=1e-3)
        composed = [*filters.layers(state_of(network))][1].kernel
        slices = composed.transpose(0, 1, 3, 4, 2).reshape(-1, 3)
        assert found["kernel_counts"][1].tolist() == filters.order_statistics(slices)[0].tolist()
        assert found["kernel_counts"][1].sum() == 4 * 4 * 9 != found["n_filters"][1]


def test_separability_has_deciles_and_the_planes_of_section_3_5():
    state = state_of(small("R3D"))
    found = filter_statistics(state)
    for row, layer in enumerate(layers(state)):
        out, inputs = layer.kernel.shape[:2]
        planes = midplanes(inputs, out) if row else 3 * 7 * 7 * inputs * out // (7 * 7 * inputs + 3 * out)
        expected = filters.separability(layer.kernel, planes)
        assert found["low_rank_energy"][row] == pytest.approx(expected["low_rank_energy"])
        for name in filters.SEPARABILITY[:2]:
            values = np.percentile(expected[name], [10, 90])
            assert found[name][row] == pytest.approx([expected[name].mean(), *values])


def test_decay_turns_no_weights_and_each_part_has_its_angle():
    initial = state_of(small("R(2+1)D"))
    state = {key: 0.25 * value for key, value in initial.items()}
    state["conv2_x.0.conv1.3.weight"] = np.flip(initial["conv2_x.0.conv1.3.weight"], 0)
    state["conv2_x.0.conv2.0.weight"] = -initial["conv2_x.0.conv2.0.weight"]
    changes = filters.weight_changes(state, initial)
    np.testing.assert_allclose(changes["temporal_change"][[0, 2]], 0.75, rtol=1e-6)
    np.testing.assert_allclose(changes["temporal_angle"][[0, 2]], 0, atol=1e-3)
    assert changes["temporal_angle"][1] > 45 and changes["spatial_angle"][1] < 1e-3
    assert changes["temporal_angle"][2] < 1e-3 and changes["spatial_angle"][2] == pytest.approx(180)
