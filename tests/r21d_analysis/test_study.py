"""Parameters of notebooks: every form that papermill gives is read, and what is unknown is an error."""

import re
import shlex
from functools import partial

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from r21d_analysis.report import NOTEBOOKS
from r21d_analysis.study import check_parameters, find_alternatives, open_study, read_parameters, read_settings
from r21d_core import R21DError
from r21d_core.cli import build_parser
from r21d_core.cli.train import collect_specs
from r21d_core.data import synthetic
from r21d_core.data.manifest import load_manifest
from r21d_core.engine import runner, throughput
from r21d_core.engine.plan import plan
from r21d_core.runs.run import find_run, write_json
from r21d_core.study.experiments import (
    EXPERIMENTS,
    TABLE_2,
    clip_count,
    clip_length,
    kinetics,
    transfer,
    variant_comparison,
)
from tests.runs import finish


@pytest.mark.parametrize("seeds", ["0, 1", "0,1", [0, 1], ("0", "1")])
@pytest.mark.parametrize("variants", ["R3D, R(2+1)D", ["R3D", "R(2+1)D"]])
def test_lists_and_text_give_the_same_specs(seeds, variants, tmp_path):
    study = open_study("variant_comparison", variants=variants, seeds=seeds, runs=tmp_path)
    assert study.specs == variant_comparison(variants=("R3D", "R(2+1)D"), seeds=(0, 1))
    assert [run.spec for run in study.runs] == study.specs


def test_numbers_empty_text_and_all_are_read(tmp_path):
    specs = open_study("transfer", manifest="x/set-split1.csv", profile="small", splits=2, seeds=1, runs=tmp_path).specs
    assert specs == transfer("small", "set-split1", splits=(2,), seeds=(1,))
    assert open_study("clip_length", variants="", manifest=None, runs=tmp_path).specs == clip_length()
    assert [spec.variant for spec in open_study("variant_comparison", variants="all").specs] == list(TABLE_2)


@pytest.mark.parametrize("settings", [
    {"lr": 0.02, "frames": "8,16"}, '{"lr": 0.02, "frames": [8, 16]}', "lr: 0.02\nframes: [8, 16]",
    "lr=0.02,frames=8,16", " lr = 0.02, frames = 8,16",
])  # fmt: skip
def test_settings_are_a_dict_or_text(settings, tmp_path):
    specs = open_study("temporal_probe", profile="small", manifest="set.csv", settings=settings, runs=tmp_path).specs
    assert {spec.lr for spec in specs} == {0.02} and {spec.frames for spec in specs} == {8, 16}


def test_empty_settings_change_nothing():
    assert [read_settings(settings) for settings in ("", None, {}, "{}")] == [{}] * 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"experiment": "table_2"}, "experiment 'table_2': expected one of clip_count"),
        ({"train": "no"}, "parameter train = 'no': expected True or False"),
        ({"train": 1}, "parameter train = 1: expected True or False"),
        ({"gpus": "two"}, "parameter gpus = 'two': expected a whole number"),
        ({"gpus": 1.5}, "parameter gpus = 1.5: expected a whole number"),
        ({"max_hours": "long"}, "parameter max_hours = 'long': expected a number"),
        ({"max_hours": "nan"}, "parameter max_hours = 'nan': expected a number"),
        ({"seeds": "zero"}, "seed = 'zero', expected a whole number"),
        ({"settings": "fast"}, "parameter settings = 'fast': expected a dict, JSON or YAML text"),
        ({"settings": "{"}, "parameter settings = '{': expected a dict"),
        ({"settings": {1: 2}}, "expected a dict"),
        ({"settings": [1]}, "expected a dict"),
        ({"settings": {"seed": 1}}, "seed has a parameter of its own, seeds"),
        ({"settings": {"ephocs": 1}}, "did you mean epochs"),
        ({"profile": "large"}, "profile 'large': expected one of paper, small, demo"),
    ],
)
def test_unreadable_value_is_an_error(parameters, message, tmp_path):
    with pytest.raises(R21DError, match=message):
        open_study(**{"experiment": "variant_comparison", "runs": tmp_path} | parameters)


@pytest.mark.parametrize("train", [False, "False", "false"])
def test_false_as_text_trains_nothing(train, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run_experiment", lambda *_, **__: pytest.fail("trained"))
    assert not any(run.is_complete for run in open_study("clip_length", train=train, runs=tmp_path).runs)


@pytest.mark.parametrize("train", [True, "True", "true"])
def test_training_gets_the_options(train, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(runner, "run_experiment", lambda *arguments, **options: calls.append((arguments, options)))
    study = open_study("clip_length", train=train, runs=tmp_path, gpus="2", max_hours="inf", device="cpu", cache="host")
    options = {"device": "cpu", "cache": "host", "builtin": "../data", "max_hours": float("inf"), "gpus": 2}
    assert calls == [((study.specs, None, tmp_path), options)]


def test_missing_runs_are_printed_with_their_command(tmp_path, capsys):
    study = open_study(
        "kinetics", profile="small", manifest="../data/b.csv", source="a", seeds="0, 1", settings="frames=8",
        variants="R3D", runs=tmp_path,
    )  # fmt: skip
    assert study.specs == kinetics("small", "b", source="a", variants=("R3D",), seeds=(0, 1), frames=8)
    where, text = capsys.readouterr().out.split("\n", 1)
    assert where == f"The parameter `runs` is {tmp_path}, which has no finished run."
    assert text.startswith("0 of 12 runs are finished") and text.rstrip().endswith(
        "r21d train kinetics --profile small --manifest data/b.csv --seeds 0,1 --set source=a --variants R3D "
        f"--set frames=8 --runs {tmp_path}"
    )


def test_relative_folder_that_is_not_there_is_printed_absolute(tmp_path, capsys, monkeypatch):
    """As with papermill from another folder than notebooks/, which ends without an error."""
    monkeypatch.chdir(tmp_path)
    open_study("variant_comparison", runs="../runs")
    line, count, _ = capsys.readouterr().out.splitlines()
    assert line == f"The parameter `runs` is {tmp_path.parent / 'runs'}, which does not exist."
    assert count == "0 of 12 runs are finished"


def test_networks_without_runs_are_named_and_left_out(tmp_path, capsys, monkeypatch):
    trained = variant_comparison(variants=("R3D", "R(2+1)D"), seeds=(0, 1))
    finish(find_run(tmp_path, trained[0]))
    finish(find_run(tmp_path, trained[-1]))
    study = open_study("variant_comparison", variants="all", seeds="0, 1", runs=tmp_path)
    assert study.specs == trained and [run.spec for run in study.runs] == trained
    line, train, count, command = capsys.readouterr().out.splitlines()
    others = [name for name in TABLE_2 if name not in ("R3D", "R(2+1)D")]
    assert line == f"Not shown, since no run of theirs is finished: {', '.join(others)}."
    assert f"--seeds 0,1 --variants {','.join(others)} --runs {tmp_path}" in train and train.startswith("to make them")
    assert count.startswith("2 of 4 runs are finished; missing: ")
    assert f"--variants 'R3D,R(2+1)D' --runs {tmp_path}" in command
    monkeypatch.setattr("r21d_core.engine.runner.run_experiment", lambda *_, **__: [])  # as with too few max_hours
    study = open_study("variant_comparison", variants="all", seeds="0, 1", runs=tmp_path, train=True)
    assert len(study.specs) == 2 * len(TABLE_2) and "Not shown" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("experiment", "options"),
    [
        ("sports1m", {}), ("sports1m", {"variants": "R3D, 33p22, R(2+1)D"}),
        ("variant_comparison", {"variants": "C3D, s3d, R(2+1)D", "settings": "width=16"}),
        ("variant_comparison", {"manifest": "../data/set-split1.csv", "splits": "1, 2"}),
    ],
)  # fmt: skip
def test_command_trains_what_is_left_out(tmp_path, capsys, experiment, options):
    """And no other network on flow, which Table 4 has of the last one alone."""
    build = partial(open_study, experiment, seeds="0, 1", runs=tmp_path, **options)
    specs = build().specs
    for spec in specs:
        if spec.variant == "R(2+1)D":
            finish(find_run(tmp_path, spec))
    capsys.readouterr()
    assert {spec.variant for spec in build().specs} == {"R(2+1)D"}
    command = capsys.readouterr().out.splitlines()[1].removeprefix("to make them: r21d ")
    trained = collect_specs(build_parser().parse_args(shlex.split(command)))
    assert {*trained} - {*build().specs} == {spec for spec in specs if spec.variant != "R(2+1)D"}


def test_manifest_path_is_the_given_or_the_builtin_file(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "make_builtin", lambda folder: folder / "builtin.csv")
    assert open_study("clip_length", manifest=f"{tmp_path}/a.csv").manifest_path() == tmp_path / "a.csv"
    assert open_study("clip_length", builtin=tmp_path).manifest_path() == tmp_path / "builtin.csv"


def test_notebook_variables_are_read_by_name():
    namespace = {"seeds": "0, 1", "train": True, "video": "a.mp4", "open_study": open_study, "In": ["", "x = 1"]}
    assert read_parameters(namespace) == {"seeds": "0, 1", "train": True}


def test_plan_of_finished_runs_has_their_cost(tmp_path, tiny_manifest, monkeypatch):
    """A person asks what an experiment costs before running it, and after a demonstration none is left to run."""
    monkeypatch.setattr(throughput, "measure_runs", lambda specs, *_: (*(dict.fromkeys(specs, 1.0),) * 2, 1, 1, "here"))
    study = open_study("variant_comparison", variants="R3D, MC3", manifest=tiny_manifest, runs=tmp_path)
    write_json(study.runs[0], "environment.json", {"fingerprint": load_manifest(tiny_manifest).fingerprint})
    finish(study.runs[0], history=[{"epoch": epoch} for epoch in range(1, 13)])
    assert "1 finished, 1 new\nrun " in (text := study.plan()) and "R3D-10" not in text and "MC3-10" in text
    finish(study.runs[1])
    text = study.plan()
    assert "2 finished\nall of them from the start:\nrun " in text and "records in" not in text
    assert all(re.search(f"{name}-10 .* 4,800 +[0-9.]+ h", text) for name in ("R3D", "MC3"))


def test_injected_name_must_be_known_or_assigned_before():
    cells = ["", "folder = 1", "%not python", "# Parameters\nfolder = 2\ngpus = 2\n", "later = 3"]
    read_parameters({"In": cells, "folder": 2, "gpus": 2})
    with pytest.raises(R21DError, match=r"parameter 'gpus': .* no such parameter; the parameters are folder"):
        check_parameters({"In": cells})
    with pytest.raises(R21DError, match="parameter 'later'"):
        check_parameters({"In": [*cells, "# Parameters\nlater = 3"][::-1]}, ["folder", "gpus"])


def test_finished_runs_are_opened_without_the_engine(tmp_path, monkeypatch, tiny_manifest):
    for spec in clip_count():
        finish(find_run(tmp_path, spec))
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_experiment", lambda *_, **__: pytest.fail("PyTorch was imported"))
        assert all(run.is_complete for run in open_study("clip_count", train=True, runs=tmp_path).runs)
    with pytest.raises(R21DError, match="0 GPUs: expected 1 or more"):
        open_study("clip_count", train=True, gpus=0, runs=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_experiment", lambda specs, *_, **__: trained.extend(specs))
        trained, (*_, last) = [], clip_count()
        (find_run(tmp_path, last).folder / "summary.json").unlink()
        open_study("clip_count", train=True, runs=tmp_path)
        assert last in trained, "one run is missing"
    for spec in clip_count(data="tiny"):
        write_json(find_run(tmp_path, spec), "environment.json", {"fingerprint": "another"})
        finish(find_run(tmp_path, spec))
    with pytest.raises(R21DError, match="another version of"):
        open_study("clip_count", train=True, manifest=tiny_manifest, runs=tmp_path)
    with pytest.raises(R21DError, match="another version of"):
        plan(clip_count(data="tiny"), tiny_manifest, tmp_path, "cpu")


@pytest.mark.filterwarnings("default")  # of the notebook machinery's own making
def test_papermill_parameter_with_a_typo_is_an_error(tmp_path):
    paths = NOTEBOOKS / "clip_count.ipynb", tmp_path / "out.ipynb"
    with pytest.raises(PapermillExecutionError, match=r"parameter 'sedes': this notebook .* did you mean seeds\?"):
        papermill.execute_notebook(*paths, {"sedes": [0, 1]}, cwd=NOTEBOOKS, progress_bar=False)
    outputs = [output for cell in nbformat.read(paths[1], as_version=4).cells for output in cell.get("outputs", ())]
    (error,) = [output for output in outputs if output.output_type == "error"]
    assert error.traceback == [f"R21DError: {error.evalue}"], "the reader wants the sentence"


def test_runs_with_other_settings_are_found(tmp_path, capsys):
    specs = variant_comparison(variants=("R3D", "R(2+1)D"), seeds=(0, 1), epochs=3)
    for spec in specs:
        finish(find_run(tmp_path, spec))
    study = open_study("variant_comparison", variants="R3D", runs=tmp_path)
    assert study.specs == [specs[0]] and study.runs[0].is_complete, "the only settings are used"
    text = capsys.readouterr().out
    assert 'seeds = "0, 1", settings = "epochs=3": R(2+1)D, R3D' in text and "1 of 1 runs are finished" in text
    finish(find_run(tmp_path, variant_comparison(variants=("R3D",), lr=0.3)[0]))
    study = open_study("variant_comparison", variants="R3D", runs=tmp_path)
    text = capsys.readouterr().out
    assert study.specs == variant_comparison(variants=("R3D",)), "several settings: none is chosen"
    assert 'settings = "epochs=3"' in text and 'settings = "lr=0.3"' in text


@pytest.mark.parametrize("changes", [{"R3D": {}, "R2D": {"epochs": 3}}, {"R3D": {"epochs": 3}}])
def test_default_settings_and_other_networks_choose_none(changes, tmp_path, capsys):
    for name, settings in changes.items():
        finish(find_run(tmp_path, variant_comparison(variants=(name,), **settings)[0]))
    study = open_study("variant_comparison", variants="R2D", runs=tmp_path)
    assert study.specs == variant_comparison(variants=("R2D",)) and "only ones" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("experiment", "parameters"),
    [("optimization_curves", {"depth": "18"}), ("temporal_probe", {"frames": "4"}), ("kinetics", {"lr": 0.3})],
)
def test_named_settings_open_the_runs(experiment, parameters, tmp_path):
    for spec in EXPERIMENTS[experiment](**parameters):
        finish(find_run(tmp_path, spec))
    specs = EXPERIMENTS[experiment]()
    (key,) = find_alternatives(EXPERIMENTS[experiment], tmp_path, {spec.data for spec in specs})
    study = open_study(experiment, settings=key[2], runs=tmp_path)
    assert key[:2] == ("demo", specs[0].task) and any(run.is_complete for run in study.runs)


def test_runs_of_other_data_are_named(tmp_path, capsys):
    finish(find_run(tmp_path, variant_comparison(data="other", variants=("R3D",), epochs=3)[0]))
    open_study("variant_comparison", runs=tmp_path)
    line, *rest = capsys.readouterr().out.splitlines()
    assert line.endswith("other data have finished runs: other. The parameter `manifest` chooses them.")
    assert rest[0] == "0 of 12 runs are finished"
