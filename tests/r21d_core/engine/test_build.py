"""The optimizer and the initial weights of a Spec are those of its recipe."""

import math

import pytest
import torch
from torch import nn

from r21d_core.engine import build
from r21d_core.engine.build import build_model, build_optimizer
from r21d_core.models.neighbors import Neighbor
from r21d_core.study.spec import Spec
from tests.networks import TINY as TINY_RUN

CPU = torch.device("cpu")
TINY = Spec(variant="R(2+1)D", depth=10, width=4, frames=4, crop=16, momentum=0.9, weight_decay=0.5, lr=0.1)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_biases", [False, True])
def test_two_steps_of_sgd_match_the_formula(nesterov, decay_biases):
    spec = TINY.replace(nesterov=nesterov, decay_biases=decay_biases)
    model = build_model(spec, 3, CPU)
    optimizer = build_optimizer(model, spec)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    velocity = dict.fromkeys(expected, 0.0)
    for step in (1, 2):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.full_like(parameter, 0.01 * step)
            decay = 0.5 if decay_biases or not name.endswith("bias") else 0.0
            gradient = 0.01 * step + decay * expected[name]
            velocity[name] = 0.9 * velocity[name] + gradient
            expected[name] = expected[name] - 0.1 * (gradient + 0.9 * velocity[name] if nesterov else velocity[name])
        optimizer.step()
    torch.testing.assert_close({name: p.detach() for name, p in model.named_parameters()}, expected)


def test_xavier_classifier_has_the_spread_of_caffe2():
    weight, other = (build_model(Spec(depth=10, fc_init=kind), 400, CPU).fc.weight for kind in ("xavier", "normal"))
    assert weight.std().item() == pytest.approx(0.044, abs=0.0005) and weight.abs().max() <= math.sqrt(3 / 512)
    assert other.std().item() == pytest.approx(0.01, abs=0.0005)


def test_batch_norms_have_the_eps_of_the_spec():
    norms = [m for m in build_model(TINY.replace(eps=1e-5), 3, CPU).modules() if isinstance(m, nn.BatchNorm3d)]
    assert norms and {norm.eps for norm in norms} == {1e-5}


def test_other_initial_weights_do_not_depend_on_fc_init():
    normal, xavier = (build_model(TINY.replace(fc_init=kind), 3, CPU).state_dict() for kind in ("normal", "xavier"))
    assert {name for name in normal if not torch.equal(normal[name], xavier[name])} == {"fc.weight"}


class FrameNetwork(Neighbor):
    """2-D convolutions on each frame, as a network of one's own may have."""

    def __init__(self, *args, num_classes, in_channels, seed, **options):
        nn.Module.__init__(self)
        self.num_classes, self.seed = num_classes, seed
        self.conv, self.fc = nn.Conv2d(in_channels, 4, 3), nn.Linear(4, num_classes)
        self.conv3d = nn.Conv3d(in_channels, 4, 3)
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x):
        maps = self.conv(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1))
        return self.fc(maps.mean((1, 3, 4)) + self.conv3d(x).mean((2, 3, 4)))


def test_network_with_2d_convolutions_trains(fit, monkeypatch):
    monkeypatch.setattr(build, "Neighbor", FrameNetwork)
    spec = TINY_RUN.replace(variant="C3D")
    model = build_model(spec, 2, CPU)
    assert model.conv3d.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not model.conv3d.weight.is_contiguous() and model.conv.weight.is_contiguous()
    assert fit(spec).is_complete
