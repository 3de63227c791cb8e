"""What only a GPU can show; skipped where there is none."""

import os
import re
import signal
import sys

import numpy as np
import pytest
import torch

from benchmarks.steps import bench_train
from r21d_core.data.sampling import sample_epoch
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine.build import build_model, build_optimizer, optimize
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.cuda_graphs import CudaGraphModel, capture_cuda_graph
from r21d_core.engine.device import DTYPES
from r21d_core.engine.numerics import check_numerics, relative_error
from r21d_core.engine.plan import plan
from r21d_core.engine.runner import run_experiment
from r21d_core.models.conv_layout import from_conv_shape, pack_weight, stride_padding, to_conv_shape
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.spec import Spec
from tests.networks import NETWORK, TINY
from tests.r21d_core.engine.test_train import assert_same_run, weights
from tests.workers import train_and_kill

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
GPU = torch.device("cuda")
SPEC = TINY.replace(width=8, epochs=2, clips_per_epoch=16, batch_size=8, eval_clips=2)


@pytest.fixture
def exact(monkeypatch):
    """Without TF32, which alone would explain any difference."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("variant", TABLE_2)
def test_gpu_gives_the_logits_and_gradients_of_the_cpu(variant, exact):
    results = []
    for device in ("cpu", "cuda"):
        target = torch.device(device)
        network = optimize(build_model(SPEC.replace(variant=variant), 5, target), SPEC, target)
        clips = torch.randn(4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
        logits = network(clips)
        logits.square().sum().backward()
        results.append((logits.detach().cpu(), list(network.parameters())[-2].grad.cpu()))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("crop_area", [0.0, 0.35])
def test_clips_on_the_device_are_those_of_the_host(tiny, crop_area):
    spec, videos = SPEC.replace(crop_area=crop_area, brightness=0.4), tiny.split("train")
    clips = sample_epoch(spec, 0, videos, tiny.card.classes)
    pictures = []
    for device, where in (("cpu", "host"), ("cuda", "device"), ("cuda", "stream")):
        source = open_clips(videos, (18, 24), torch.device(device), where, 0)
        ((_, frames),) = source.iter_batches([clips])
        assert frames.device.type == device and frames.dtype == torch.uint8
        pictures.append(augment(frames, clips, spec).cpu())
    torch.testing.assert_close(pictures[1], pictures[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(pictures[2], pictures[1], rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_the_gpu(fit, precision):
    run = fit(SPEC.replace(precision=precision), device="cuda")
    assert run.is_complete and np.isfinite(run.scores.logits).all()
    assert torch.cuda.get_device_name() in run.summary["device"]


def test_a_plan_tells_the_memory(tiny_manifest, tmp_path):
    for gib in (0, 1, 0):  # held by others while it is told, and before
        held = torch.empty(gib * 2**30, dtype=torch.uint8, device="cuda")
        text = plan([SPEC], tiny_manifest, tmp_path, "cuda")
        del held
        assert float(re.search(r"([\d.]+) GiB beside the videos", text)[1]) < 0.9


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("variant", TABLE_2)
def test_the_fast_form_passes_its_check(variant, precision, capsys):
    spec = Spec(variant=variant, precision=precision)
    model = build_model(spec, 400, GPU)
    assert isinstance(optimize(model, spec, GPU), FastVideoResNet), capsys.readouterr().out
    assert list(model.state_dict()) == list(VideoResNet(variant).state_dict())


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((3, 1, 1), (2, 1, 1))])
def test_convolution_with_residual_and_relu(kernel, stride, add):
    from r21d_core.models import fused_pair

    generator = torch.Generator("cuda").manual_seed(0)
    conv = torch.nn.Conv3d(16, 24, kernel, stride, tuple(k // 2 for k in kernel)).cuda()
    x = torch.randn(3, 16, 5, 9, 11, device="cuda", generator=generator)
    x = x.bfloat16().contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        weight, bias = pack_weight(conv, conv.weight, torch.bfloat16), conv.bias.bfloat16()
        y = torch.nn.functional.conv3d(x.double(), conv.weight.bfloat16().double(), bias.double(), stride, conv.padding)
        residual = torch.randn(y.shape, device="cuda", generator=generator).bfloat16() if add else None
        given = to_conv_shape(conv, residual.contiguous(memory_format=torch.channels_last_3d)) if add else None
        ours = from_conv_shape(
            conv, fused_pair.conv_bias_relu(to_conv_shape(conv, x), weight, bias, *stride_padding(conv), given), x.shape
        )
        expected = (y + (residual.double() if add else 0)).relu()
    torch.testing.assert_close(ours.double(), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("variant", ["R(2+1)D", "R3D", "R2D"])
def test_the_fast_form_at_full_size(variant, exact):
    """Beside float32, where autocast is too: no further away than twice that, in training and evaluation."""
    from r21d_core.models import fused_pair

    network = build_model(Spec(variant=variant, frames=16), 400, GPU)
    clips = torch.randn(4, 3, 16, 112, 112, device=GPU, generator=torch.Generator(GPU).manual_seed(0))
    form = FastVideoResNet(network, torch.bfloat16, fused_pair)
    for training in (True, False):
        form.train(training)
        assert_as_close_as_autocast(form, network, clips)


def assert_as_close_as_autocast(fast, exact_model, clips):
    with torch.no_grad():
        exact = exact_model(clips)
        with torch.autocast("cuda", torch.bfloat16):
            cast = exact_model(clips).float()
        assert (fast(clips) - exact).norm() <= 2 * (cast - exact).norm() + 1e-3 * exact.norm()


def test_fast_form_trains_and_its_folded_weights_follow(exact):
    """Beside the model in fp32, where autocast to bf16 is up to 0.05 away, of losses from 1.6 down to 0."""
    spec = SPEC.replace(precision="bf16", lr=0.01)
    model, plain = build_model(spec, 5, GPU), build_model(spec, 5, GPU)
    fast, curves = optimize(model, spec, GPU), []
    clips = torch.randn(8, 3, 4, 16, 16, device=GPU, generator=torch.Generator(GPU).manual_seed(0))
    target = torch.arange(8, device=GPU) % 5
    for module in (fast, plain):
        optimizer, losses = build_optimizer(module, spec), []
        for _ in range(20):
            module.eval()
            with torch.no_grad():
                module(clips)  # folds the fast form's weights before they change
            module.train()
            loss = torch.nn.functional.cross_entropy(module(clips), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2
        curves.append(losses)
    np.testing.assert_allclose(*curves, rtol=0, atol=0.1)
    plain.load_state_dict(model.state_dict())
    assert_as_close_as_autocast(fast.eval(), plain.eval(), clips)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("variant", ["R(2+1)D", "R3D", "MC3", "R2D"])
def test_replayed_training_is_that_without_graphs(variant, precision, capsys):
    """Loss by loss, and statistic by statistic, also with a batch between that is not replayed."""
    spec, curves, ends = SPEC.replace(variant=variant, precision=precision), [], []
    generator = torch.Generator("cuda").manual_seed(0)
    batches = [torch.randn(n, 3, 4, 16, 16, device="cuda", generator=generator) for n in (8, 8, 5, 8, 8)]
    for replayed in (True, False):
        model = build_model(spec, 5, GPU)
        fast = optimize(model, spec, GPU).train()
        optimizer, module, curve = build_optimizer(fast, spec), fast, []
        if replayed:
            module = capture_cuda_graph(fast, spec, 8)
            assert isinstance(module, CudaGraphModel), capsys.readouterr().out
        for clips in batches:
            with torch.autocast("cuda", DTYPES[precision]):
                logits = module(clips)
            loss = torch.nn.functional.cross_entropy(logits.float(), torch.arange(len(clips), device="cuda") % 5)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curve.append(loss.item())
        fast.eval()
        with torch.no_grad():
            curves.append([*curve, *fast(batches[0]).flatten().tolist()])
        ends.append([value.clone() for value in model.buffers()])
    np.testing.assert_allclose(curves[0], curves[1], rtol=0.02, atol=0.02)
    torch.testing.assert_close(*ends, rtol=0.02, atol=0.02)


def test_training_with_fused_pairs_is_replayed(monkeypatch, capsys):
    """Whose rounding depends on the running statistics."""
    from r21d_core.models import fused_pair

    spec = SPEC.replace(depth=18, width=64, frames=8, frame_height=64, frame_width=86, crop=56, precision="bf16")
    fast, fused, run = optimize(build_model(spec, 5, GPU), spec, GPU), set(), fused_pair.norm_relu_conv
    monkeypatch.setattr(fused_pair, "norm_relu_conv", lambda *args: fused.add(args[2]) or run(*args))
    model = capture_cuda_graph(fast, spec, 8)
    assert isinstance(model, CudaGraphModel), capsys.readouterr().out
    assert len(fused) == 5, "not the stem's pair and the four of conv2_x"


def test_check_numerics_finds_a_wrong_kernel():
    from types import SimpleNamespace

    from r21d_core.models import fused_pair

    network = VideoResNet("R(2+1)D", 10, 16, num_classes=5).cuda()
    wrong = SimpleNamespace(**vars(fused_pair) | {"conv_bias_relu": lambda *x: fused_pair.conv_bias_relu(*x[:5])})
    assert check_numerics(network, DTYPES["bf16"], fused_pair, 8) is None
    assert check_numerics(network, DTYPES["bf16"], wrong, 8).startswith("the error of its evaluation is ")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # by PyTorch 2.11's own compiler
def test_a_benchmark_counts_no_memory_of_an_earlier_one(capsys):
    """Of graphs, whose memory stays with PyTorch until something has it let go, as cuDNN's search for kernels does."""
    spec = SPEC.replace(width=64, frames=8, frame_height=64, frame_width=86, crop=64)
    first, second = (
        [row["peak_gib"] for row in bench_train(spec, GPU, seconds=0.1) if row["bench"] == "train"] for _ in range(2)
    )
    assert len(first) == 2 and second == pytest.approx(first, rel=0.05), capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("frozen_stages", [2, 5])
def test_frozen_stages_keep_weights_and_statistics(fit, tmp_path, frozen_stages, precision):
    """To the last bit, also where a training without them runs the fast form."""
    before = build_model(SPEC, 2, torch.device("cpu")).state_dict()
    torch.save(before, tmp_path / "given.pth")
    spec = SPEC.replace(precision=precision, init_from=str(tmp_path / "given.pth"), frozen_stages=frozen_stages)
    after = load_checkpoint(fit(spec, device="cuda"))["model"]
    stages = ("conv1.", "bn1.", *(f"conv{stage}_x." for stage in range(2, frozen_stages + 1)))
    kept = {name for name in after if torch.equal(after[name].cpu(), before[name])}
    assert kept == {name for name in after if name.startswith(stages)}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_own_network_on_gpus(tiny_manifest, tmp_path, precision, exact, monkeypatch):
    """On one GPU, and without rounding also on the CPU and on two, where there are two."""
    (tmp_path / "own_nets.py").write_text(NETWORK.replace("nn.Dropout(0.5)", "nn.Identity()"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # of the two processes
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    spec = SPEC.replace(variant="own_nets:build", precision=precision, grad_accum_steps=2)
    machines = [("cuda", 1)]
    if precision == "fp32":
        machines += [("cpu", 1), ("cuda", 2)][: torch.cuda.device_count()]
    runs = [
        run_experiment([spec], tiny_manifest, tmp_path / f"{device}{gpus}", device=device, gpus=gpus)[0]
        for device, gpus in machines
    ]
    assert torch.cuda.get_device_name() in runs[0].summary["device"]
    for run in runs:
        torch.testing.assert_close(weights(run), weights(runs[0]), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(run.scores.logits, runs[0].scores.logits, rtol=0, atol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_two_gpus_is_that_of_one(tiny_manifest, tmp_path, precision, exact, monkeypatch):
    """Without TF32, and in bf16 after one step: rounding alone changes later losses, and all gradients but that of fc,
    as much as wrong gradients do. Simulated with twelve seeds, bf16 changes the step of fc by up to 13 % and the
    running statistics by 0.3 %; fp32 (ten seeds) after four steps by 3 % and 0.4 %. Gradients summed, of one process,
    or of the same clips in both change the step of fc by 39 % or more; statistics of one process alone are 7.8 % or
    more away.
    """
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # of the two processes
    spec = SPEC.replace(precision=precision, grad_accum_steps=2, frame_height=32, frame_width=43, crop=32)
    if precision == "bf16":
        spec = spec.replace(epochs=1, clips_per_epoch=spec.batch_size)
    one, two = (run_experiment([spec], tiny_manifest, tmp_path / str(gpus), gpus=gpus)[0] for gpus in (1, 2))
    assert two.summary["device"] == f"2 × {one.summary['device']}"
    before, ends = build_model(spec, 2, torch.device("cpu")).state_dict(), [weights(run) for run in (two, one)]
    steps = [torch.cat([(end[name] - before[name]).flatten() for name in ("fc.weight", "fc.bias")]) for end in ends]
    statistics = [torch.cat([end[name] for name in end if "running" in name]) for end in ends]
    assert relative_error(steps[:1], steps[1:]) < 0.3
    assert relative_error(statistics[:1], statistics[1:]) < 0.01
    for line, other in zip(two.history, one.history, strict=True):
        for name in ("train_loss", "test_loss"):
            assert line[name] == pytest.approx(other[name], rel=0.01)
    np.testing.assert_allclose(two.scores.logits, one.scores.logits, rtol=0, atol=0.01)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_killed_workers_on_two_gpus_resume_bit_exactly(tiny_manifest, tmp_path, capfd, monkeypatch):
    """To the last bit, as test_distributed has it on the CPU, with NCCL and a process for each GPU."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # so that cuBLAS is deterministic too; workers inherit it
    spec = SPEC.replace(epochs=3, grad_accum_steps=2)
    killed, never = (
        train_and_kill(tiny_manifest, tmp_path / name, capfd, deaths, "auto", spec)
        for name, deaths in (("killed", [(1, 1, signal.SIGKILL), (0, 3, signal.SIGKILL)]), ("never", []))
    )
    assert never.is_complete and killed.is_complete and killed.summary["device"].startswith("2 × ")
    assert_same_run(killed, never)
    assert len(killed.history) == 3
