"""The benchmarks run with every implementation, and the tables show the records' rows; speeds are not checked."""

import ast
import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import baselines as baselines_module
from benchmarks.baselines import CLASSES, Baseline, baselines, inference_step, training_step
from benchmarks.loading import bench_evaluate, bench_memory, bench_stream
from benchmarks.profiler import kernel_kind, time_breakdown
from benchmarks.scaling import bench_scaling
from benchmarks.steps import bench_infer, bench_train, count_work, machine, synthetic_batch, time_interleaved
from benchmarks.tables import add_ratios, draw_tables, format_record, load, redraw_readme, tables
from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest
from r21d_core.engine.build import build_model
from r21d_core.models.cost import spec_cost
from r21d_core.study.spec import Spec

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = Spec(depth=10, width=8, frames=2, batch_size=2, frame_height=18, frame_width=24, crop=16, clips_per_epoch=8)
FULL = Spec(variant="MC3", frames=2, batch_size=2, crop=16)  # torchvision's networks come in one size
MACHINE = {
    "device": "A GPU", "cores": 16, "cuda": "13.0", "packages": {"torch": "2.11.0"},
    "matrix_tflops": {"bf16": 800.0, "fp16": 640.0}, "copy_tb_per_s": 4.0,
}  # fmt: skip
SETTING = {"bench": "train", "variant": "R3D", "frames": 16, "batch": 32}
ROWS = [
    SETTING | {"what": "theirs", "precision": "fp16", "clips_per_second": 200.0, "slowest": 190.0, "fastest": 201.0,
               "gmac": 40.8, "tflops": 64.0, "tb_per_s": 0.4},
    SETTING | {"what": "ours", "precision": "bf16", "clips_per_second": 500.0, "slowest": 498.0, "fastest": 1501.0,
               "gmac": 40.8, "tflops": 200.0, "tb_per_s": 1.0, "peak_gib": 12.345},
    SETTING | {"what": "compiled", "precision": "bf16", "failed": "no compiler"},
    SETTING | {"bench": "train time", "what": "ours", "precision": "bf16", "conv forward": 0.25, "other": 0.75},
]  # fmt: skip
RECORD = {"machine": MACHINE, "date": "2026-01-02", "command": "r21d bench train", "rows": ROWS}


# --- The tables


def test_rows_have_ratios_and_fractions_of_peak_rates():
    theirs, ours, compiled = add_ratios(MACHINE, ROWS[:3])
    assert (theirs["ratio"], ours["ratio"]) == (1.0, 2.5)
    assert (theirs["of_matrix_rate"], ours["of_matrix_rate"]) == (0.1, 0.25)  # each of its own precision
    assert (theirs["of_bandwidth"], ours["of_bandwidth"]) == (0.1, 0.25)
    assert compiled == ROWS[2] and add_ratios(MACHINE, [ROWS[2]]) == [ROWS[2]], "a failed row has no ratio"
    assert "compiled did not run: no compiler" in tables(MACHINE, [ROWS[2]])


def test_reference_row_is_the_one_marked():
    rows = [{"bench": "evaluate", "what": what, "clips_per_second": rate} for what, rate in (("1", 5.0), ("10", 20.0))]
    assert [row["ratio"] for row in add_ratios(MACHINE, rows)] == [1.0, 4.0]
    rows[1]["reference"] = True
    assert [row["ratio"] for row in add_ratios(MACHINE, rows)] == [0.25, 1.0]


def test_each_setting_has_a_table_with_aligned_columns():
    wide, narrow = (ROWS[1] | {"frames": frames} for frames in (16, 8))
    text = tables(MACHINE, [*ROWS, narrow, wide])
    assert [block.split("\n")[0] for block in text.split("\n\n")] == [
        "Training: R3D, 16 frames, batch 32",
        "Where a training step's time goes: R3D, 16 frames, batch 32",
        "Training: R3D, 8 frames, batch 32",
    ]
    head, theirs, ours = text.split("\n")[1:4]
    for header, cells in {
        "clips/s": ("200", "500"), "of rounds": ("190–201", "498–1,501"), "ratio": ("1.00", "2.50"),
        "GMAC": ("40.8", "40.8"), "TFLOP/s": ("64.0", "200"), "of matrix": ("10.0%", "25.0%"),
        "of bandwidth": ("10.0%", "25.0%"), "GiB": ("", "12.3"),
    }.items():  # fmt: skip
        end = head.index(header) + len(header)
        for line, cell in zip((theirs, ours), cells, strict=True):
            assert line.ljust(end)[:end].split("  ")[-1].strip() == cell, (header, line)
    assert "slowest" not in text and "25.0%  75.0%" in re.sub(" {2,}", "  ", text)


def test_columns_of_one_bench_are_shown():
    text = tables(MACHINE, [{"bench": "decode", "what": "ours", "frames": 8, "clips_per_second": 91.25, "workers": 4}])
    assert re.findall(r"\S+", text) == [
        "Decoding:", "8", "frames", "clips/s", "ratio", "workers", "ours", "91.2", "1.00", "4",
    ]  # fmt: skip


def test_record_text_has_machine_and_command():
    assert format_record(RECORD).startswith(
        "A GPU, 16 cores, PyTorch 2.11.0, CUDA 13.0, 2026-01-02\n"
        "measured at most: bf16 products 800 TFLOP/s, fp16 products 640 TFLOP/s, copies 4.00 TB/s read and written\n"
        "r21d bench train\n"
    )
    assert tables(MACHINE, ROWS) in format_record(RECORD)


def test_readme_redrawn_twice_is_the_same(tmp_path):
    (tmp_path / "records").mkdir()
    with pytest.raises(R21DError, match=r"README\.md: no such file"):
        redraw_readme(tmp_path)
    (tmp_path / "records" / "gpu.json").write_text(json.dumps(RECORD))
    (tmp_path / "README.md").write_text("# Title\n<!-- gpu.json -->\nold\n<!-- end -->\nafter\n")
    text = redraw_readme(tmp_path).read_text()
    assert text.startswith("# Title\n<!-- gpu.json -->\n```text\nA GPU") and text.endswith("```\n<!-- end -->\nafter\n")
    assert format_record(RECORD) in text and "old" not in text
    assert draw_tables(text, tmp_path / "records") == text


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ("", "a.json: no place for it; add the two lines <!-- a.json --> and <!-- end -->"),
        ("<!-- a.json -->\n<!-- end --><!-- b.json -->\n<!-- end -->", "b.json: no record"),
    ],
)
def test_record_or_block_without_the_other_is_an_error(places, says, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RECORD))
    with pytest.raises(R21DError, match=says):
        draw_tables(places, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"), [("{", "not a record"), ('{"rows": []}', "command, date, machine missing")]
)
def test_damaged_record_is_named(content, says, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(R21DError, match=f"a.json: .*{says}"):
        load(tmp_path / "a.json")


def test_committed_tables_match_the_records():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert draw_tables(text, ROOT / "benchmarks" / "records") == text, "r21d bench tables"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "records").glob("*.json")), ids=lambda path: path.name)
def test_committed_record_is_complete(path):
    record = load(path)
    assert {"device", "cores", "packages", "commit", "matrix_tflops", "copy_tb_per_s"} <= set(record["machine"])
    for row in record["rows"]:
        assert {"bench", "what"} <= set(row) and all(isinstance(value, str | int | float) for value in row.values())
        if "slowest" in row:
            assert row["slowest"] <= row["clips_per_second"] <= row["fastest"]
    shares = [row for row in record["rows"] if row["bench"].endswith(" time")]
    for row in shares:
        assert sum(value for value in row.values() if isinstance(value, float)) == pytest.approx(1)
    for row in add_ratios(record["machine"], record["rows"]):
        assert 0 < row.get("of_matrix_rate", 0.5) < 1 and 0 < row.get("of_bandwidth", 0.5) < 1


# --- Kinds of kernels


KERNELS = {
    "conv forward": [
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_cudnn",
        "volta_scudnn_128x64_relu_interior_nn_v1", "aten::mkldnn_convolution",
    ],
    "conv dgrad": [
        "sm80_xmma_dgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_cudnn",
    ],
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
        "cudnn::cnn::convertTensor_kernel", "Memcpy DtoD (Device -> Device)",
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
    "conv backward": [
        "aten::convolution_backward",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "names"), KERNELS.items(), ids=KERNELS)
def test_kernel_kind_follows_the_name(kind, names):
    assert {name: kernel_kind(name) for name in names} == dict.fromkeys(names, kind)


def test_own_kernels_count_as_batch_norm():
    tree = ast.parse((ROOT / "r21d_core" / "models" / "bn_kernels.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert len(names) == 6
    assert {kernel_kind(name) for name in names} == {"BN and ReLU"}


def test_time_breakdown_sums_to_one():
    _, step = training_step(baselines(TINY, CPU)[-1], TINY, CPU)
    clips, target = synthetic_batch(TINY, CPU)
    shares = dict(time_breakdown(lambda: step(clips, target), CPU))
    assert sum(shares.values()) == pytest.approx(1)
    assert {"conv forward", "conv backward", "BN and ReLU", "optimiser"} <= set(shares)


# --- What is measured


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
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    for bench, run in (("train", bench_train), ("infer", bench_infer)):
        rows = run(FULL, CPU, seconds=0)
        names = [baseline.name for baseline in baselines(FULL, CPU)]
        assert [(row["bench"], row["what"]) for row in rows] == [
            (kind, name) for kind in (bench, f"{bench} time") for name in names
        ]
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


def test_machine_rates_are_measured():
    record = machine(CPU, seconds=0)
    assert record["matrix_tflops"]["fp32"] > 0 and record["copy_tb_per_s"] > 0 and record["packages"]["torch"]


def test_bench_memory_has_a_row_per_source():
    rows = bench_memory(TINY, CPU, seconds=0)
    assert [row["what"].split(",")[0] for row in rows] == ["one batch over and over", "sampled", "sampled"]
    assert all(row["clips_per_second"] > 0 for row in rows)


def test_bench_stream_has_a_row_per_source(tiny_manifest):
    manifest = load_manifest(tiny_manifest)
    rows = bench_stream(TINY, manifest, CPU, workers=0, seconds=0)
    assert [row["what"] for row in rows] == ["one batch over and over", "streamed by 0 workers"]
    assert {row["data"] for row in rows} == {"tiny"}


def test_bench_evaluate_has_a_row_per_clip_count(tiny_manifest):
    rows = bench_evaluate(TINY, load_manifest(tiny_manifest), CPU, workers=0, seconds=0)
    assert [(row["what"], row["videos"]) for row in rows] == [
        ("1 clip of 1 video", 1), ("10 clips a video", 1), ("100 clips a video", 1),
    ]  # fmt: skip
    assert add_ratios(MACHINE, rows)[1]["ratio"] == 1
    assert rows[2]["clips_per_second"] == pytest.approx(100 / rows[2]["seconds"])


# --- The command


@pytest.mark.slow
def test_scaling_compares_one_and_two_processes():
    spec = Spec(depth=10, width=4, frames=2, crop=16, batch_size=2, variant="R3D")
    one, two = bench_scaling(spec, torch.device("cpu"), seconds=0.1)
    assert (one["what"], two["what"]) == ("1 process", "2 processes")
    for row in (one, two):
        assert 0 < row["slowest"] <= row["clips_per_second"] <= row["fastest"]


def test_scaling_needs_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    (row,) = bench_scaling(Spec(), torch.device("cuda"))
    assert row["failed"] == "needs two GPUs, found one"


def test_command_prints_tables_and_writes_the_record(tmp_path, capsys):
    out = tmp_path / "kept" / "here.json"
    command = ["bench", "infer", "--device", "cpu", "--variants", "f-R2D", "--depth", "10", "--frames", "1"]
    assert main([*command, "--batch-size", "1", "--seconds", "0", "--out", str(out)]) == 0
    record, said = load(out), capsys.readouterr().out
    assert [row["bench"] for row in record["rows"]] == ["infer"] * 2 + ["infer time"] * 2
    assert "Classifying: f-R2D, 10 layers, 1 frames, batch 1" in said
    assert tables(record["machine"], record["rows"]) in said
    assert record["machine"]["cores"] and record["command"].startswith("r21d") and record["date"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--variants", "R2+1D"], "did you mean R(2+1)D?"),
        (["train", "--device", "abacus"], "device 'abacus': not usable here"),
        (["infer", "--frames", "0"], "frames = 0, expected 1 or more"),
        (["train", "--depth", "50"], "depth 50: expected one of 10, 18, 34"),
        (["infer", "--batch-size", "0"], "batch_size = 0, expected 1 or more"),
        (["evaluate", "--manifest", "gone.csv"], "gone.csv: no such file"),
        (["train", "--out", "table.txt"], "table.txt: expected the name of a file that ends in .json"),
    ],
)
def test_command_error_is_one_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.run.machine", lambda *_: pytest.fail("measured before it was refused"))
    assert main(["bench", *arguments, *([] if "--device" in arguments else ["--device", "cpu"])]) == 1
    said = capsys.readouterr().err
    assert said.startswith("r21d: ") and says in said and "Traceback" not in said


@pytest.mark.parametrize("arguments", [[], ["speed"], ["train", "--frames", "many"]])
def test_command_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert "usage: r21d bench" in capsys.readouterr().err


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
