"""torchvision's S3D, MViTv2-S and Swin3D-T, and C3D: published sizes, equal outputs, one step, exact resume."""

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import video

from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest
from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.distributed import count_as_one_process, shard_batch
from r21d_core.engine.train import train
from r21d_core.models.cost import spec_cost
from r21d_core.models.load import read_weights
from r21d_core.models.neighbors import Neighbor, count_neighbor
from r21d_core.study.spec import Spec
from r21d_core.study.variants import NEIGHBORS
from tests.networks import TINY

CPU = torch.device("cpu")
SMALL = TINY.replace(frames=8, frame_height=36, frame_width=48, crop=32, eval_clips=2)


@pytest.mark.parametrize(
    ("variant", "weights"),
    [
        ("s3d", video.S3D_Weights.KINETICS400_V1),
        ("mvit_v2_s", video.MViT_V2_S_Weights.KINETICS400_V1),
        ("swin3d_t", video.Swin3D_T_Weights.KINETICS400_V1),
    ],
)
def test_size_and_multiply_adds_are_the_published_ones(variant, weights):
    parameters, macs = count_neighbor(variant, 400, 16, 224, 3)
    assert parameters == weights.meta["num_params"]
    assert macs / 1e9 == pytest.approx(weights.meta["_ops"], rel=0.01)


def test_cost_of_c3d_is_that_by_hand():
    """Its parameters with 101 classes; eight 3×3×3 convolutions at the sizes that the poolings leave, and three fc."""
    shapes = [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    convs = sum(27 * i * o + o for i, o in shapes)
    fc = 8192 * 4096 + 4096 * 4096 + 4096 * 101
    positions = [16 * 112**2, 16 * 56**2, *[8 * 28**2] * 2, *[4 * 14**2] * 2, *[2 * 7**2] * 2]
    macs = sum(27 * i * o * n for (i, o), n in zip(shapes, positions, strict=True)) + fc
    assert count_neighbor("C3D", 101, 16, 112, 3) == (convs + fc + 2 * 4096 + 101, macs)
    assert convs + fc + 2 * 4096 + 101 == 78_409_573


@pytest.mark.parametrize(("variant", "frames", "crop"), [("s3d", 16, 224), ("mvit_v2_s", 8, 32), ("swin3d_t", 8, 32)])
def test_logits_are_those_of_torchvision(variant, frames, crop):
    """With torchvision's own classifier in place of `fc`. Its S3D takes no smaller clips."""
    torch.manual_seed(0)
    expected = getattr(video, variant)(num_classes=5).eval()
    if variant == "mvit_v2_s":
        full = Neighbor(variant, num_classes=5, frames=16, crop=224).body.pos_encoding
        made_for = expected.pos_encoding.temporal_size, expected.pos_encoding.spatial_size
        assert (full.temporal_size, full.spatial_size) == made_for
        expected.pos_encoding.temporal_size, expected.pos_encoding.spatial_size = 4, (8, 8)
    network = Neighbor(variant, num_classes=5, frames=frames, crop=crop).eval()
    state = expected.state_dict()
    classifier = {"s3d": "classifier.1", "mvit_v2_s": "head.1", "swin3d_t": "head"}[variant]
    head = {name: state.pop(f"{classifier}.{name}") for name in ("weight", "bias")}
    network.body.load_state_dict(state)
    network.fc.load_state_dict({"weight": head["weight"].flatten(1), "bias": head["bias"]})
    clips = torch.randn(1, 3, frames, crop, crop)
    with torch.no_grad():
        torch.testing.assert_close(network(clips), expected(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", NEIGHBORS)
def test_step_trains_every_part_that_a_pass_uses(variant):
    spec = SMALL.replace(variant=variant)
    model = build_model(spec, 5, CPU)
    assert optimize(model, spec, CPU) is model
    assert sum(p.numel() for p in model.parameters()) == spec_cost(spec, 5).parameters
    clips = torch.randn(2, 3, 8, 32, 32)
    F.cross_entropy(model.train()(clips), torch.tensor([1, 4])).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert gradients["fc.weight"].any() and all(g.isfinite().all() for g in gradients.values() if g is not None)
    assert sum(g is not None and bool(g.any()) for g in gradients.values()) > 0.8 * len(gradients)
    rgb, flow = (spec_cost(spec.replace(modality=modality), 5).parameters for modality in ("rgb", "flow"))
    first = next(m for m in model.modules() if isinstance(m, nn.Conv3d))
    assert rgb - flow == first.weight.numel() // 3  # one input channel of three


@pytest.mark.parametrize(("variant", "seed"), [("s3d", 3), ("swin3d_t", 3), ("C3D", 2**64 - 1)])
def test_passes_drop_the_same_again_from_the_same_state(variant, seed):
    """As after a checkpoint, whatever else has drawn random numbers."""
    options = {"num_classes": 5, "frames": 8, "crop": 32}
    torch.manual_seed(0)
    network, again = (Neighbor(variant, **options, seed=seed).train() for _ in range(2))
    clips = torch.randn(2, 3, 8, 32, 32)
    first = network(clips)
    again.load_state_dict(network.state_dict())
    torch.rand(7)
    second, expected = again(clips), network(clips)
    assert torch.equal(second, expected) and not torch.equal(first, expected)


@pytest.mark.parametrize("clips", [8, 2])  # of two clips, the second process has none
def test_two_processes_drop_as_one(clips):
    batch = torch.randn(clips, 3, 2, 32, 32)
    network = Neighbor("C3D", num_classes=5, frames=2, crop=32).train()
    results = []
    for size in (1, 2):
        passes, parts = [], []
        for rank in range(size):
            network.passes.zero_()
            shard = shard_batch(clips, 4, rank, size)
            with torch.no_grad(), count_as_one_process(network, shard):
                logits = [network(batch[shard.rows][part]) for part in shard.micro_batches]
            parts += [] if shard.is_empty else logits
            passes.append(int(network.passes))
        results.append(torch.cat(parts))
        assert set(passes) == {min(clips, 4)}
    torch.testing.assert_close(results[0], results[1])


def test_flow_networks_are_initialized_as_the_rgb_ones():
    torch.manual_seed(0)
    conv = Neighbor("C3D", num_classes=5, frames=2, crop=32, in_channels=2).body[0]
    assert conv.weight.shape[1] == 2 and not conv.bias.any()
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (2 * 27)) ** 0.5, rel=0.1)  # He et al., 2015


def test_small_clips_and_other_lengths_are_refused():
    with pytest.raises(R21DError, match=r"s3d: takes no clips of 4 frames of 16×16 pixels"):
        build_model(TINY.replace(variant="s3d"), 5, CPU)
    with pytest.raises(R21DError, match="C3D was built for clips of 8 frames and got 4"):
        Neighbor("C3D", num_classes=5, frames=8, crop=32)(torch.zeros(1, 3, 4, 32, 32))
    assert Spec(variant="s3d").network == "s3d"


def test_checkpoint_is_not_taken_for_a_video_resnet(tmp_path):
    torch.save({"spec": asdict(Spec(variant="C3D")), "model": {"fc.bias": torch.zeros(5)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(R21DError, match=r"checkpoint\.pt: a checkpoint of C3D, which is trained and evaluated only"):
        read_weights(tmp_path / "checkpoint.pt")


def test_run_is_that_of_the_network(tiny_manifest, tmp_path):
    run = train(SMALL.replace(variant="s3d"), load_manifest(tiny_manifest), tmp_path, device="cpu")
    assert run.scores.logits.shape == (4, 2, 2) and run.summary["parameters"] == count_neighbor("s3d", 2, 8, 32, 3)[0]


def test_s3d_learns_the_statistics_that_evaluation_uses():
    """With torchvision's momentum of 0.001 it had 11 % error in training after 30 epochs, and tested at chance."""
    torch.manual_seed(0)
    network, clips = Neighbor("s3d", num_classes=2, frames=8, crop=32), 3 + 2 * torch.randn(8, 3, 8, 32, 32)
    stem = network.body.features[0][0]
    for _ in range(40):
        stem(clips)
    first, *others = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    assert {norm.momentum for norm in (first, *others)} == {0.1}
    trained, fresh = first.running_var.clone(), []
    first.register_forward_hook(lambda _, inputs, __: fresh.append(inputs[0].var((0, 2, 3, 4))))
    stem(clips)
    torch.testing.assert_close(trained, fresh[0], rtol=0.05, atol=1e-3)
