"""When a training pass is replayed, when not, and what is said where it cannot be; the replaying itself takes a GPU."""

import copy

import pytest
import torch

from r21d_core.engine import throughput
from r21d_core.engine.cuda_graphs import capture_cuda_graph
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.study.spec import Spec
from tests.r21d_core.models.test_fast_forward import PLAIN, network

SPEC = Spec(depth=10, width=4, frames=4, crop=16, frame_height=16, frame_width=16, batch_size=3)


@pytest.fixture
def ours():
    built = network("R(2+1)D", frames=4).float()
    built.forward = FastVideoResNet(built, torch.float32, PLAIN)
    return built


def capturing(monkeypatch, what):
    """Instead of PyTorch's: `network.forward` becomes `what(x, forward)`; gives the shapes that were replayed."""
    shapes = []

    def make(network, sample):
        usual = network.forward

        def forward(x):
            shapes.append(tuple(x.shape))
            return what(x, usual)

        for _ in range(3):  # as PyTorch warms up
            usual(*sample)
        network.forward = forward
        return network

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    return shapes


def clips(count):
    return torch.randn(count, 3, 4, 16, 16, generator=torch.Generator().manual_seed(count))


def test_training_passes_of_the_shape_are_replayed_and_no_others(ours, monkeypatch, capsys):
    before = copy.deepcopy(ours.state_dict())
    shapes = capturing(monkeypatch, lambda x, usual: usual(x))
    capture_cuda_graph(ours, SPEC, 3)
    assert not capsys.readouterr().out
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    assert all(p.grad is None for p in ours.parameters()) and ours.training
    shapes.clear()
    ours(clips(2))
    with torch.no_grad():
        ours(clips(3))
    ours.eval()
    with torch.no_grad():
        ours(clips(3))
    assert not shapes
    ours.train()
    ours(clips(3))
    assert shapes == [(3, 3, 4, 16, 16)]


@pytest.mark.parametrize(
    "what, said",
    [
        (lambda x, usual: usual(x) * 1.1, "its logits are off by 0.1"),
        (lambda x, usual: usual(x).detach() + 0.9 * (usual(x) - usual(x).detach()), "its gradients are off by 0.1"),
        (lambda x, usual: usual(x) * float("nan"), "its logits are off by nan"),
    ],
)
def test_what_is_replayed_wrongly_is_not_replayed(ours, monkeypatch, capsys, what, said):
    shapes, plain = capturing(monkeypatch, what), ours.forward
    capture_cuda_graph(ours.eval(), SPEC, 3)
    told = capsys.readouterr().out
    assert told.startswith("R(2+1)D: starts its kernels one by one, ") and said in told and told.count("\n") == 1
    assert ours.forward is plain and not ours.training
    assert shapes


def test_where_nothing_can_be_captured_it_is_said(ours, monkeypatch, capsys):
    def make(network, sample):
        network(*sample).sum().backward()
        raise torch.OutOfMemoryError("out of memory\nand more")

    before, plain = copy.deepcopy(ours.state_dict()), ours.forward
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    capture_cuda_graph(ours, SPEC, 3)
    assert capsys.readouterr().out.endswith("it raised OutOfMemoryError (out of memory)\n")
    assert ours.forward is plain and all(p.grad is None for p in ours.parameters())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_the_plain_form_is_left_alone(monkeypatch):
    monkeypatch.delattr(torch.cuda, "make_graphed_callables")
    built = network("R3D")
    capture_cuda_graph(built, SPEC, 3)
    assert "forward" not in vars(built)


@pytest.mark.parametrize(
    ("accumulate", "processes", "replayed", "clips"), [(1, 1, [12], 12), (3, 1, [], 12), (3, 3, [4], 4), (6, 3, [], 4)]
)
def test_a_plan_times_the_steps_that_a_run_takes(monkeypatch, accumulate, processes, replayed, clips):
    """Replayed where a run replays them, and of all parts of a process, after which the optimiser steps once."""
    sizes, steps = [], []
    monkeypatch.setattr(throughput, "capture_cuda_graph", lambda network, spec, size: sizes.append(size))
    monkeypatch.setattr(throughput, "_median_seconds", lambda work, device: work() or 1.0)
    monkeypatch.setattr(torch.optim.SGD, "step", lambda optimiser: steps.append(optimiser))
    spec = SPEC.replace(batch_size=12, grad_accum_steps=accumulate)
    assert throughput.training_throughput(spec, 3, torch.device("cpu"), processes) == clips
    assert sizes == replayed and len(steps) == 1
