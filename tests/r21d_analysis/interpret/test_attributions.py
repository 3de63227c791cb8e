"""Attribution maps equal their definitions for every variant; the sanity check detects worthless maps."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from r21d_analysis.interpret import attributions
from r21d_analysis.interpret.attributions import attribute, completeness_gap, for_attribution
from r21d_analysis.interpret.evidence import PERTURBATIONS, TILES, evidence_lost, fraction_lost, tiles_lost
from r21d_analysis.interpret.filters import STAGES
from r21d_analysis.interpret.records import InsightRecord
from r21d_core.study.variants import VARIANTS
from tests.r21d_core.models.test_network import small

FRAMES, SIZE = 4, 16


def network_of(variant="R(2+1)D"):
    return small(variant, frames=FRAMES).float()


def clips(count=2, size=SIZE):
    return torch.randn(count, 3, FRAMES, size, size).to(memory_format=torch.channels_last_3d)


LABEL = torch.tensor([0, 4])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_method_runs_for_every_variant(variant):
    network, x = network_of(variant), clips()
    before = network(x)
    copied = for_attribution(network.train())
    assert network.training and all(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
    torch.testing.assert_close(copied(x), before)
    assert list(copied.state_dict()) == list(network.eval().state_dict())
    relus = [module for module in copied.modules() if isinstance(module, nn.ReLU)]
    pairs = sum(letter == "p" for letter in VARIANTS[variant]) * 2 - (variant == "R(2+1)D")
    assert len(relus) == 1 + 4 * 2 + pairs and not any(relu.inplace for relu in relus)
    for method in attributions.METHODS:
        maps = attribute(copied, x, LABEL, method, steps=4)
        assert maps.shape == (2, FRAMES, SIZE, SIZE) and maps.dtype == torch.float32 and maps.isfinite().all()
        assert method == "Grad-CAM" or (maps != 0).any(), method
    assert completeness_gap(copied, x, LABEL, "DeepLift").max() < 1e-2
    torch.testing.assert_close(copied(x), before)  # nothing of Captum's is left behind


@pytest.mark.parametrize("method", ["occlusion in time", "occlusion in space"])
def test_occlusion_matches_definition(method):
    network, x = for_attribution(network_of("R3D")), clips(1)
    label = torch.tensor([2])
    found = attribute(network, x, label, method)[0]
    total, seen = torch.zeros(2, FRAMES, SIZE, SIZE)
    with torch.no_grad():
        whole = network(x)[0, 2]
        starts = range(0, SIZE - 4 + 1, 2)
        places = [np.s_[:, y : y + 4, z : z + 4] for y in starts for z in starts]
        if method == "occlusion in time":
            places = [np.s_[t : t + 1, :, :] for t in range(FRAMES)]
        for place in places:
            hidden = x.clone()
            hidden[(0, slice(None), *place)] = 0
            total[place] += whole - network(hidden)[0, 2]
            seen[place] += 1
    torch.testing.assert_close(found, total / seen, rtol=1e-3, atol=1e-5)
    assert attributions.effective_resolution(network, x, method) == len(places)


def test_integrated_gradients_match_quadrature():
    network, x = for_attribution(network_of("MC3")), clips(1)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total = torch.zeros_like(x)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (x * node).requires_grad_()
        total += weight * torch.autograd.grad(network(point)[0, 3], point)[0] * x
    found = attribute(network, x, torch.tensor([3]), "integrated gradients", steps=8)
    torch.testing.assert_close(found, total.sum(1), rtol=1e-3, atol=1e-5)


def test_completeness_gap_falls_with_steps():
    network, x = for_attribution(network_of("R3D")), clips()
    gaps = [completeness_gap(network, x, LABEL, "integrated gradients", steps).mean().item() for steps in (2, 64)]
    assert gaps[1] < 0.05 and gaps[1] < gaps[0] / 2


def test_completeness_gap_is_the_share_that_is_missing():
    network, x = for_attribution(network_of("R3D")), clips(6)
    label = torch.arange(6)
    total = attribute(network, x, label, "integrated gradients", 2).sum((1, 2, 3))
    with torch.no_grad():
        difference = (network(x) - network(0 * x))[range(6), label]
    relative = total / difference - 1
    assert (relative < -0.01).any() and (relative > 0.01).any()
    found = completeness_gap(network, x, label, "integrated gradients", 2).float()
    torch.testing.assert_close(found, relative.abs(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", attributions.METHODS[4:])
@pytest.mark.parametrize("size", [16, 17])
def test_resolution_of_occlusion_is_its_number_of_windows(method, size):
    network, x, passes = for_attribution(network_of("R3D")), clips(1, size), []
    network.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    attribute(network, x, LABEL[:1], method)
    assert attributions.effective_resolution(network, x, method) == sum(passes) - 1  # without that of the whole clip


@pytest.mark.parametrize("variant", ["f-R2D", "R(2+1)D"])
def test_grad_cam_matches_definition(variant):
    network, x = for_attribution(network_of(variant)), clips(2, 64)
    features = network.forward_features(x).detach().requires_grad_()
    logits = network.forward_head(features)
    label = (logits - logits.mean(0)).argmax(1)
    gradient = torch.autograd.grad(logits.gather(1, label[:, None]).sum(), features)[0]
    small_map = (gradient.mean((2, 3, 4), keepdim=True) * features).sum(1, keepdim=True).relu()
    expected = nn.functional.interpolate(small_map, x.shape[2:], mode="trilinear")[:, 0].detach()
    maps = attribute(network, x, label, "Grad-CAM")
    torch.testing.assert_close(maps, expected)
    assert (maps > 0).any()
    assert attributions.effective_resolution(network, x, "Grad-CAM") == {"f-R2D": FRAMES, "R(2+1)D": 1}[variant] * 4 * 4


def test_shuffling_changes_only_its_stages():
    network = for_attribution(network_of())
    nn.init.normal_(network.fc.bias)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    other = attributions.shuffle_weights(network, ["fc", "conv5_x"]).state_dict()
    for name, tensor in before.items():
        assert torch.equal(network.state_dict()[name], tensor), "the network keeps its weights"
        moved = name.split(".")[0] in ("fc", "conv5_x") and "running" not in name and "batches" not in name
        assert torch.equal(other[name], tensor) != (moved and tensor.numel() > 1), name
        assert torch.equal(other[name].flatten().sort()[0], tensor.flatten().sort()[0])


def test_sanity_check_detects_maps_of_the_video(monkeypatch):
    trained, x = for_attribution(network_of()), clips()

    def fake(network, clips, label, method, steps=0):
        maps = {"the video": clips.sum(1), "nothing": torch.ones_like(clips[:, 0])}
        maps["its sign"] = maps["the video"] * (1 if network is trained else -1)
        return maps[method] if method in maps else attribute(network, clips, label, "integrated gradients", 4)

    shuffled, shuffle_weights = [], attributions.shuffle_weights
    monkeypatch.setattr(
        attributions,
        "shuffle_weights",
        lambda network, stages: shuffled.append(stages) or shuffle_weights(network, stages),
    )
    monkeypatch.setattr(attributions, "attribute", fake)
    found = attributions.sanity_correlations(trained, x, LABEL, ("the video", "its sign", "nothing", "the network"))
    assert found.shape == (4, 1 + len(STAGES))
    torch.testing.assert_close(found[:2], torch.ones(2, 6))
    assert found[2].isnan().all() and found[3, -1] < 0.6
    last_first = ("fc", "conv5_x", "conv4_x", "conv3_x", "conv2_x", "conv1")
    assert shuffled == [last_first[:count] for count in range(1, 7)]


def test_logit_margin_is_to_the_mean_of_the_others():
    logits = torch.tensor([[3.0, 1, 2], [0, 5, 1]])
    assert attributions.logit_margin(logits, torch.tensor([0, 2])).tolist() == [1.5, -1.5]


def test_perturbed_clips_have_the_frames_of_the_clip():
    x = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 3, 8, 2, 2)
    clips = attributions.temporal_perturbations(x)
    found = {name: [draw[0, 0, :, 0, 0].tolist() for draw in draws] for name, draws in clips.items()}
    assert set(found) == set(PERTURBATIONS)
    assert found["frozen"] == [[2.0] * 8, [4.0] * 8, [6.0] * 8]
    assert found["reversed"] == [[7, 6, 5, 4, 3, 2, 1, 0]]
    assert all(sorted(order) == list(range(8)) for order in found["shuffled"])
    still = torch.ones(1, 3, 8, 2, 2)
    for draws in attributions.temporal_perturbations(still).values():
        assert all(torch.equal(draw, still) for draw in draws)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 16])
def test_random_orders_differ_from_order_and_reverse(frames):
    for order in attributions.random_orders(frames):
        assert sorted(order) == list(range(frames))
        assert frames < 3 or order not in (list(range(frames)), list(range(frames))[::-1])


def test_tiles_cover_every_position_once():
    ones = torch.ones(1, 3, 2, 16, 17)
    hidden = sum(1 - part for part in attributions.occlude_tiles(ones))
    assert len(attributions.occlude_tiles(ones)) == TILES**2 and torch.equal(hidden, ones)


def test_evidence_of_each_clip_by_its_definition():
    network, x = for_attribution(network_of("R3D")), clips(6)
    network.fc.bias -= network(x).mean(0)  # so that predictions differ
    labels = network(x).argmax(1).numpy()
    test = SimpleNamespace(
        clips=SimpleNamespace(label=labels), iter_batches=lambda rows: ((r, None, x[r]) for r in np.split(rows, [2]))
    )
    found = attributions.measure_evidence(network, test, rows := np.array([5, 0, 3, 2]))

    def evidence(*versions):
        logits = network(torch.stack([torch.zeros_like(clip), *versions]))
        margin = logits[:, label] - logits[:, np.arange(6) != label].mean(1)
        return (margin[1:] - margin[0]).numpy(), logits[1:].argmax(1).eq(label).numpy()

    for index, row in enumerate(rows):
        clip, label = x[row], labels[row]
        orders = {"shuffled": attributions.random_orders(FRAMES), "reversed": [[3, 2, 1, 0]]}
        for name, draws in {"frozen": [[t] * FRAMES for t in (1, 2, 3)], **orders}.items():
            values, correct = evidence(*(clip[:, order] for order in draws))
            assert found[name][index] == pytest.approx(values.mean(), abs=1e-5)
            assert found[f"correct_{name}"][index] == pytest.approx(correct.mean())
        tiles = [clip.clone() for _ in range(9)]
        for number, tile in enumerate(tiles):
            (y, z), edges = divmod(number, 3), (0, 5, 10, 16)
            tile[..., edges[y] : edges[y + 1], edges[z] : edges[z + 1]] = 0
        np.testing.assert_allclose(found["occluded"][index], evidence(*tiles)[0], atol=1e-5)
        (value,), (correct,) = evidence(clip)
        assert (found["label"][index], found["correct"][index]) == (label, correct)
        assert found["original"][index] == pytest.approx(value, abs=1e-5)
    assert ((found["correct_frozen"] > 0) & (found["correct_frozen"] < 1)).any()


def test_evidence_lost_is_of_a_class_and_of_one_tile_for_all():
    rng, label = np.random.default_rng(0), np.arange(12) % 3
    arrays = {f"evidence_{name}": rng.uniform(3, 4, 12) for name in ("original", "frozen")}
    occluded = rng.uniform(2, 3, (12, TILES**2))
    occluded[:, 4] -= 1
    occluded[label == 1, 7] -= 1.5  # of this class the best, but not of all
    arrays |= {"evidence_occluded": occluded, "evidence_label": label, "evidence_groups": np.arange(12) // 2}
    record, original, groups = InsightRecord({}, arrays), arrays["evidence_original"], arrays["evidence_groups"]
    for name, perturbed in (("frozen", arrays["evidence_frozen"]), ("occluded", occluded[:, 4])):
        assert evidence_lost(record, name) == fraction_lost(original, perturbed, groups)
        of_class = [values[label == 1] for values in (original, perturbed, groups)]
        assert evidence_lost(record, name, 1) == fraction_lost(*of_class)
    np.testing.assert_allclose(tiles_lost(record), 100 - 100 * occluded.mean(axis=0) / original.mean())


def test_fraction_lost_by_recordings():
    whole, groups = np.full(10, 2.0), np.repeat(list("abcde"), 2)
    assert fraction_lost(whole, np.full(10, 0.5), groups) == pytest.approx((0.75, 0.75, 0.75))
    assert fraction_lost(whole, whole, groups)[0] == 0 and fraction_lost(whole, -whole, groups)[0] == 2
    lost, low, high = fraction_lost(whole, np.arange(10) / 5, groups)
    means = 1 - np.arange(10).reshape(5, 2).mean(axis=1) / 10  # of each recording, whose evidence is constant
    half = stats.t.ppf(0.975, 4) * means.std(ddof=1) / np.sqrt(5)
    assert (lost, low, high) == pytest.approx((0.55, 0.55 - half, 0.55 + half))
    assert np.isnan(fraction_lost(np.array([1.0, -1, 1, -1, 0]), np.zeros(5), groups[::2])).all(), "no evidence to lose"
    assert np.isnan(fraction_lost(np.array([3.0, -1, 3, -1, 1]), np.zeros(5), groups[::2])).all(), "unclear evidence"
    lost, low, high = fraction_lost(whole[:3], whole[:3], groups[[0, 0, 0]])
    assert lost == 0 and np.isnan([low, high]).all(), "one recording"
