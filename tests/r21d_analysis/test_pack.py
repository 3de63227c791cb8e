"""A pack is small, is read like the folder that it was made of, and keeps every decision."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from r21d_analysis.pack import clip_subsets, pack_runs
from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.runs import quantize as quantization
from r21d_core.runs.files import make_folder
from r21d_core.runs.metrics import clip_at_1, video_at, video_correct, video_probabilities
from r21d_core.runs.quantize import DRAWS, STEPS, dequantize, quantize
from r21d_core.runs.run import find_run, load_runs, lock
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec
from tests.runs import finish

CLASSES = tuple("abcdefgh")
SPECS = [Spec(modality=modality, seed=seed, profile="small") for modality in ("rgb", "flow") for seed in (0, 1)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder `runs`, two seeds of both streams on 200 videos, many of their decisions close, and its `study.zip`."""
    folder = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(0)
    labels = np.arange(200) % len(CLASSES)
    videos = np.array([f"v{number:03}" for number in range(200)])
    for spec in SPECS:
        run = find_run(folder / "runs", spec)
        logits = random.normal(0, 2, (200, 1, 8)) + random.normal(0, 1, (200, 5, 8)) + 3 * np.eye(8)[labels][:, None]
        logits[:20, :, 1] = logits[:20, :, 0] * (1 + 1e-7)
        families = {"first": ["a", "b"], "not of this task": ["x", "y"]}
        protocol = {"modality": spec.modality, "families": families}
        scores = Scores(logits.astype(np.float32), labels, videos, videos, CLASSES, protocol)
        run.write("trained_on.txt", "group\n")
        run.write("checkpoint.pt", b"large")
        run.write("environment.json", '{"device": "TestGPU"}')
        finish(run, scores, [{"epoch": 1, "train_error": 0.5}], seconds=3)
    find_run(folder / "runs", Spec(seed=7)).write("spec.json", Spec(seed=7).to_json())
    pack_runs(folder / "runs", folder / "study.zip")
    return folder


@pytest.fixture
def runs(study, tmp_path):
    """The runs of a copy of `study` in `tmp_path`."""
    shutil.copytree(study, tmp_path, dirs_exist_ok=True)
    return load_runs(tmp_path / "runs")


def test_pack_is_read_like_the_folder(runs, tmp_path):
    packed = load_runs(tmp_path / "study.zip")
    assert {run.spec for run in packed} == set(SPECS), "a run that is not complete is left out"
    for run in packed:
        original = find_run(tmp_path / "runs", run.spec)
        assert find_run(tmp_path / "study.zip", run.spec).scores.videos.tolist() == original.scores.videos.tolist()
        for record in ("history", "environment", "trained_on"):
            assert getattr(run, record) == getattr(original, record)
        assert run.is_complete and not run.has_checkpoint and run.summary["seconds"] == 3
        assert find_run(run.folder.parent, run.spec).summary == run.summary
    missing = find_run(tmp_path / "study.zip", Spec(seed=9))
    assert not missing.is_complete and missing.history == []
    with pytest.raises(R21DError, match=r"study.zip.*summary.json: missing"):
        _ = missing.summary


def test_records_of_a_pack_are_decoded_once(runs, tmp_path):
    first, *_ = load_runs(tmp_path / "study.zip")
    scores = first.scores
    assert find_run(tmp_path / "study.zip", first.spec).scores is scores and not scores.logits.flags.writeable
    first.history.append({})
    first.summary["seconds"] = first.history[0]["epoch"] = 9
    assert (first.summary["seconds"], first.history) == (3, [{"epoch": 1, "train_error": 0.5}])
    finish(find_run(tmp_path / "runs", first.spec), replace(scores, logits=scores.logits[:, ::-1]))
    again, *_ = pack_runs(tmp_path / "runs", tmp_path / "study.zip")
    assert again.spec == first.spec and np.array_equal(again.scores.logits, scores.logits[:, ::-1])
    assert first.scores is scores, "an open pack does not change"
    os.utime(tmp_path / "study.zip", (0, 0))
    (other, *_), whole = load_runs(tmp_path / "study.zip"), again.scores
    assert other.scores is not whole, "another pack of the same size may have taken its place"


def test_packed_scores_keep_every_decision(runs, tmp_path):
    originals = {run.spec: run.scores for run in runs if run.is_complete}
    for run in load_runs(tmp_path / "study.zip"):
        before, after = originals[run.spec], run.scores
        accuracies = {"clip@1": clip_at_1(before), **{f"video@{k}": video_at(before, k) for k in (1, 5)}}
        assert run.summary["accuracies_before_quantization"] == accuracies
        np.testing.assert_array_equal(after.logits.argmax(axis=2), before.logits.argmax(axis=2))
        for chosen in clip_subsets(5):
            few = [replace(scores, logits=scores.logits[:, chosen]) for scores in (before, after)]
            np.testing.assert_array_equal(*(video_probabilities(scores).argmax(axis=1) for scores in few))
            np.testing.assert_array_equal(*(video_correct(scores, 1) for scores in few))
        np.testing.assert_array_equal(video_correct(after, 5), video_correct(before, 5))
        error = np.abs(softmax(after.logits, axis=2) - softmax(before.logits, axis=2))
        assert error.max() < (1 + 7 / 64) / STEPS[0], (
            "a step, and a 64th of it for each class whose probability is zero"
        )
        steps = after.protocol["quantization"]["items by step of the probabilities"]
        assert sum(steps.values()) == 200 and steps["1/20"] > 150 and min(steps["1/60"], steps["logits"]) > 0
    packed = {run.spec: run.scores for run in load_runs(tmp_path / "study.zip")}
    for seed in (0, 1):
        both = [[scores for spec, scores in found.items() if spec.seed == seed] for found in (originals, packed)]
        fused = [sum(softmax(scores.logits, axis=2) for scores in pair) / 2 for pair in both]
        np.testing.assert_array_equal(*(of.argmax(axis=2) for of in fused))
        np.testing.assert_array_equal(*(of.mean(axis=1).argmax(axis=1) for of in fused))


@pytest.mark.parametrize("draw", [0, 1, DRAWS - 1])
@pytest.mark.parametrize("level", range(len(STEPS) + 1))
def test_quantized_probabilities_are_close(level, draw):
    logits = np.random.default_rng(0).normal(0, 4, (30, 3, 7)).astype(np.float32)
    logits[0] = [[1000, 0, 0, 0, 0, 0, -1000]] * 3
    back = dequantize(quantize(logits, np.full(30, level * DRAWS + draw)))
    assert np.isfinite(back).all() and back.dtype == np.float32
    error = np.abs(softmax(back.astype(float), axis=2) - softmax(logits.astype(float), axis=2)).max()
    assert error < [*(1 / step for step in STEPS), 1e-12][level] * 1.1


def test_first_way_to_round_is_the_nearest():
    """Of two classes the larger remainder is half a step or more; a zero is a 64th of a step off."""
    logits = np.random.default_rng(0).normal(0, 1, (30, 3, 2)).astype(np.float32)
    errors = [
        np.abs(softmax(dequantize(quantize(logits, np.full(30, draw))), axis=2) - softmax(logits, axis=2)).max()
        for draw in (0, 1)
    ]
    assert errors[0] < (1 / 2 + 1 / 64) / STEPS[0] < errors[1]


def test_a_pack_with_other_steps_is_read(monkeypatch):
    """A pack from before the steps changed."""
    logits = np.random.default_rng(0).normal(0, 4, (30, 3, 7)).astype(np.float32)
    monkeypatch.setattr(quantization, "STEPS", (100, 500, 65535))
    arrays, exact = quantize(logits, np.arange(30) % 4 * DRAWS), softmax(logits, axis=2)
    monkeypatch.undo()
    error = np.abs(softmax(dequantize(arrays), axis=2) - exact).max(axis=(1, 2))
    assert (error < np.resize([1 / 100, 1 / 500, 1 / 65535, 1e-12], 30) * 1.1).all() and error.max() > 1e-3


def test_packing_twice_changes_nothing(runs, tmp_path):
    pack_runs(tmp_path / "study.zip", tmp_path / "twice.zip")
    assert (tmp_path / "study.zip").read_bytes() == (tmp_path / "twice.zip").read_bytes()


def test_pack_is_read_only(runs, tmp_path):
    run = load_runs(tmp_path / "study.zip")[0]
    with pytest.raises(R21DError, match=r"study.zip.*a pack is read only"):
        run.write("spec.json", "{}")
    with pytest.raises(R21DError, match=r"a pack is read only"), lock(run):
        pass
    with pytest.raises(R21DError, match=r"study.zip: a pack is read only; .*python -m zipfile -e .*study.zip FOLDER"):
        make_folder(tmp_path / "study.zip")


def test_missing_pack_is_named(tmp_path):
    """A folder of runs may be made later, a pack may not."""
    for read in (load_runs, lambda path: find_run(path, Spec())):
        with pytest.raises(R21DError, match=r"none\.zip: no such pack"):
            read(tmp_path / "none.zip")
    assert load_runs(tmp_path / "none") == []


@pytest.mark.parametrize("content", [b"", b"no pack", b"PK\x05\x06" + bytes(17)])
def test_file_that_is_no_pack_is_named(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    for read in (load_runs, lambda path: find_run(path, Spec())):
        with pytest.raises(R21DError, match=r"file: a file, but not a pack"):
            read(tmp_path / "file")


def test_pack_command_says_what_it_wrote(runs, tmp_path, capsys):
    assert main(["pack", str(tmp_path / "runs"), "--out", str(tmp_path / "again.zip")]) == 0
    assert "again.zip: 4 runs, 0.0 MB" in capsys.readouterr().out
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "study.zip").read_bytes()
    assert main(["pack", str(tmp_path / "none"), "--out", str(tmp_path / "none.zip")]) == 1
    assert "none: no finished run" in capsys.readouterr().err
