"""`r21d runs`: every run of a folder or pack in one table."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from r21d_core.cli import main
from r21d_core.runs.run import find_run, lock, write_history, write_scores, write_summary
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import clip_length, variant_comparison
from r21d_core.study.variants import NETWORKS

PACK = Path(__file__).parents[3] / "results" / "demo.zip"


@pytest.fixture
def runs(tmp_path):
    """A finished, an interrupted and a new run of `clip_length` with `epochs=3`; the last starts from the first."""
    specs = clip_length(epochs=3)
    finished, interrupted, child = (find_run(tmp_path, spec) for spec in (specs[0], specs[1], specs[-1]))
    for run in (finished, interrupted, child):
        run.folder.mkdir()
        run.write("spec.json", run.spec.to_json())
    write_history(interrupted, [{"epoch": 1, "train_loss": 1.0}])
    logits = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]][:, None]
    names = np.array(list("abcd"))
    write_scores(finished, Scores(logits, np.array([0, 1, 0, 1]), names, names, ("x", "y"), {}))
    write_summary(finished, {})
    return finished, interrupted, child


def test_runs_are_listed_with_settings_and_state(runs, tmp_path, capsys):
    """Shared settings stand once on top, the others above their runs; what a run starts from is behind its folder."""
    finished, interrupted, child = runs
    with lock(child):
        assert main(["runs", str(tmp_path)]) == 0
    first, second, third, _ = capsys.readouterr().out.split("\n\n")
    title, _, row = first.splitlines()
    assert title == "3 runs with data=builtin, profile=demo, task=action, epochs=3"
    assert "interrupted 1/3" in row and row.endswith(str(interrupted.folder))
    heading, row = second.splitlines()
    assert heading == "frames=12, lr=0.005, warmup_epochs=0, lr_decay_epochs=2" and "running 0/3" in row
    assert row.endswith(f"{child.folder} from {finished.folder.name}")
    heading, row = third.splitlines()
    assert heading == "frames=4" and "finished" in row and row.endswith(str(finished.folder))


def test_other_networks_have_no_settings_of_depth_and_width(tmp_path, capsys):
    """Which are not theirs; that of the demo's recipe is another one."""
    for spec in variant_comparison(variants=("R3D", "s3d", "mine:build"), epochs=3):
        (tmp_path / spec.folder).mkdir()
        find_run(tmp_path, spec).write("spec.json", spec.to_json())
    assert main(["runs", str(tmp_path)]) == 0
    title, *table = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert title == "3 runs with data=builtin, profile=demo, task=action, epochs=3"
    assert [row.split()[0] for row in table] == ["network", "R3D-10", "s3d", "mine:build"]


def test_accuracy_is_read_and_printed_only_if_asked_for(runs, tmp_path, capsys, monkeypatch):
    """The test results of a study that is not finished are not seen by who lists its runs."""
    assert main(["runs", str(tmp_path), "--accuracy"]) == 0
    printed = capsys.readouterr().out
    assert "  video@1  folder\n" in printed and printed.count("%") == printed.count(" 75.0%") == 1
    main(["runs", str(tmp_path), "--accuracy", "--json"])
    accuracies = {row["folder"]: row["video@1"] for row in json.loads(capsys.readouterr().out)}
    assert accuracies == dict(zip([str(run.folder) for run in runs], (0.75, None, None), strict=True))
    monkeypatch.setattr("r21d_core.runs.run.Run.scores", property(lambda run: pytest.fail("scores were read")))
    for form in ([], ["--json"]):
        assert main(["runs", str(tmp_path), *form]) == 0
        printed = capsys.readouterr().out
        assert "%" not in printed and "video@1" not in printed and "finished" in printed


def test_json_has_the_settings_as_set_takes_them(runs, tmp_path, capsys):
    assert main(["runs", str(tmp_path), "--json"]) == 0
    rows = {row["folder"]: row for row in json.loads(capsys.readouterr().out)}
    row = rows[str(runs[0].folder)]
    assert row["settings"] == {"frames": 4, "epochs": 3} and row["state"] == "finished"
    assert clip_length(epochs=3)[0] == runs[0].spec.replace(**row["settings"])


def test_folder_that_train_does_not_find_is_pointed_out(tmp_path, monkeypatch, capsys):
    """Of a run by letters that got a name later, which is part of the hash."""
    run = find_run(tmp_path, variant_comparison(variants=["pnhhh"])[0])
    run.folder.mkdir()
    run.write("spec.json", run.spec.to_json())
    main(["runs", str(tmp_path)])
    assert "expects" not in capsys.readouterr().out
    monkeypatch.setitem(NETWORKS, "Mine", "pnhhh")  # added last, so that the order is as before afterwards
    spec = variant_comparison(variants=["Mine"])[0]
    assert main(["runs", str(tmp_path)]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row.startswith("Mine-10") and row.endswith(f"{run.folder}, which train expects as {spec.folder}")


def test_pack_is_listed_by_data(capsys):
    assert main(["runs", str(PACK), "--data", "builtin-target-split2"]) == 0
    title, columns, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{sum(str(PACK) in line for line in lines)} runs with data=builtin-target-split2, profile")
    assert columns.split() == ["network", "seed", "state", "folder"] and "data=" not in "".join(lines)


def test_committed_runs_fit_a_terminal(capsys, monkeypatch):
    """A hundred and twenty columns, from the top of the checkout."""
    monkeypatch.chdir(PACK.parents[1])
    for pack in sorted(Path("results").glob("*.zip")):
        assert main(["runs", str(pack)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 120 and f"{sum(f'{pack}/' in line for line in lines)} runs" in lines[0]
        headings = [line for before, line in pairwise(lines) if not before]
        assert len(headings) == len({*headings}), "a group for each settings"


def test_damaged_run_does_not_hide_the_others(runs, tmp_path, capsys):
    (runs[1].folder / "spec.json").write_text("{")
    assert main(["runs", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert f"{runs[1].folder / 'spec.json'}: half written" in output.err and "finished" in output.out


@pytest.mark.parametrize("name", ["nosuch", "nosuch.zip", "text"])
def test_missing_folder_or_pack_does_not_hide_the_others(runs, tmp_path, capsys, name):
    (tmp_path / "text").touch()
    assert main(["runs", str(tmp_path / name), str(tmp_path)]) == 1
    printed = capsys.readouterr()
    what = {"text": "a file, but not a pack", "nosuch.zip": "no such pack"}.get(name, "no such folder or pack")
    assert f"{name}: {what}" in printed.err and printed.err.count("\n") == 1 and "finished" in printed.out


@pytest.mark.parametrize("denied", ["folder", "run", "spec.json", ".lock"])
def test_unreadable_path_is_named_and_does_not_hide_the_others(runs, tmp_path, capsys, monkeypatch, denied):
    """Root reads everything, so the system's refusal is imitated: of a folder's list, of a run's files, of one file."""
    other = tmp_path / "other"
    other.mkdir()
    (runs[1].folder / ".lock").touch()
    path = {"folder": other, "run": runs[1].folder}.get(denied, runs[1].folder / denied)
    protected = {"folder": "iterdir", "run": "stat read_text", "spec.json": "read_text", ".lock": "open"}[denied]

    def refuse(method):
        def refusing(self, *args, **options):
            if self == path or (denied == "run" and path in self.parents):
                raise PermissionError(13, "Permission denied", str(self))
            return method(self, *args, **options)

        return refusing

    for name in protected.split():
        monkeypatch.setattr(Path, name, refuse(getattr(Path, name)))
    assert main(["runs", str(other), str(tmp_path)]) == 1
    monkeypatch.undo()
    printed, named = capsys.readouterr(), path / "spec.json" if denied == "run" else path
    assert printed.err == f"r21d: {named}: cannot be read (Permission denied); change its permissions\n"
    assert "finished" in printed.out


def test_folder_without_runs_says_so(tmp_path, capsys):
    assert main(["runs", str(tmp_path), "--data", "ucf101"]) == 0
    assert capsys.readouterr().out == f"no runs of ucf101 in {tmp_path}\n"
