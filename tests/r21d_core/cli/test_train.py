import json
import shutil
from pathlib import Path

import pytest
import torch

from r21d_core.cli import main
from r21d_core.engine import throughput
from r21d_core.models.network import VideoResNet
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import EXPERIMENTS, variant_comparison

SETTINGS = {
    "width": 2, "frames": 4, "frame_height": 18, "frame_width": 24, "crop": 16, "epochs": 1, "clips_per_epoch": 8,
}  # fmt: skip
TINY = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")] + ["--device", "cpu"]


@pytest.fixture(autouse=True)
def one_network_is_timed(monkeypatch):
    monkeypatch.setattr(throughput, "PLAN_SECONDS", 0)


def test_help_of_train_has_defaults_and_experiments(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    stdout = " ".join(capsys.readouterr().out.split())
    assert all(f"default {value}" in stdout for value in ("demo", "runs", "auto"))
    assert all(f" {name}: {str(function.__doc__).splitlines()[0]}" in stdout for name, function in EXPERIMENTS.items())


def test_train_plans_trains_and_reports(tiny_manifest, tmp_path, capsys):
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", "f-R2D,R(2+1)D-0.5M",
               "--seeds", "0,10", "--runs", str(tmp_path), *TINY]  # fmt: skip
    assert main([*command, "--dry-run"]) == 0
    assert "4 runs: 4 new" in capsys.readouterr().out
    assert main(command) == 0
    stdout = capsys.readouterr().out
    assert "4 runs are finished" in stdout and stdout.count("% on 4 test recordings  ") == 4
    assert len({line.index("video@1") for line in stdout.splitlines() if "recordings  " in line}) == 1, "aligned"
    for spec in variant_comparison("demo", "tiny", variants=("f-R2D", "R(2+1)D-0.5M"), seeds=(0, 10), **SETTINGS):
        assert find_run(tmp_path, spec).is_complete and spec.folder in stdout
    assert main(command) == 0
    assert "new" not in capsys.readouterr().out


def test_dry_run_says_which_videos_are_missing(tiny_manifest, tmp_path, capsys):
    for suffix in (".csv", ".json"):
        shutil.copy(tiny_manifest.with_suffix(suffix), tmp_path)
    card = json.loads((tmp_path / "tiny.json").read_text())
    (tmp_path / "tiny.json").write_text(json.dumps(card | {"source": "Someone, 2012"}))
    (tmp_path / "videos" / "dark").mkdir(parents=True)
    command = ["train", "variant_comparison", "--manifest", str(tmp_path / "tiny.csv"), "--variants", "R3D,R2D", *TINY]
    for count, name in ((12, "nothing"), (11, "dark/v_g00.mp4")):
        (tmp_path / "videos" / name).touch()
        assert main([*command, "--dry-run"]) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "missing" in line)
        assert line.startswith(f"tiny: {count} of 12 videos are missing in {tmp_path / 'videos'}; put them there")
        assert line.endswith(f"{tmp_path / 'tiny.json'}; source: Someone, 2012")
    (tmp_path / "videos" / "dark" / "v_g00.mp4").unlink()
    assert main([*command, "--runs", str(tmp_path / "runs")]) == 1
    assert "nothing is trained; tiny: 12 of 12 videos are missing" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    command[3] = str(tiny_manifest)
    assert main([*command, "--dry-run"]) == 0 and "missing" not in capsys.readouterr().out


def test_runs_are_listed_and_selected_by_index(tiny_manifest, tmp_path, capsys):
    command = ["train", "clip_length", "--manifest", str(tiny_manifest), "--runs", str(tmp_path), "--device", "cpu"]
    assert main([*command, "--index", "2,3", "--list"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [["2", "new"], ["3", "new"]]
    assert main([*command, "--index", "2,3,4", "--dry-run"]) == 0
    rows = capsys.readouterr().out.splitlines()[3:6]
    assert [row[row.index("12 frames") : row.index(")  ")] for row in rows] == [
        "12 frames, 3 clips", "12 frames, 3 clips, tested", "12 frames, 3 clips, finetuned"
    ]  # fmt: skip
    assert main([*command, "--index", "5"]) == 1
    assert "--index 5: expected 0 to 4; --list has them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--runs file --list", "r21d: file: a file, but not a pack"),
        ("--runs file --dry-run", "r21d: file: a file, but not a pack"),
        ("--runs file/runs", "r21d: file/runs: no folder can be made here (Not a directory); name another"),
        ("--variants R2+1D", "r21d: variant 'R2+1D': did you mean R(2+1)D?"),
        ("--device gpu", "r21d: device 'gpu': not usable here (no such kind); try auto, cpu or cuda\n"),
        ("--dry-run --set init_from=nope.pth", "nope.pth: neither an existing file"),
        ("--dry-run --set init_from=r2plus1d_18", "run `r21d weights r2plus1d_18 --download`"),
        ("--dry-run --set init_from=runs/nope", "runs/nope: neither an existing file or run folder"),
        ("--dry-run --set init_from=.", "checkpoint.pt: no such file"),
    ],
)
def test_impossible_option_is_an_error_of_one_line(options, says, tiny_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", "R(2+1)D", *TINY]
    assert main([*command, *options.split()]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("r21d: ") and says in output.err and len(output.err.splitlines()) == 1
    assert not output.out or "--dry-run" not in options, "no plan"


def test_misfitting_weights_are_refused_before_measuring(tiny_manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "measure_runs", lambda *_: pytest.fail("was measured"))
    file, spec = tmp_path / "given.pth", variant_comparison("demo", **SETTINGS)[0]
    torch.save(VideoResNet("R(2+1)D", spec.depth, 2, num_classes=2, midplanes_per_block=True).state_dict(), file)
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--runs", str(tmp_path / "runs"), *TINY]
    for variants, words, says in (
        ("R(2+1)D", [], "set midplanes_per_block=True, or"),
        ("R(2+1)D", ["midplanes_per_block=true", "width=4"], "set width=2, or"),
        ("R(2+1)D", ["midplanes_per_block=true", "depth=34"], f"set depth={spec.depth}, or"),
        ("R3D", ["midplanes_per_block=true"], "set variant=R(2+1)D, midplanes_per_block=True, or"),
    ):
        settings = [word for setting in (f"init_from={file}", *words) for word in ("--set", setting)]
        assert main([*command, "--variants", variants, *settings, "--dry-run"]) == 1
        assert f"r21d: {file}: " in (error := capsys.readouterr().err) and says in error
    settings = ["--set", f"init_from={file}", "--set", "midplanes_per_block=true"]
    assert main([*command, "--variants", "R(2+1)D,R3D", *settings, "--dry-run"]) == 1
    assert "set variant=R(2+1)D, " in capsys.readouterr().err, "the second run is compared too"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("profile", ["paper", "small"])
def test_profile_without_its_manifest_is_not_listed(profile, tmp_path, monkeypatch, capsys):
    """The folders of runs on another data set have other names."""
    monkeypatch.chdir(tmp_path)
    for option in ("--list", "--dry-run"):
        assert main(["train", "variant_comparison", "--profile", profile, option]) == 1
        output = capsys.readouterr()
        assert f"r21d: profile {profile}: needs your own data set; give its checked manifest" in output.err
        assert not output.out


def test_all_skips_experiments_that_set_the_option(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "all", "--set", "frames=16", "--list"]) == 0
    stdout = capsys.readouterr().out
    assert stdout.startswith("skipped: clip_length sets frames itself, to 4, 8, 12; leave it out of --set")
    assert "12 frames" not in stdout and stdout.count("16 frames") > 12
    assert main(["train", "all", "--task", "speed", "--list"]) == 0
    skipped = [line for line in capsys.readouterr().out.splitlines() if line.startswith("skipped: ")]
    assert ["flow" in line for line in skipped] == [True, False, True, True], "kinetics, rate_pretraining and so on"


def test_all_plans_shared_runs_once(tiny_manifest, tmp_path, capsys):
    command = ["train", "all", "--manifest", str(tiny_manifest), "--runs", str(tmp_path), "--device", "cpu"]
    assert main([*command, "--dry-run", "--set", "width=1", "--set", "crop=16"]) == 0
    missing = {"kinetics": "sports1m.csv", "recipe_trials": "tiny-val.csv", "transfer": "kinetics-400.csv"}
    experiments = [experiment for name, experiment in EXPERIMENTS.items() if name not in missing]
    specs = [spec for experiment in experiments for spec in experiment("demo", "tiny", width=1, crop=16)]
    stdout = capsys.readouterr().out
    assert f"{len(set(specs))} runs: {len(set(specs))} new" in stdout and len(set(specs)) < len(specs)
    for name, file in missing.items():
        assert f"skipped: {name} needs {file} beside" in stdout
