"""Three of the networks are also in torchvision: the same weights give the same logits and gradients."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import video

from r21d_core.models.convert import identify_architecture
from r21d_core.models.cost import cost
from r21d_core.models.network import VideoResNet
from tests.networks import randomize_batch_norms

SAME = {"r3d_18": "R3D", "mc3_18": "MC3", "r2plus1d_18": "R(2+1)D"}
WEIGHTS = {
    "r3d_18": video.R3D_18_Weights.KINETICS400_V1,
    "mc3_18": video.MC3_18_Weights.KINETICS400_V1,
    "r2plus1d_18": video.R2Plus1D_18_Weights.KINETICS400_V1,
}


def theirs(name, classes=400):
    return getattr(video, name)(weights=None, num_classes=classes)


def ours(name, classes=400):
    """The network that torchvision's weights fit."""
    return VideoResNet(SAME[name], num_classes=classes, midplanes_per_block=name == "r2plus1d_18", eps=1e-5)


@pytest.fixture(scope="module", params=SAME)
def pair(request):
    """Torchvision's network with random weights and batch norms, and ours with the same, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        oracle = theirs(request.param, 5).double()
        randomize_batch_norms(oracle)
        nn.init.normal_(oracle.fc.bias)
        clips = torch.randn(2, 3, 5, 16, 24, dtype=torch.float64)  # T goes 5, 3, 2, 1: each stride counts
    with torch.device("meta"):
        network = ours(request.param, 5)
    network.load_state_dict({name: tensor.clone() for name, tensor in under_our_names(oracle).items()}, assign=True)
    return oracle, network, clips


def under_our_names(module, state_dict=None):
    return identify_architecture(state_dict or module.state_dict(), Path("in memory")).state


def close(actual, expected):
    """Equal but for the order of float64 sums, as a share of the largest; `assert_close` takes seconds for so many."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_logits_of_evaluation_are_torchvisions(pair):
    oracle, network, clips = pair
    with torch.no_grad():
        close(network.eval()(clips), oracle.eval()(clips))


def test_training_pass_is_torchvisions(pair):
    oracle, network, clips = pair
    labels = torch.tensor([1, 3])
    logits = [module.train()(clips) for module in (network, oracle)]
    close(*logits)
    for module, out in zip((network, oracle), logits, strict=True):
        module.zero_grad()
        nn.functional.cross_entropy(out, labels).backward()
    gradients = oracle.state_dict()  # buffers stay, and are compared too
    gradients.update({name: p.grad for name, p in oracle.named_parameters()})
    expected = under_our_names(oracle, gradients)
    for name, parameter in network.named_parameters():
        assert parameter.grad.any(), name
        close(parameter.grad, expected[name])
    for name, buffer in network.named_buffers():
        close(buffer, expected[name])


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18"])
def test_multiply_adds_that_torchvision_publishes(name):
    """For 16 frames. Its r2plus1d_18 has fewer planes than the paper's network, which `cost` is about."""
    assert round(cost(SAME[name], frames=16).macs / 1e9, 3) == WEIGHTS[name].meta["_ops"]


@pytest.mark.parametrize("name", SAME)
def test_every_key_has_its_place_and_keeps_its_tensor(name):
    with torch.device("meta"):
        source, network = theirs(name, 7).state_dict(), ours(name, 7)
    weights = identify_architecture(source, Path("in memory"))
    renamed = weights.state
    assert (weights.variant, weights.depth, weights.width) == (SAME[name], 18, 64)
    assert (weights.num_classes, weights.in_channels) == (7, 3)
    assert weights.midplanes_per_block is (name == "r2plus1d_18")
    assert (weights.layout, weights.eps, weights.frames) == ("torchvision", 1e-5, None)
    assert weights.stem_midplanes == (45 if name == "r2plus1d_18" else None)
    assert list(renamed) == list(network.state_dict())
    assert all(ours is theirs for ours, theirs in zip(renamed.values(), source.values(), strict=True))
    network.load_state_dict(renamed, assign=True)
