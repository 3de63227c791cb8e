"""The command line says what it did, and what was wrong in a line without a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from r21d_core.__main__ import main
from r21d_core.data.dataset_cards import load_published_dataset
from r21d_core.data.manifest import load_manifest
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import EXPERIMENTS, TABLE_2, variant_comparison
from tests.listings import touch, ucf

TINY = [
    "--set", "width=2", "--set", "frames=4", "--set", "frame_height=18", "--set", "frame_width=24", "--set", "crop=16",
    "--set", "epochs=1", "--set", "clips_per_epoch=8", "--device", "cpu",
]  # fmt: skip


def r21d(*arguments):
    return subprocess.run([sys.executable, "-m", "r21d_core", *arguments], capture_output=True, text=True)


def test_variants_as_json():
    result = r21d("variants", "--depth", "18", "--frames", "8", "--classes", "400", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert tuple(rows) == TABLE_2
    assert rows["R(2+1)D"] == {
        "name": "R(2+1)D",
        "parameters": 33_370_839,
        "conv_fc_weights": 33_344_679,
        "macs": rows["R(2+1)D"]["macs"],
        "final_shape": [512, 1, 7, 7],
    }
    assert round(rows["R(2+1)D"]["macs"] / 1e9, 3) == 20.748


def test_variants_as_a_table(capsys):
    assert main(["variants", "--depth", "34", "--frames", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 14 and lines[0].startswith("34 layers") and "63,697,175" in lines[-1] and "152.356" in lines[-1]
    )


def test_variants_and_help_import_no_torch():
    code = (
        "import sys; from r21d_core.__main__ import main; main(['variants', '--json']);"
        "sys.exit('torch' in sys.modules or 'av' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_help_of_training_tells_the_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"default {value}" in said for value in ("demo", "runs", "auto"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["variants", "--depth", "12"], "depth 12: expected one of 10, 18, 34"),
        (["train", "variant_comparison", "--manifest", "gone.csv"], "gone.csv: no such file"),
        (["train", "variant_comparison", "--set", "epoch=3"], "no key 'epoch'; did you mean epochs?"),
        (["train", "variant_comparison", "--set", "lr=fast"], "lr = 'fast', expected a number"),
        (["train", "variant_comparison", "--set", "seed=3"], "has an option of its own, --seeds"),
        (["train", "variant_comparison", "--index", "99", "--list"], "--index 99: there are 12 runs, from 0 on"),
        (["train", "clip_length", "--set", "frames=16", "--list"], "clip_length sets frames itself, to 4, 8, 12"),
        (["check", "gone.csv"], "gone.csv: no such file"),
        (["manifest", "folder", "gone"], "gone"),
        (["manifest", "ucf101", "gone", "--split", "4"], "split 4"),
        (["manifest", "hmdb51", "gone", "--split", "1,2", "--out", "one.csv"], "one.csv: is one file, and 2 splits"),
        (["manifest", "kinetics", "gone"], "gone"),
        (["manifest", "sports1m", "gone"], "gone"),
    ],
)
def test_what_was_wrong_in_a_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("r21d: ") and says in said and "Traceback" not in said


def test_an_experiment_that_sets_what_was_set_is_left_out_of_all(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "all", "--set", "frames=16", "--list"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("left out: clip_length sets frames itself, to 4, 8, 12; leave it out of --set")
    assert "12 frames" not in said and said.count("16 frames") > 12


def test_manifests_of_three_splits_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "UCF-101", *ucf(*load_published_dataset("ucf101").subsets["7a"], clips=3))
    assert main(["manifest", "ucf101", "UCF-101", "--split", "1,2,3", "--subset", "7a"]) == 0
    said = capsys.readouterr().out
    for split in (1, 2, 3):
        path = Path("data") / f"ucf101-7a-split{split}.csv"
        assert said.count("listed 889, on disk 525, missing 364\n") == 3
        assert f"{path}: 525 videos of 7 classes (378 train, 147 test); next: r21d check {path}" in said
        tested = {video.group[-2:] for video in load_manifest(path).split("test")}
        assert tested == {f"{group:02d}" for group in range(7 * split - 6, 7 * split + 1)}


def test_train_plans_then_trains_and_says_where(tiny_manifest, tmp_path, capsys):
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", "f-R2D,R3D",
               "--seeds", "0,1", "--runs", str(tmp_path), *TINY]  # fmt: skip
    assert main([*command, "--dry-run"]) == 0
    assert "4 runs: 0 done, 0 begun, 4 new" in capsys.readouterr().out
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "4 runs done" in said
    settings = {
        "width": 2,
        "frames": 4,
        "frame_height": 18,
        "frame_width": 24,
        "crop": 16,
        "epochs": 1,
        "clips_per_epoch": 8,
    }
    for spec in variant_comparison("demo", "tiny", variants=("f-R2D", "R3D"), seeds=(0, 1), **settings):
        assert find_run(tmp_path, spec).is_complete and spec.folder in said
    assert main(command) == 0
    assert "new" not in capsys.readouterr().out


def test_list_shows_the_runs_that_only_takes(tmp_path, capsys):
    assert main(["train", "clip_length", "--runs", str(tmp_path), "--index", "2,3", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "3"]


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("nope.pth", "nope.pth: neither a file"),
        ("r2plus1d_18", "`r21d weights r2plus1d_18 --download` fetches it"),
        ("runs/nope", "runs/nope: neither a file or run folder here"),
        (".", "checkpoint.pt: not there"),
    ],
)
def test_start_that_is_not_there_has_no_plan(start, says, tiny_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", "R(2+1)D", *TINY]
    assert main([*command, "--set", f"init_from={start}", "--dry-run"]) == 1
    said = capsys.readouterr()
    assert says in said.err and not said.out


def test_variant_that_is_none_of_the_twelve(tiny_manifest, tmp_path, capsys):
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", "R2+1D"]
    assert main([*command, "--runs", str(tmp_path), *TINY]) == 1
    assert "did you mean R(2+1)D?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runs", "more", "says"),
    [
        ("file", ["--list"], "file: is a file, expected a folder for runs"),
        ("file", ["--dry-run"], "file: is a file, expected a folder for runs"),
        ("file/runs", [], "file/runs: no folder can be made here (Not a directory); name another"),
    ],
)
def test_folder_of_runs_that_cannot_be(runs, more, says, tiny_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", "R2D,R3D", *TINY]
    assert main([*command, "--runs", runs, *more]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"r21d: {says}") and len(said.splitlines()) == 1


def test_report_of_a_folder_of_runs_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["report", "--runs", str(tmp_path / "file")]) == 1
    assert "file/reports: no folder can be made here (Not a directory)" in capsys.readouterr().err


def test_device_that_is_not_there(tiny_manifest, tmp_path, capsys):
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--runs", str(tmp_path)]
    assert main([*command, *TINY, "--device", "gpu"]) == 1
    assert capsys.readouterr().err == "r21d: device 'gpu': not usable here (no such kind); try auto, cpu or cuda\n"


def test_all_plans_every_experiment_and_shared_runs_once(tiny_manifest, tmp_path, capsys):
    command = [
        "train",
        "all",
        "--manifest",
        str(tiny_manifest),
        "--runs",
        str(tmp_path),
        "--device",
        "cpu",
        "--dry-run",
    ]
    assert main([*command, "--set", "width=1", "--set", "crop=16"]) == 0
    several = {"kinetics", "recipe_trials", "transfer"}
    makes = [make for name, make in EXPERIMENTS.items() if name not in several]
    specs = [spec for make in makes for spec in make("demo", "tiny", width=1, crop=16)]
    out = capsys.readouterr().out
    assert f"{len(set(specs))} runs: 0 done" in out and len(set(specs)) < len(specs)
    assert "kinetics is left out: there is no sports1m.csv beside" in out
    assert "recipe_trials is left out: there is no tiny-val.csv beside" in out
    assert "transfer is left out: there is no kinetics-400.csv beside" in out
