"""The benchmarks run with every implementation; speeds are not checked."""

import ast
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch

from benchmarks import baselines as baselines_module
from benchmarks import loading, steps
from benchmarks.baselines import CLASSES, Baseline, baselines, inference_step, training_step
from benchmarks.loading import bench_evaluate, bench_memory, bench_stream
from benchmarks.profiler import kernel_kind, time_breakdown
from benchmarks.scaling import bench_scaling
from benchmarks.steps import bench_infer, bench_train, count_work, machine, synthetic_batch, time_interleaved
from benchmarks.tables import add_ratios, load, tables
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest
from r21d_core.engine.build import build_model
from r21d_core.models.cost import spec_cost
from r21d_core.study.spec import Spec
from tests.benchmarks.clocked import Clock, ClockedSource
from tests.workers import fork_workers

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = Spec(depth=10, width=8, frames=2, batch_size=2, frame_height=18, frame_width=24, crop=16, clips_per_epoch=8)
FULL = Spec(variant="MC3", frames=2, batch_size=2, crop=16)  # torchvision's networks come in one size


@pytest.mark.parametrize("variant", ["R2D", "R3D", "MC3", "R(2+1)D"])
def test_count_work_agrees_with_spec_cost(variant):
    spec = TINY.replace(variant=variant, frames=4, crop=18)  # odd sizes on the way
    macs, elements = count_work(build_model(spec, CLASSES, CPU), (3, 4, 18, 18))
    cost = spec_cost(spec, CLASSES)
    assert macs == cost.macs
    written = sum(conv.out_channels * conv.size[0] * conv.size[1] * conv.size[2] for conv in cost.convs) + CLASSES
    assert written < elements < 10 * written


def test_count_work_agrees_with_torchvision():
    macs, _ = count_work(baselines_module.TORCHVISION_MODELS["R(2+1)D"](), (3, 16, 112, 112))
    assert round(macs / 1e9, 3) == baselines_module.video.R2Plus1D_18_Weights.KINETICS400_V1.meta["_ops"]


def test_every_baseline_trains_and_classifies(monkeypatch):
    compiled = []
    monkeypatch.setattr(steps, "ROUNDS", 2)
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    for bench, run in (("train", bench_train), ("infer", bench_infer)):
        rows = run(FULL, CPU, seconds=0)
        names = [baseline.name for baseline in baselines(FULL, CPU)]
        kinds = bench, f"{bench} time"
        assert [(row["bench"], row["what"]) for row in rows] == [(kind, name) for kind in kinds for name in names]
        assert len(names) == 5 and names[0] == "torchvision, its recipe" and names[-1].startswith("ours, as the engine")
        for row in rows[:5]:
            assert row["first_step_s"] > 0
            assert "failed" not in row and row["slowest"] <= row["clips_per_second"] <= row["fastest"]
            passes = 3 if bench == "train" else 1
            assert row["tflops"] * 1e3 == pytest.approx(2 * passes * row["clips_per_second"] * row["gmac"])
    assert len(compiled) == 2


def test_baselines_depend_on_device_and_variant():
    gpu = torch.device("cuda")
    assert [baseline.precision for baseline in baselines(FULL, gpu)] == ["fp16", *["bf16"] * 4]
    assert [baseline.channels_last for baseline in baselines(FULL, gpu)] == [False, *[True] * 4]
    assert len(baselines(FULL, gpu, compiled=False)) == 4
    for spec in (FULL.replace(variant="MC4"), FULL.replace(width=32), FULL.replace(depth=34)):
        assert [baseline.name.split(",")[0] for baseline in baselines(spec, gpu)] == ["ours", "ours"]


def test_only_the_training_step_changes_weights():
    baseline = baselines(TINY, CPU)[-1]
    clips, target = synthetic_batch(TINY, CPU)
    network, step = training_step(baseline, TINY, CPU)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    step(clips, target)
    assert all((now != then).any() for now, then in zip(network.parameters(), before, strict=True))
    assert all(parameter.grad is None for parameter in network.parameters())
    network, step = inference_step(baseline, TINY, CPU)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step(clips, target)
    assert not network.training
    assert all((value == before[name]).all() for name, value in network.state_dict().items())


def test_weights_have_the_layout_of_the_baseline():
    for baseline in baselines(FULL, CPU, compiled=False)[:2]:
        network, _ = inference_step(baseline, FULL, CPU)
        weight = network.stem[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last_3d) == baseline.channels_last


def test_failing_baseline_has_the_reason_in_its_row(monkeypatch):
    def broken(spec, device):
        raise torch.OutOfMemoryError("no room\nand a long story")

    found = [Baseline("broken", broken, "fp32"), *baselines(TINY, CPU)]
    monkeypatch.setattr("benchmarks.steps.baselines", lambda *_: found)
    rows = bench_infer(TINY, CPU, seconds=0)
    assert rows[0]["failed"] == "no room" and "clips_per_second" not in rows[0]
    assert [row["what"] for row in rows if row["bench"] == "infer time"] == [baseline.name for baseline in found[1:]]


def test_steps_are_timed_in_turns():
    calls = []
    time_interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, 0)
    assert "".join(calls) == "ab" * 6, "one timing call, then five rounds"


def test_bench_memory_has_a_row_per_source():
    rows = bench_memory(TINY, CPU, seconds=0)
    assert [row["what"].split(",")[0] for row in rows] == ["one batch over and over", "sampled", "sampled"]
    assert all(row["clips_per_second"] > 0 for row in rows)


def test_bench_stream_has_a_row_per_source(tiny_manifest):
    rows = bench_stream(TINY, load_manifest(tiny_manifest), CPU, workers=0, seconds=0)
    assert [row["what"] for row in rows] == ["one batch over and over", "streamed by 0 workers"]
    assert {row["data"] for row in rows} == {"tiny"}


def test_stream_of_many_workers_is_as_fast_as_they_decode(tiny_manifest, monkeypatch):
    """Where training is faster by a fifth, and the workers decode during the first step, which takes long."""
    clock, step = Clock(), 1 / 1.2 / 64
    times = chain([10], repeat(step))

    def training_step(baseline, spec, device):
        return None, lambda clips, target: setattr(clock, "now", clock.now + next(times))

    def open_clips(videos, size, device, cache, workers):
        return ClockedSource(videos, size, device, workers, clock=clock)

    monkeypatch.setattr(loading, "training_step", training_step)
    monkeypatch.setattr(loading, "open_clips", open_clips)
    monkeypatch.setattr(steps, "time", clock)
    batch, stream = bench_stream(TINY, load_manifest(tiny_manifest), CPU, workers=64, seconds=1)
    assert batch["clips_per_second"] == pytest.approx(2 / step)
    assert stream["clips_per_second"] == pytest.approx(2 * 64, rel=0.1)


def test_bench_evaluate_has_a_row_per_clip_count(tiny_manifest):
    rows = bench_evaluate(TINY, load_manifest(tiny_manifest), CPU, workers=0, seconds=0)
    assert [row["what"] for row in rows] == ["1 clip of 1 video", "10 clips a video", "100 clips a video"]
    assert {row["videos"] for row in rows} == {1}
    assert add_ratios({}, rows)[1]["ratio"] == 1
    assert rows[2]["clips_per_second"] == pytest.approx(100 / rows[2]["seconds"])


@pytest.mark.slow
def test_scaling_compares_one_and_two_processes(monkeypatch):
    fork_workers(monkeypatch)
    spec = Spec(depth=10, width=4, frames=2, crop=16, batch_size=2, variant="R3D")
    one, two = bench_scaling(spec, torch.device("cpu"), seconds=0.1)
    assert (one["what"], two["what"]) == ("1 process", "2 processes")
    for row in (one, two):
        assert 0 < row["slowest"] <= row["clips_per_second"] <= row["fastest"]


def test_scaling_needs_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    (row,) = bench_scaling(Spec(), torch.device("cuda"), seconds=0)
    assert row["failed"] == "needs two GPUs, found one"


def test_command_prints_tables_and_writes_the_record(tmp_path, capsys):
    out = tmp_path / "kept" / "here.json"
    command = ["bench", "infer", "--device", "cpu", "--variants", "f-R2D", "--depth", "10", "--frames", "1"]
    assert main([*command, "--batch-size", "1", "--seconds", "0", "--out", str(out)]) == 0
    record, said = load(out), capsys.readouterr().out
    assert [row["bench"] for row in record["rows"]] == ["infer"] * 2 + ["infer time"] * 2
    assert "Classifying: f-R2D, 10 layers, 1 frame, batch 1" in said
    assert tables(record["machine"], record["rows"]) in said
    assert record["command"].startswith("r21d") and record["date"]
    measured = record["machine"]
    assert measured["matrix_tflops"]["fp32"] > 0 and measured["copy_tb_per_s"] > 0
    assert measured["packages"]["torch"] and measured["cores"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train --variants R2+1D", "did you mean R(2+1)D?"),
        ("train --device abacus", "device 'abacus': not usable here"),
        ("infer --frames 0", "frames = 0, expected 1 or more"),
        ("train --depth 50", "depth 50: expected one of 10, 18, 34"),
        ("infer --batch-size 0", "batch_size = 0, expected 1 or more"),
        ("evaluate --manifest gone.csv", "gone.csv: no such file"),
        ("train --out table.txt", "table.txt: expected the name of a file that ends in .json"),
    ],
)
def test_command_error_is_one_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.run.machine", lambda *_: pytest.fail("measured before it was refused"))
    assert main(["bench", "--device", "cpu", *arguments.split()]) == 1
    said = capsys.readouterr().err
    assert said.startswith("r21d: ") and says in said and "Traceback" not in said


@pytest.mark.parametrize("arguments", [[], ["speed"], ["train", "--frames", "many"]])
def test_command_refuses_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert "usage: r21d bench" in capsys.readouterr().err


# --- Kinds of kernels


KERNELS = {
    "conv forward": [
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_cudnn",
        "volta_scudnn_128x64_relu_interior_nn_v1", "aten::mkldnn_convolution",
    ],
    "conv dgrad": ["sm80_xmma_dgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_cudnn"],
    "conv wgrad": [
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816wgrad_optimized_bf16_128x128>",
        "void wgrad2d_grouped_direct_kernel<__half, float>",
    ],
    "BN and ReLU": [
        "void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>",
        "void cudnn::batchnorm_bwtr_nhwc_semiPersist<__nv_bfloat16>",
        "void at::native::batch_norm_collect_statistics_channels_last_kernel<at::native::Var>",
        "triton_red_fused__native_batch_norm_legit_functional__to_copy_convolution_3", "bn_relu_backward_kernel",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>>",
        "void at::native::vectorized_elementwise_kernel<4, at::native::launch_clamp_scalar>",
        "aten::native_batch_norm_backward", "aten::threshold_backward",
    ],
    "copies": [
        "void cudnn::ops::nchwToNhwcKernel<__half, __half, float>",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>",
        "cudnn::cnn::convertTensor_kernel", "Memcpy DtoD (Device -> Device)", "_store_line",
    ],
    "other": [
        "void cask__5x_cudnn::computeOffsetsKernel",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps>>",
    ],
    "optimiser": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<BinaryOpListAlphaFunctor>",
        "Optimizer.step#SGD.step", "aten::_foreach_add_",
    ],
    "matmul": [
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>", "aten::addmm",
    ],
    "conv backward": ["aten::convolution_backward"],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "names"), KERNELS.items(), ids=KERNELS)
def test_kernel_kind_follows_the_name(kind, names):
    assert {name: kernel_kind(name) for name in names} == dict.fromkeys(names, kind)


@pytest.mark.parametrize(("file", "kinds"), [("bn", {"BN and ReLU"}), ("pair", {"BN in convolutions", "conv forward"})])
def test_own_kernels_count_as_what_they_replace(file, kinds):
    tree = ast.parse((ROOT / "r21d_core" / "models" / f"{file}_kernels.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert {kernel_kind(name) for name in names} == kinds


def test_time_breakdown_sums_to_one():
    _, step = training_step(baselines(TINY, CPU)[-1], TINY, CPU)
    clips, target = synthetic_batch(TINY, CPU)
    shares = dict(time_breakdown(lambda: step(clips, target), CPU))
    assert sum(shares.values()) == pytest.approx(1)
    assert {"conv forward", "conv backward", "BN and ReLU", "optimiser"} <= set(shares)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_benchmarks_run_on_a_gpu():
    gpu = torch.device("cuda")
    assert set(machine(gpu, seconds=0)["matrix_tflops"]) == {"bf16", "fp16"}
    for bench in (bench_train, bench_infer):
        rows = bench(FULL.replace(precision="bf16"), gpu, seconds=0, compiled=False)
        assert [row["precision"] for row in rows] == ["fp16", "bf16", "bf16", "bf16"] * 2
        assert all(row["clips_per_second"] > 0 and row["peak_gib"] > 0 for row in rows[:4])
        assert all(len(row) > 8 for row in rows[4:]), "several kinds of kernels"
    assert len(bench_memory(TINY.replace(precision="bf16"), gpu, seconds=0)) == 3
