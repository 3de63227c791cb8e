"""The examples in the docstrings of the functions that a user calls first run as they are written."""

import doctest
import shutil
from pathlib import Path

import pytest

from r21d_analysis.artifacts.measures import measure
from r21d_analysis.interpret.inspect_run import analyze_video
from r21d_core import load
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.engine.classify import Predictor
from r21d_core.engine.export import export
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.train import train
from r21d_core.runs.run import load_runs
from r21d_core.study.recipes import get_recipe
from r21d_core.study.spec import Spec

ROOT = Path(__file__).parents[1]
EXAMPLES = (
    load, Predictor.features, run_experiment, Spec, get_recipe, load_runs, measure, write_manifest, export,
    analyze_video,
)  # fmt: skip


class Checker(doctest.OutputChecker):
    """Does not compare the output of a line for which the example shows none, such as a plan or a number of a run."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="module")
def made(tiny_manifest, tmp_path_factory):
    """A folder with a run, videos and a manifest, under the names of the examples."""
    folder = tmp_path_factory.mktemp("examples")
    tiny = load_manifest(tiny_manifest)
    spec = get_recipe("demo").replace(data="tiny", width=2, epochs=1, clips_per_epoch=8, batch_size=4)
    train(spec, tiny, folder / "runs", device="cpu").folder.rename(folder / "runs" / "RUN")
    for name, video in zip(("video", "a", "b"), tiny.videos, strict=False):
        shutil.copy(video.path, folder / f"{name}.mp4")
    shutil.copytree(tiny_manifest.parent / "videos", folder / "data" / "videos")
    for ending in (".csv", ".json"):
        text = tiny_manifest.with_suffix(ending).read_text()
        (folder / "data" / f"videos{ending}").write_text(text.replace('"name": "tiny"', '"name": "videos"'))
    (folder / "results").symlink_to(ROOT / "results")
    return folder


@pytest.mark.parametrize("item", EXAMPLES, ids=lambda item: item.__qualname__)
def test_example_runs(item, made, monkeypatch, capsys):
    monkeypatch.chdir(made)
    (test,) = doctest.DocTestFinder(recurse=False).find(item, globs={})
    assert test.examples, "has no example"
    failed, _ = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS).run(test)
    assert not failed, capsys.readouterr().out
