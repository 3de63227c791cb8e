"""When a training pass is replayed, and what is printed where it cannot be; real replays need a GPU."""

import copy

import pytest
import torch

from r21d_core.engine import cuda_graphs, state, throughput
from r21d_core.engine.cuda_graphs import CudaGraphModel, capture_cuda_graph
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.study.spec import Spec
from tests.r21d_core.models.test_fast_forward import PLAIN, network

SPEC = Spec(depth=10, width=4, frames=4, crop=16, frame_height=16, frame_width=16, batch_size=3)


@pytest.fixture
def fast():
    return FastVideoResNet(network("R(2+1)D", frames=4).float(), torch.float32, PLAIN)


def fake_capture(monkeypatch, replay):
    """Replace PyTorch's capture by one whose replay is `replay(x, forward)`; return the shapes that are replayed."""
    shapes = []

    def make(module, sample):
        usual = module.forward

        def forward(x):
            shapes.append(tuple(x.shape))
            return replay(x, usual)

        for _ in range(3):  # as PyTorch warms up
            usual(*sample)
        module.forward = forward
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    return shapes


def clips(count):
    return torch.randn(count, 3, 4, 16, 16, generator=torch.Generator().manual_seed(count))


def assert_unchanged(fast, before):
    assert all(torch.equal(value, before[name]) for name, value in fast.state_dict().items())
    assert all(p.grad is None for p in fast.parameters())


def test_only_training_passes_of_the_shape_are_replayed(fast, monkeypatch, capsys):
    before = copy.deepcopy(fast.state_dict())
    shapes = fake_capture(monkeypatch, lambda x, usual: usual(x))
    graphed = capture_cuda_graph(fast, SPEC, 3)
    assert isinstance(graphed, CudaGraphModel) and not capsys.readouterr().out
    assert_unchanged(fast, before)
    assert graphed.training and fast.training
    assert [id(p) for p in graphed.parameters()] == [id(p) for p in fast.parameters()]
    shapes.clear()
    graphed(clips(2))
    with torch.no_grad():
        graphed(clips(3))
        fast.eval()
        graphed(clips(3))
    assert not shapes
    fast.train()
    graphed(clips(3))
    assert shapes == [(3, 3, 4, 16, 16)]


def test_replay_and_its_check_start_from_the_same_buffers(fast, monkeypatch):
    starts, run, before = [], cuda_graphs.training_pass, copy.deepcopy(fast.model.bn1.running_mean)
    monkeypatch.setattr(
        cuda_graphs,
        "training_pass",
        lambda module, x: starts.append(fast.model.bn1.running_mean.clone()) or run(module, x),
    )
    fake_capture(monkeypatch, lambda x, usual: usual(x))
    capture_cuda_graph(fast, SPEC, 3)
    assert len(starts) == 2 and all(torch.equal(start, before) for start in starts)


@pytest.mark.parametrize(
    ("replay", "failure"),
    [
        (lambda x, usual: usual(x) * 1.1, "the error of its logits is 0.1"),
        (lambda x, usual: usual(x).detach() + 0.9 * (usual(x) - usual(x).detach()), "error of its gradients is 0.1"),
        (lambda x, usual: usual(x) * float("nan"), "the error of its logits is nan"),
    ],
)
def test_wrong_replay_is_not_used(fast, monkeypatch, capsys, replay, failure):
    shapes = fake_capture(monkeypatch, replay)
    assert capture_cuda_graph(fast.eval(), SPEC, 3) is fast
    printed = capsys.readouterr().out
    assert printed.startswith("R(2+1)D: runs without CUDA graphs, ") and failure in printed and printed.count("\n") == 1
    assert shapes and not fast.training


def test_failed_capture_is_printed(fast, monkeypatch, capsys):
    def make(module, sample):
        module(*sample).sum().backward()
        raise torch.OutOfMemoryError("out of memory\nand more")

    before = copy.deepcopy(fast.state_dict())
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    assert capture_cuda_graph(fast, SPEC, 3) is fast
    assert capsys.readouterr().out.endswith("it raised OutOfMemoryError (out of memory)\n")
    assert_unchanged(fast, before)


def test_only_the_fast_form_of_a_gpu_is_captured(monkeypatch):
    monkeypatch.delattr(torch.cuda, "make_graphed_callables")
    model = network("R3D")
    for module in (model, FastVideoResNet(model, torch.float32, None)):
        assert capture_cuda_graph(module, SPEC, 3) is module


@pytest.mark.parametrize(
    ("accumulate", "processes", "replayed", "clips"), [(1, 1, [12], 12), (3, 1, [], 12), (3, 3, [4], 4), (6, 3, [], 4)]
)
def test_a_plan_times_the_steps_that_a_run_takes(monkeypatch, accumulate, processes, replayed, clips):
    """Replayed where a run replays them, and of all parts of a process, after which the optimizer steps once."""
    sizes, steps = [], []
    monkeypatch.setattr(state, "capture_cuda_graph", lambda model, spec, size: sizes.append(size) or model)
    monkeypatch.setattr(throughput, "_median_seconds", lambda call, device: (call(), 1.0)[1])
    monkeypatch.setattr(torch.optim.SGD, "step", lambda optimizer: steps.append(optimizer))
    spec = SPEC.replace(batch_size=12, grad_accum_steps=accumulate)
    assert throughput.training_throughput(spec, 3, torch.device("cpu"), processes) == clips
    assert sizes == replayed and len(steps) == 1
