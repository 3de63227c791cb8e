"""The records in results/ are whole, belong to their data, and are what the README says."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from r21d_analysis.artifacts.lengths import hours
from r21d_analysis.artifacts.networks import STREAMS, networks
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.bootstrap import compare, holm
from r21d_core.data.manifest import load_manifest
from r21d_core.engine.runner import find_runs
from r21d_core.runs.metrics import clip_at_1, video_at
from r21d_core.runs.run import find_run, load_runs
from r21d_core.study.experiments import TABLE_2, clip_length, sports1m, transfer, variant_comparison
from r21d_core.study.recipes import LONG_SCHEDULE, VAL_SUFFIX

ROOT = Path(__file__).parents[3]
PACKS = sorted((ROOT / "results").glob("*.zip"))
RUNS = [pytest.param(pack, run, id=run.folder.name) for pack in PACKS for run in load_runs(pack)]
DATA, SMALL = "ucf101-14-split1", ROOT / "results" / "small.zip"
FOUR = ("f-R2D", "R3D", "MC3", "R(2+1)D")
SEEDS = (0, 1, 2)


@pytest.mark.parametrize(("pack", "run"), RUNS)
def test_record_is_whole_and_in_its_own_folder(pack, run):
    spec = run.spec
    assert find_run(pack, spec).folder.name == run.folder.name and run.is_complete and len(run.history) == spec.epochs
    scores = run.scores
    assert scores.protocol["profile"] == spec.profile
    accuracies = {"clip@1": clip_at_1(scores), "video@1": video_at(scores, 1), "video@5": video_at(scores, 5)}
    assert run.summary["accuracies_before_quantization"] == accuracies
    diagnostic = spec.data == "builtin" and spec.profile == "small"
    study = "miracl" if spec.data.startswith("miracl") else "recipe" if spec.data.endswith(VAL_SUFFIX) else spec.profile
    assert pack.stem == ("diagnostic" if diagnostic else study)
    assert {path.name for path in run.folder.iterdir()} - {"trained_on.txt", "filters.npz", "attributions.npz"} == {
        "spec.json", "environment.json", "history.jsonl", "scores.npz", "summary.json",
    }  # fmt: skip


def test_packs_are_small():
    assert len(RUNS) == 378 and sum(pack.stat().st_size for pack in PACKS) < 15e6


@pytest.mark.parametrize("pack", [SMALL, SMALL.with_stem("miracl")], ids=lambda pack: pack.stem)
def test_records_are_of_the_manifests_beside_them(pack):
    opened = cache(load_manifest)
    for run in load_runs(pack):
        manifest = opened(ROOT / "data_manifests" / f"{run.spec.data}.csv")
        assert {side: len(manifest.split(side)) for side in manifest.card.expected} == manifest.card.expected
        assert run.environment["fingerprint"] == manifest.fingerprint


def test_demo_has_all_twelve_and_shows_motion_mattering():
    runs = find_runs(variant_comparison("demo"), ROOT / "results" / "demo.zip")
    assert [one.spec.variant for one in group_by_seed(runs)] == list(TABLE_2)


def readme_table(first):
    """The cells of each row of the README's table whose first header this is, by the header."""
    head, _, *lines = (ROOT / "README.md").read_text().split(f"| {first} |")[1].split("\n\n")[0].splitlines()
    names = [first, *(name.strip() for name in head.strip("|").split("|"))]
    cells = [[cell.strip() for cell in line[1:].rstrip("|").split("|")] for line in lines]
    return [dict(zip(names, [*row, ""][: len(names)], strict=True)) for row in cells]


def told(one, beside):
    """What a README's table may say of a network, under the header it says it by; `beside` is of the comparison."""
    difference, p = beside or (None, None)
    spread = "{:+.1f} ({:+.1f} to {:+.1f})".format(*difference[:3]) if difference else ""
    wrong = [100 * run.history[-1]["train_error"] for run in one.runs if run.history]
    return {
        "clip@1": f"{one.clip_at_1:.1f}",
        "video@1": f"{one.video_at(1):.1f}",
        "rate, video@1": f"{one.video_at(1):.1f}",
        "95 % interval": "{:.1f} to {:.1f}".format(*one.accuracy[1:3]),
        "seed range": "{:.1f} to {:.1f}".format(*one.seed_range),
        "difference to R(2+1)D": spread,
        "p, Holm": "" if p is None else f"{p:.3f}",
        "training error (%)": f"{sum(wrong) / len(wrong):.1f}" if wrong else "",
        "training clips/s": f"{one.mean('train_clips_per_second'):,.0f}" if wrong else "",
        "GPU seconds": f"{3600 * hours(one):.0f}",
    }


@pytest.mark.parametrize(
    ("first", "settings"),
    [
        ("network, 8 frames", {"frames": 8, "frame_stride": 1}),
        ("network, 8 frames at stride 2", {"frames": 8, "frame_stride": 2}),
        ("network, 16 frames", {"frames": 16, "frame_stride": 1}),
        ("network, 16 frames at stride 2", {"frames": 16, "frame_stride": 2}),
        ("network, playback rate", {"task": "speed"}),
    ],
)
def test_readme_says_of_the_twelve_what_the_records_say(first, settings):
    *others, last = group_by_seed(find_runs(variant_comparison("small", DATA, seeds=SEEDS, **settings), SMALL))
    add_ratios = [compare(one.scores, last.scores) for one in others]
    p = holm([estimate.p for estimate in add_ratios])
    rows = readme_table(first)
    assert [row[first] for row in rows] == list(TABLE_2)
    assert {len(one.runs) for one in (*others, last)} == {len(SEEDS)}
    for row, one, beside in zip(rows, [*others, last], [*zip(add_ratios, p, strict=True), None], strict=True):
        wanted = told(one, beside)
        assert {key: wanted[key] for key in row if key != first} == {key: row[key] for key in row if key != first}


def test_readme_says_of_clip_lengths_what_the_records_say():
    first = "R(2+1)D-18, frames"
    rows, networks = readme_table(first), group_by_seed(find_runs(clip_length("small", DATA, seeds=SEEDS), SMALL))
    assert [row[first] for row in rows] == [
        *("8", "16", "24", "32", "40", "48"), "8, tested at 32", "8, finetuned at 32",
    ]  # fmt: skip
    assert {len(one.runs) for one in networks} == {len(SEEDS)}
    for row, one in zip(rows, networks, strict=True):
        wanted = told(one, None)
        assert {key: wanted[key] for key in row if key != first} == {key: row[key] for key in row if key != first}


def test_readme_says_what_the_records_say():
    line = re.compile(r"^\| (\S+) \| ((?:[\d.]+(?: to [\d.]+)? \| ){6}\d+) \|$", re.M)
    rows = {variant: cells.split(" | ") for variant, cells in line.findall((ROOT / "README.md").read_text())}
    action, speed = (
        group_by_seed(
            find_runs(variant_comparison("small", DATA, task=task, variants=FOUR, seeds=(0, 1), **LONG_SCHEDULE), SMALL)
        )
        for task in ("action", "speed")
    )
    wanted = {}
    for one, other in zip(action, speed, strict=True):
        cells = [
            cell
            for each in (one, other)
            for cell in (
                f"{each.video_at(1):.1f}",
                *("{:.1f} to {:.1f}".format(*p) for p in (each.accuracy[1:3], each.seed_range)),
            )
        ]
        wanted[one.spec.variant] = [*cells, f"{one.mean('train_clips_per_second'):.0f}"]
    assert rows == wanted and len(rows) == 4


def test_readme_says_what_the_records_say_of_two_streams():
    line = re.compile(r"^\| (14 classes|`7b`), .* \| (\d) \| (from scratch|pretrained on `7a`) \| (.*) \|$", re.M)
    told = {
        (on, split, how): cells.split("|") for on, split, how, cells in line.findall((ROOT / "README.md").read_text())
    }
    first = sports1m("small", DATA, variants=("R(2+1)D",))
    second = transfer("small", "ucf101-7b-split1", source="ucf101-7a-split1")
    wanted = {}
    for on, specs in (("14 classes", first), ("`7b`", second)):
        for network in networks(find_runs(specs, SMALL))[0]:
            for split, one in network.splits.items():
                how = network.training.replace("ucf101-7a", "`7a`")
                cells = wanted.setdefault((on, split, how), [""] * len(STREAMS))
                low, high = one.accuracy[1:3]
                cells[STREAMS.index(network.stream)] = f"{one.video_at(1):.1f} ({low:.1f} to {high:.1f})"
    assert {key: [cell.strip() for cell in cells] for key, cells in told.items()} == wanted


def test_readme_says_what_the_benchmarks_say():
    line = re.compile(r"^\| (R\(2\+1\)D|R3D|MC3) \| ([\d,]+) \| ([\d.]+) \| ([\d,]*) ?\| ([\d.]*) ?\|$", re.M)
    told = {name: [cell for cell in cells if cell] for name, *cells in line.findall((ROOT / "README.md").read_text())}
    rate = {}
    for file in ("h100-r21d.json", "h100-r3d-mc3.json"):
        for row in json.loads((ROOT / "benchmarks" / "records" / file).read_text())["rows"]:
            rate[row["variant"], row["bench"], row["what"]] = row.get("clips_per_second")
    wanted = {}
    for (variant, bench, what), clips in rate.items():
        if what == "ours, as the engine runs it" and clips:
            ratio = clips / rate[variant, bench, "torchvision, its recipe"]
            wanted.setdefault(variant, []).extend([f"{clips:,.0f}", f"{ratio:.2f}"])
    assert told == wanted
