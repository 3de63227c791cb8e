"""docs/results.md is what the records say, and a table of it agrees with an independent computation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from r21d_analysis.results_page import build_results
from r21d_core import R21DError
from r21d_core.runs.run import load_runs
from r21d_core.study.experiments import TABLE_2

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "results.md").read_text()
README = (ROOT / "README.md").read_text()


def read_table(title, first="network"):
    """The rows of the first table below `title`, dicts by header."""
    lines = TEXT.split(f"\n## {title}\n")[1].split(f"| {first} |")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip([first, *cells[0]], row, strict=True)) for row in cells[2:]]


def test_committed_page_is_what_the_function_writes():
    assert build_results(ROOT) == TEXT, "write docs/results.md again by `r21d report`"


def test_missing_record_is_named(tmp_path):
    for name in ("data_manifests", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "results").unlink()
    with pytest.raises(R21DError, match=r"results/small\.zip: expected finished runs .*; train and pack them"):
        build_results(tmp_path)


@pytest.mark.parametrize(
    ("title", "task", "frames", "stride"),
    [
        *(
            (f"Table 2, {frames} frames at stride {stride}", "action", frames, stride)
            for frames in (8, 16)
            for stride in (1, 2)
        ),
        ("Playback rate", "speed", 8, 1),
    ],
)
def test_variant_tables_are_means_of_softmax_over_clips(title, task, frames, stride):
    """video@1 computed here from the logits, without the package's metrics."""
    rows, accuracies = read_table(title), {}
    for run in load_runs(ROOT / "results" / "small.zip"):
        s = run.spec
        key = (s.data, s.task, s.frames, s.frame_stride, s.epochs, s.depth, s.modality, s.init_from, s.eval_clips)
        if key == ("ucf101-14-split1", task, frames, stride, 18, 18, "rgb", "", 10):
            logits = np.asarray(run.scores.logits, np.float64)
            p = np.exp(logits - logits.max(axis=2, keepdims=True))
            right = (p / p.sum(axis=2, keepdims=True)).mean(axis=1).argmax(axis=1) == run.scores.labels
            accuracies.setdefault(s.variant, []).append(100 * right.mean())
    assert [row["network"] for row in rows] == list(TABLE_2)
    for row in rows:
        seeds = accuracies[row["network"]]
        assert row["video@1"] == f"{np.mean(seeds):.1f}" and len(seeds) == 3
        assert row["seeds"] == f"3 ({min(seeds):.1f} to {max(seeds):.1f})"


def test_readme_answers_are_numbers_of_the_page():
    rows = [line.split("|")[4] for line in README.splitlines() if re.match(r"\| .*\.ipynb", line)]
    numbers = [number for row in rows for number in re.findall(r"\d+\.\d", row)]
    assert len(rows) == 14 and len(numbers) > 15
    assert [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", TEXT)] == []


def test_readme_speed_is_that_of_the_benchmarks():
    line = re.compile(r"^\| (R\(2\+1\)D|R3D|MC3) \| ([\d,]+) \| ([\d.]+) \| ([\d,]+) \| ([\d.]+) \|$", re.M)
    wanted = {}
    for file in ("h100-r21d.json", "h100-r3d-mc3.json"):
        rows = json.loads((ROOT / "benchmarks" / "records" / file).read_text())["rows"]
        speeds = {(row["variant"], row["bench"], row["what"]): row.get("clips_per_second") for row in rows}
        for (variant, bench, what), clips in speeds.items():
            if what == "ours, as the engine runs it" and clips:
                ratio = clips / speeds[variant, bench, "torchvision, its recipe"]
                wanted.setdefault(variant, []).extend([f"{clips:,.0f}", f"{ratio:.2f}"])
    assert {name: cells for name, *cells in line.findall(README)} == wanted
    one, two = json.loads((ROOT / "benchmarks" / "records" / "h100-scaling.json").read_text())["rows"]
    ratio = f"{two['clips_per_second'] / one['clips_per_second']:.2f}"
    assert f"{ratio} times" in (ROOT / "docs" / "clusters.md").read_text()


def test_readme_is_short():
    assert len(README.encode()) <= 9000
