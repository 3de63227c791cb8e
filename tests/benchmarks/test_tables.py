"""The tables of the benchmarks show the records' rows."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.tables import add_ratios, draw_tables, format_record, load, redraw_readme, tables
from r21d_core import R21DError

ROOT = Path(__file__).parents[2]
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
        if row["bench"].endswith(" time"):
            assert sum(value for value in row.values() if isinstance(value, float)) == pytest.approx(1)
    for row in add_ratios(record["machine"], record["rows"]):
        assert 0 < row.get("of_matrix_rate", 0.5) < 1 and 0 < row.get("of_bandwidth", 0.5) < 1
