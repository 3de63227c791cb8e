"""From one data set to another: whose weights, whose classifier, and no video that was seen before."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from r21d_analysis.artifacts.streams import stream_table
from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.plan import plan
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.train import train
from r21d_core.models.load import model_from_weights, read_weights
from r21d_core.models.network import VideoResNet
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import kinetics, sports1m, transfer, variant_comparison
from tests.networks import TINY

SPEC = TINY.replace(width=4, frame_height=24, frame_width=32, clips_per_epoch=16, warmup_epochs=0, eval_clips=2)
UNCHANGED = {"epochs": 1, "lr": 0}  # a training that changes no parameter


@pytest.fixture
def two(tiny_manifest, tmp_path):
    """The tiny set, and beside it one of the same videos under other names of classes and the same sides."""
    tiny = load_manifest(tiny_manifest)
    card = replace(tiny.card, root=str(tiny_manifest.parent / "videos"))
    write_manifest(tmp_path / "tiny.csv", card, tiny.videos)
    names = dict(zip(card.classes, ("sun", "moon"), strict=True))
    videos = [replace(video, label=names[video.label]) for video in tiny.videos]
    write_manifest(tmp_path / "other.csv", replace(card, name="other", classes=("sun", "moon")), videos)
    return tmp_path / "tiny.csv", tmp_path / "other.csv"


@pytest.fixture
def fit(two, tmp_path):
    """A function that trains a spec on the first set, or on the one at a path."""
    return lambda spec, path=two[0]: train(spec, load_manifest(path), tmp_path / "runs", device="cpu")


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    return train(SPEC, tiny, tmp_path_factory.mktemp("trained"), device="cpu")


@pytest.fixture
def first(trained, tmp_path):
    """A run on the tiny set, in a folder of its own."""
    return find_run(shutil.copytree(trained.folder.parent, tmp_path / "elsewhere"), SPEC)


@pytest.fixture
def parent(trained, tmp_path):
    """The same run, where `fit` trains."""
    return find_run(shutil.copytree(trained.folder.parent, tmp_path / "runs"), SPEC)


def write_swapped(manifest, path):
    """Write the manifest to `path` with training and test split swapped, under the name of the file."""
    videos = [replace(video, split={"train": "test", "test": "train"}[video.split]) for video in manifest.videos]
    write_manifest(path, replace(manifest.card, name=path.stem), videos)
    return path


def changed_parameters(first, second):
    """The names of the parameters in which two runs differ."""
    one, other = (load_checkpoint(run)["model"] for run in (first, second))
    assert one.keys() == other.keys()
    return {name for name in one if name.endswith(("weight", "bias")) and not torch.equal(one[name], other[name])}


@pytest.mark.parametrize(
    ("changes", "fc"),
    [({"data": "other", **UNCHANGED}, {"fc.weight", "fc.bias"}), ({"eval_clips": 3, "epochs": 0}, set())],
)
def test_only_equal_classes_keep_the_classifier(parent, two, tmp_path, capsys, changes, fc):
    specs = [SPEC, SPEC.finetune_spec(**changes)]
    assert changed_parameters(*run_experiment(specs, two[0], tmp_path / "runs", device="cpu")) == fc
    assert ("fc initialized for 2 other classes" in capsys.readouterr().out) == bool(fc)


def test_random_classifier_is_not_evaluated(first, parent, fit, two, tmp_path):
    """Names of classes are compared of runs, their number of other weights; of files the plan does it too."""
    expected = "weights for the 2 classes dark, bright, and other has 2 others, so the classifier would be random, and"
    untrained = SPEC.replace(data="other", init_from=str(first.folder), epochs=0)
    for spec in (untrained, SPEC.finetune_spec(data="other", epochs=0)):
        with pytest.raises(R21DError, match=f"{expected} epochs=0 does not train it; test on data with the 2 classes"):
            fit(spec, two[1])
    with pytest.raises(R21DError, match=expected):
        plan([untrained], two[1], tmp_path / "runs", "cpu")
    file = tmp_path / "given.pth"
    torch.save(VideoResNet("R(2+1)D", 10, 4, num_classes=400, frames=4).state_dict(), file)
    spec = SPEC.replace(init_from=str(file), epochs=0)
    for call in (fit, lambda spec: plan([spec], two[0], tmp_path / "runs", "cpu")):
        with pytest.raises(R21DError, match=r"weights for 400 classes, and tiny has 2 others.* on data with 400"):
            call(spec)
        assert call(spec.replace(epochs=1))


def test_random_first_convolution_is_not_evaluated(fit, two, tmp_path):
    """Nor planned: weights for optical flow fit all but the first convolution of a network for RGB."""
    file = tmp_path / "flow.pth"
    torch.save(VideoResNet("R(2+1)D", 10, 4, num_classes=2, frames=4, in_channels=2).state_dict(), file)
    spec = SPEC.replace(init_from=str(file), epochs=0)
    for call in (fit, lambda spec: plan([spec], two[0], tmp_path / "runs", "cpu")):
        with pytest.raises(R21DError, match=r"weights for 2 channels, and rgb has 3, so .* epochs=0 does not train it"):
            call(spec)
        assert call(spec.replace(epochs=1))


def test_run_records_all_groups_it_was_trained_on(parent, fit, two):
    later = SPEC.finetune_spec(data="other", **UNCHANGED)
    second = fit(later, two[1])
    groups = {video.group for video in load_manifest(two[0]).split("train")}
    assert parent.trained_on == second.trained_on == groups
    (second.folder / "trained_on.txt").unlink()
    with pytest.raises(R21DError, match="the videos the weights were trained on are unknown"):
        fit(later.finetune_spec(epochs=0, eval_clips=3), two[1])


def test_leak_through_an_intermediate_run_is_refused(parent, fit, two):
    """Which was trained on other recordings."""
    other, path = load_manifest(two[1]), two[1].with_name("between.csv")
    videos = [replace(video, group=f"new {video.group}") for video in other.videos]
    write_manifest(path, replace(other.card, name="between"), videos)
    between = SPEC.finetune_spec(data="between")
    assert fit(between, path).trained_on == parent.trained_on | {f"new {group}" for group in parent.trained_on}
    with pytest.raises(R21DError, match="its accuracy would be too high"):
        fit(between.finetune_spec(data="third", epochs=1), write_swapped(other, two[1].with_name("third.csv")))


def test_weights_file_initializes_the_model(fit, two, tmp_path, capsys):
    """Such as torchvision's: classifier and all where the numbers of classes agree, and the record says which file."""
    given = VideoResNet("R(2+1)D", 10, 4, num_classes=2, midplanes_per_block=True, eps=1e-5)
    file = tmp_path / "given.pth"
    torch.save(given.state_dict(), file)
    spec = SPEC.replace(init_from=str(file), midplanes_per_block=True, eps=1e-5, epochs=0)
    run = fit(spec)
    assert all(torch.equal(value, given.state_dict()[name]) for name, value in load_checkpoint(run)["model"].items())
    assert run.trained_on == set(), "without training, nothing is known of what the weights were trained on"
    assert "none skipped; SHA-256" in run.environment["init_from"] and str(file) in capsys.readouterr().out
    with pytest.raises(R21DError, match=r"midplanes_per_block is True for these weights, and False in the network"):
        fit(spec.replace(midplanes_per_block=False))
    file.unlink()
    assert "1 finished" in plan([spec, SPEC], two[0], tmp_path / "runs", "cpu"), "a finished run needs no file"


def test_another_file_under_the_name_of_the_weights_is_refused(fit, two, tmp_path):
    """Of a finished run and of one to resume; a file with the same content is the same."""
    file, runs = tmp_path / "given.pth", tmp_path / "runs"
    torch.save(VideoResNet("R(2+1)D", 10, 4, num_classes=2, frames=4).state_dict(), file)
    content, spec = file.read_bytes(), SPEC.replace(init_from=str(file))
    run = fit(spec)
    file.write_bytes(content)
    assert fit(spec).is_complete and run_experiment([spec], two[0], runs)
    torch.save(VideoResNet("R(2+1)D", 10, 4, num_classes=2, frames=4).state_dict(), file)
    error = rf"^{run.folder}: started from another version of {file} \(SHA-256 \w{{8}}…, now \w{{8}}…\); restore that"
    for manifest, gpus in ((two[0], 1), (None, 1), (None, 2)):
        with pytest.raises(R21DError, match=error):
            run_experiment([spec], manifest, runs, device="cpu", gpus=gpus)
    with pytest.raises(R21DError, match=error):
        plan([spec], two[0], runs, "cpu")
    assert "1 finished" in plan([spec], two[0], runs, "cpu", anew=True), "which is as if there were no run"
    for _ in ("finished", "resumed"):
        with pytest.raises(R21DError, match=error):
            fit(spec)
        (run.folder / "summary.json").unlink(missing_ok=True)
    file.unlink()
    assert fit(spec).is_complete


@pytest.mark.parametrize("named", ["", "checkpoint.pt"])
def test_run_folder_as_weights_file_is_checked_as_a_run(first, fit, two, named):
    """By the groups it was trained on, which the next run knows of too, and by the names of its classes."""
    spec = SPEC.replace(data="other", init_from=str(first.folder / named), **UNCHANGED)
    later = fit(spec, two[1])
    assert later.trained_on == first.trained_on and "not compared" not in later.environment["init_from"]
    assert changed_parameters(first, later) == {"fc.weight", "fc.bias"}
    assert "fc.weight (2 classes in the file, 2 others in the network)" in later.environment["init_from"]
    swapped = write_swapped(load_manifest(two[0]), two[0].with_name("swapped.csv"))
    for start in (spec, spec.finetune_spec(data="swapped")):
        with pytest.raises(R21DError, match=r"was trained on \d+ of the test groups, such as"):
            fit(start.replace(data="swapped"), swapped)


@pytest.mark.parametrize("copied", ["best.pt", "elsewhere/checkpoint.pt", "first/best.pt"])
def test_copied_checkpoint_is_a_file_of_unknown_training(first, fit, two, tmp_path, copied):
    """Also beside its run's records, under another name."""
    file = first.folder / "best.pt" if copied.startswith("first") else tmp_path / copied
    shutil.copy(first.folder / "checkpoint.pt", file)
    spec = SPEC.replace(init_from=str(file), epochs=0)
    assert "1 new" in plan([spec], two[0], tmp_path / "runs", "cpu")
    run = fit(spec)
    assert changed_parameters(first, run) == set() and run.trained_on == set()
    assert "SHA-256" in run.environment["init_from"] and "are unknown" in run.environment["init_from"]


@pytest.mark.parametrize("cache", ["host", "stream"])
def test_run_is_tested_on_a_set_without_training_videos(first, two, tmp_path, cache):
    manifest = load_manifest(two[0])
    path = tmp_path / "tested.csv"
    write_manifest(path, replace(manifest.card, name="tested"), manifest.split("test"))
    spec = SPEC.replace(data="tested", init_from=str(first.folder), epochs=0)
    run = train(spec, load_manifest(path), tmp_path / "runs", device="cpu", cache=cache, workers=0)
    np.testing.assert_allclose(run.scores.logits, first.scores.logits, atol=1e-5)
    with pytest.raises(R21DError, match="no row has split 'train'"):
        train(SPEC.replace(data="tested"), load_manifest(path), tmp_path / "runs", device="cpu")


@pytest.mark.parametrize(("lost", "says"), [("trained_on.txt", "are unknown"), ("summary.json", "not finished")])
def test_incomplete_run_folder_is_refused(first, fit, lost, says):
    (first.folder / lost).unlink()
    with pytest.raises(R21DError, match=says):
        fit(SPEC.replace(init_from=str(first.folder)))


def test_plan_refuses_the_checkpoint_of_an_unfinished_run(first, two, tmp_path):
    later = [SPEC.replace(init_from=str(first.folder / "checkpoint.pt"))]
    assert "1 new" in plan(later, two[0], tmp_path, "cpu")
    (first.folder / "summary.json").unlink()
    with pytest.raises(R21DError, match=rf"^{first.folder}: not finished or not a complete run folder.*; train that"):
        plan(later, two[0], tmp_path, "cpu")


def test_checkpoint_with_torchvision_midplanes_is_read(fit):
    run = fit(SPEC.replace(midplanes_per_block=True, eps=1e-5))
    weights = read_weights(run.folder / "checkpoint.pt")
    assert (weights.eps, weights.midplanes_per_block) == (1e-5, True) and model_from_weights(weights).bn1.eps == 1e-5
    assert run.summary["parameters"] == sum(p.numel() for p in model_from_weights(weights).parameters())


def test_missing_second_data_set_is_named(two, tmp_path):
    with pytest.raises(R21DError, match=r"gone\.csv: no such file; these runs need it beside"):
        run_experiment([SPEC, SPEC.finetune_spec(data="gone")], two[0], tmp_path / "runs", device="cpu")


def test_experiments_share_runs_and_order_parents_first():
    four, five, six = (make("demo", "builtin") for make in (sports1m, kinetics, transfer))
    assert set(five) <= set(six) and len(five) == 6 and len(six) == 18 and len(four) == 3
    for spec in five + six:
        start = spec.parent_spec
        assert start is None or start in six[: six.index(spec)]
        assert start is None or (start.data[-1], start.modality) == (spec.data[-1], spec.modality)


def test_demo_is_short_and_splits_are_selectable():
    clips = {spec: spec.epochs * spec.clips_per_epoch for spec in transfer("demo")}
    assert sum(clips.values()) <= 21_600, "eighteen runs in the time of four and a half of Table 2's"
    assert {spec.data[-1] for spec in transfer("demo", splits="1, 3")} == {"1", "3"}
    assert {spec for spec in sports1m("demo") if spec.modality == "rgb"} <= set(variant_comparison("demo"))


def test_splits_of_prepared_videos_keep_their_names():
    specs = transfer("small", "ucf101-7b-split1-128x172", source="ucf101-7a-split1-128x172")
    names = [f"ucf101-7{half}-split{split}-128x172" for half in "ab" for split in (1, 2, 3)]
    assert sorted({spec.data for spec in specs}) == names and len(specs) == 18
    assert len(transfer("paper", "ucf101-split1-128x172", source="kinetics-400")) == 14  # a source for all splits


@pytest.mark.parametrize("settings", [{}, {"eval_clips": 20}, {"eval_clips": 10}])
def test_paper_sources_are_runs_of_other_tables(settings):
    """Sports-1M is evaluated with 100 clips in Table 4, Kinetics densely in Table 5, UCF101 and HMDB51 with ten."""
    four, five = sports1m("paper", "sports1m", **settings), kinetics("paper", "kinetics-400", **settings)
    six = transfer("paper", "ucf101-split1", **settings)
    six += transfer("paper", "hmdb51-split1", source="sports1m", **settings)
    trained = {spec for spec in four + five + six if not spec.init_from}
    assert {spec.parent_spec for spec in five if spec.init_from} <= set(four)
    assert {spec.parent_spec for spec in six if spec.init_from} <= {*four, *five}
    for spec in five + six:
        clips = {"sports1m": 100, "kinetics-400": 269}.get(spec.data, 10)
        assert spec.eval_clips == settings.get("eval_clips", clips)
    assert len({spec.replace(eval_clips=1) for spec in trained}) == len(trained), "nothing is trained twice"


def test_given_weights_are_finetuned_by_paper_recipes():
    """Two networks a stream and split, from scratch and from the file, and none to pretrain."""
    file = "r2plus1d_34_32_ig65m"
    specs = transfer("paper", "ucf101-split1", init_from=file)
    assert len(specs) == 12 and {spec.data for spec in specs} == {f"ucf101-split{split}" for split in (1, 2, 3)}
    own = [spec for spec in transfer("paper", "ucf101-split1") if spec.data != "kinetics-400"]
    assert {spec for spec in specs if not spec.init_from} == {spec for spec in own if not spec.init_from}
    given, pretrained = ([spec for spec in all_specs if spec.init_from] for all_specs in (specs, own))
    assert {spec.init_from for spec in given} == {file}
    assert {spec.replace(init_from="") for spec in given} == {spec.replace(init_from="") for spec in pretrained}
    rgb, later, *_ = kinetics("paper", "kinetics-400", init_from=file)
    assert (later.init_file, later.epochs, later.lr, later.clips_per_epoch) == (file, 15, 0.001, rgb.clips_per_epoch)
    for make in (kinetics, transfer):
        with pytest.raises(R21DError, match="name a data set or weights, not both"):
            make("paper", "ucf101-split1", source="sports1m", init_from=file)


def test_weights_file_appears_in_the_table(two, tmp_path):
    file = tmp_path / "given.pth"
    torch.save(VideoResNet("R(2+1)D", 10, 4, num_classes=9, frames=4).state_dict(), file)
    names = ("width", "frames", "frame_height", "frame_width", "crop", "batch_size")
    settings = {name: getattr(SPEC, name) for name in names}
    specs = kinetics("demo", "tiny", init_from=str(file), **settings, clips_per_epoch=8, epochs=1)
    shown = stream_table(run_experiment(specs, two[0], tmp_path / "runs", device="cpu"), 5)
    assert shown["", "weights"].tolist() == 3 * ["from scratch"] + 3 * [f"pretrained on {file}"]


def test_recipes_of_tables_4_to_6_are_the_papers():
    specs = transfer("paper", "ucf101-split1", splits="2")
    later = specs[-1]
    assert {spec.data for spec in specs} == {"ucf101-split2", "kinetics-400"}
    assert (later.depth, later.frames, later.epochs, later.lr, later.weight_decay) == (34, 32, 8, 8e-4, 5e-3)
    assert (later.grad_accum_steps, later.lr_decay_epochs) == (8, 2) and specs[-2].grad_accum_steps == 1
    hmdb51 = transfer("paper", "hmdb51-split1")[-1]
    assert (hmdb51.clips_per_epoch, hmdb51.lr, hmdb51.epochs) == (40_000, 1.6e-3, 8)
    finetuned = kinetics("paper", "kinetics-400")[-1]
    assert finetuned.parent_spec.data == "sports1m"
    assert (finetuned.epochs, finetuned.lr, finetuned.lr_decay_epochs, finetuned.warmup_epochs) == (15, 0.001, 4, 0)
    assert {(spec.frames, spec.eval_clips) for spec in sports1m("paper", "sports1m")} == {(8, 100), (32, 100)}
