"""What the twelve networks compute: shapes, gradients, and what each can know of the order of frames."""

import pytest
import torch
from torch import nn

from r21d_core import R21DError
from r21d_core.engine.build import build_model
from r21d_core.models.network import VideoResNet
from r21d_core.study.spec import Spec
from r21d_core.study.variants import NETWORKS, VARIANTS
from tests.networks import randomize_batch_norms


def small(variant, frames=8, **options):
    """An evaluating float64 network of ten layers whose batch norms all do something."""
    network = VideoResNet(variant, 10, 4, num_classes=6, frames=frames, **options).double().eval()
    return randomize_batch_norms(network).requires_grad_(False)


def clip(frames=8, channels=3):
    return torch.randn(2, channels, frames, 32, 32, dtype=torch.float64)


def change(network, one, other):
    """The largest change of a logit, as a share of the largest logit."""
    before = network(one)
    return ((network(other) - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("variant", NETWORKS)
def test_every_parameter_learns(variant):
    network = VideoResNet(variant, 10, 4, num_classes=6).train()
    logits = network(clip().float())
    assert logits.shape == (2, 6)
    nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert buffer == 1, name


@pytest.mark.parametrize("variant", NETWORKS)
def test_evaluation_takes_each_clip_alone(variant):
    network, clips = small(variant), clip()
    together = network(clips)
    assert together.shape == (2, 6) and together.isfinite().all()
    torch.testing.assert_close(torch.cat([network(clips[:1]), network(clips[1:])]), together)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("order", [[3, 6, 0, 7, 1, 5, 2, 4], list(range(7, -1, -1))], ids=["shuffled", "reversed"])
def test_only_f_r2d_is_blind_to_the_order_of_frames(variant, order):
    network, clips = small(variant), clip()
    difference = change(network, clips, clips[:, :, order])
    assert difference < 1e-12 if variant == "f-R2D" else difference > 1e-3


def test_f_r2d_is_the_mean_of_its_frames():
    network, clips = small("f-R2D"), clip(5)
    alone = [network(clips[:, :, t : t + 1]) for t in range(5)]
    torch.testing.assert_close(network(clips), torch.stack(alone).mean(0))


def test_r2d_sees_a_still_through_the_sum_of_its_filters():
    """On equal frames R2D is f-R2D with conv1 summed over time; all its other convolutions are the same."""
    r2d, f_r2d, frame = small("R2D"), small("f-R2D"), clip(1)
    weights = r2d.state_dict()
    weights["conv1.weight"] = weights["conv1.weight"].sum(2, keepdim=True)
    f_r2d.load_state_dict(weights)
    torch.testing.assert_close(r2d(frame.expand(-1, -1, 8, -1, -1)), f_r2d(frame))


def test_r3d_with_one_temporal_tap_is_f_r2d_on_a_short_clip():
    """With zeros before and after the middle tap 3×3×3 is 1×3×3; a clip of one frame leaves no stride to differ."""
    r3d, f_r2d, frame = small("R3D"), small("f-R2D"), clip(1)
    weights = r3d.state_dict()
    middle = {name: w[:, :, 1:2] if w.dim() == 5 and w.shape[2] == 3 else w for name, w in weights.items()}
    f_r2d.load_state_dict(middle)
    torch.testing.assert_close(r3d(frame), f_r2d(frame))


@pytest.mark.parametrize("frames", [4, 9, 1])
def test_r2d_takes_clips_of_its_length_only(frames):
    with pytest.raises(R21DError, match=f"R2D was built for clips of 8 frames and got {frames}"):
        small("R2D", frames=8)(clip(frames))


@pytest.mark.parametrize(
    ("name", "meant"), [("R2+1D", "R(2+1)D"), ("r3d", "R3D"), ("fR2D", "f-R2D"), ("mc3", "MC3"), ("rmc4", "rMC4")]
)
def test_unknown_variant_names_the_closest(name, meant):
    with pytest.raises(R21DError) as raised:
        VideoResNet(name)
    assert str(raised.value).startswith(f"variant {name!r}: did you mean {meant}? expected one of R2D, f-R2D, R3D, ")


@pytest.mark.parametrize("name", ["xylophone", "3333", "333333", "3c333", "33x22", "33P22", ""])
def test_variant_unlike_any_names_what_is_expected(name):
    message = rf"^variant '{name}': .*expected one of R2D, .*, or five letters such as 33p22 "
    with pytest.raises(R21DError, match=message):
        VideoResNet(name)


@pytest.mark.parametrize("eps", [1e-3, 1e-5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_norms_and_biases(variant, eps):
    network = VideoResNet(variant, 10, 4) if eps == 1e-3 else VideoResNet(variant, 10, 4, eps=eps)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    convs = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert len(norms) == len(convs)
    for norm in norms:
        assert norm.eps == eps and norm.momentum == 0.1
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
    assert all(conv.bias is None for conv in convs)
    assert (network.fc.bias == 0).all()


@pytest.mark.parametrize("variant", ["R2D", "MC3", "R(2+1)D"])
def test_weights_start_as_kaiming_says(variant):
    """Normal with variance 2 over the fan out, each standard deviation within five of its own standard errors."""
    network = VideoResNet(variant, 10, 16)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d):
            expected = (2 / (module.out_channels * module.weight[0, 0].numel())) ** 0.5
            error = 5 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=error), name
    assert network.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(("variant", "mixed"), [("R3D", True), ("MC3", False), ("rMC3", True), ("R(2+1)D", True)])
def test_layouts_on_a_cpu_change_nothing_but_order(variant, mixed):
    built = build_model(Spec(variant=variant, depth=10, width=4, frames=8), 6, torch.device("cpu")).double()
    plain = VideoResNet(variant, 10, 4, num_classes=6).double()
    plain.load_state_dict(built.state_dict())
    assert list(plain.state_dict()) == list(built.state_dict())
    last = torch.channels_last_3d
    weights = [module.weight for module in built.conv5_x.modules() if isinstance(module, nn.Conv3d)]
    assert all(weight.is_contiguous() or not mixed for weight in weights)
    assert all(
        parameter.is_contiguous(memory_format=last)
        for name, parameter in built.named_parameters()
        if parameter.dim() == 5 and not (mixed and name.startswith("conv5_x"))
    )
    clips = clip()
    for network, layout in ((built, last), (plain, torch.contiguous_format)):
        logits = network.train()(clips.contiguous(memory_format=layout))
        nn.functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    for ours, theirs in zip(built.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9 * theirs.grad.abs().max().item())
