"""A validation cut holds whole training groups on either side and nothing of the set's own test videos."""

import shlex
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data.dataset_cards import FOLDER
from r21d_core.data.manifest import DatasetCard, Manifest, Video, check_no_leaks, load_manifest, write_manifest
from r21d_core.data.val_split import make_val_split
from r21d_core.engine.plan import data_size, load_manifests, make_plan
from r21d_core.study.experiments import recipe_trials
from r21d_core.study.spec import Spec


def manifest_of(groups, others=()):
    """A manifest whose classes have training videos of these groups, {class: [group, …]}, and `others` beside them."""
    videos = [
        Video(f"{label}/{n}.mp4", None, label, "train", group, 9, 25.0, 32, 24)
        for label, names in groups.items()
        for n, group in enumerate(names)
    ]
    classes = tuple(groups)
    card = DatasetCard("set", classes, "made up", "none", {"train": 1}, "videos", {"letters": classes}, "25")
    return Manifest(Path("set.csv"), card, (*videos, *others))


def test_every_fourth_group_of_a_class_is_held_out():
    names = [f"g{n:02d}" for n in range(18)]
    of = {label: [f"{label}_{name}" for name in names[::-1] for _ in range(3)] for label in "ab"}
    whole = manifest_of(of)
    cut, fourth = make_val_split(whole), slice(3, None, 4)
    assert {video.group for video in cut.split("test")} == {f"{a}_{name}" for a in "ab" for name in names[fourth]}
    assert cut.path == Path("set-val.csv") and cut.card.name == "set-val"
    assert cut.card.expected == {"train": 84, "test": 24}
    assert replace(cut.card, name="set", expected={"train": 1}) == whole.card


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 30), min_size=1, max_size=60), min_size=1),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["val", "test"]), st.integers(31, 40)), max_size=9),
)
def test_no_group_is_on_both_sides_and_no_other_video_on_any(numbers, shared, others):
    groups = {label: [f"{'' if shared else label}{n:02d}" for n in of] for label, of in numbers.items()}
    others = [
        Video(f"{label}/other{n}.mp4", None, label, split, f"{split} {group}")
        for n, (label, split, group) in enumerate(others)
        if label in groups
    ]
    whole, has_val = manifest_of(groups, others), any(video.split == "val" for video in others)
    try:
        cut = make_val_split(whole)
    except R21DError:
        assume(not has_val and (shared or any(len(set(names)) < 4 for names in groups.values())))
        return
    sides = defaultdict(set)
    for video in cut.videos:
        sides[video.split].add(video.group)
    assert set(sides) == {"train", "test"} and not sides["train"] & sides["test"]
    expected = [video for video in whole.videos if video.split != "test"]
    assert [(v.video, v.group, v.frames) for v in cut.videos] == [(v.video, v.group, v.frames) for v in expected]
    if has_val:
        assert [video.split == "test" for video in cut.videos] == [video.split == "val" for video in expected]
    for split in () if has_val else sides:
        assert {video.label for video in cut.split(split)} == set(groups)
    check_no_leaks(cut)


@pytest.mark.parametrize("groups", ["uvw", "s"])
def test_class_with_too_few_groups_is_an_error(groups):
    what = rf"set\.csv: class 'b' has {'1 group' if len(groups) == 1 else '3 groups'} in train, expected 4 or more"
    with pytest.raises(R21DError, match=what):
        make_val_split(manifest_of({"a": "pqrs", "b": groups}))


def test_set_that_leaks_or_has_nothing_to_train_on_is_refused():
    test = Video("a/9.mp4", None, "a", "test", "z")
    for leak, what in (
        (replace(test, video="a/8.mp4", group="p"), r"group 'p' is in train \(a/0\.mp4\) and in test \(a/8"),
        (replace(test, video="a/8.mp4", split="val"), r"group 'z' is in val \(a/8\.mp4\) and in test \(a/9"),
        (replace(test, split="val", group="y"), r"video 'a/9\.mp4' is in "),
    ):
        with pytest.raises(R21DError, match=what):
            make_val_split(manifest_of({"a": "pqrs"}, [test, leak]))
    with pytest.raises(R21DError, match="no row has split 'train'"):
        make_val_split(manifest_of({"a": ""}, [Video("a/9.mp4", None, "a", "test", "p")]))


def test_command_writes_the_cut_beside_its_set_and_says_so(tmp_path, capsys):
    whole = manifest_of({"a": "pqrst", "b": "uvwxy"}, [Video("a/9.mp4", None, "a", "test", "z", 9, 25.0, 32, 24)])
    write_manifest(tmp_path / "set.csv", whole.card, whole.videos)
    assert main(["manifest", "validation", str(tmp_path / "set.csv")]) == 0
    path = tmp_path / "set-val.csv"
    line, recordings, warning = capsys.readouterr().out.splitlines()
    assert line == f"{path}: 10 videos of 2 classes (8 train, 2 test)" and "with 2 test recordings" in warning
    assert recordings == "recordings: 8 train (4 or more of each class), 2 test (1 or more of each class)"
    cut = load_manifest(path)
    assert cut.root == load_manifest(tmp_path / "set.csv").root
    assert [video.video for video in cut.split("test")] == ["a/3.mp4", "b/3.mp4"]
    # the trials find it by the name of the set or by its own, and are never tested on the set's test videos
    for name in ("set", "set-val"):
        specs = recipe_trials("small", name)
        assert {spec.data for spec in specs} == {"set-val"}
        assert load_manifests(specs, tmp_path / f"{name}.csv") == {"set-val": cut}
    path.unlink()
    command = r"`r21d manifest validation \S*set\.csv` writes it"
    with pytest.raises(R21DError, match=rf"set-val\.csv: no such file; {command}"):
        load_manifests(specs, tmp_path / "set.csv")


def test_val_videos_of_a_set_are_used_and_the_plan_says_how(tmp_path, capsys):
    others = [Video(f"a/{split}.mp4", None, "a", split, split, 9, 25.0, 32, 24) for split in ("val", "test")]
    whole, path = manifest_of({"a": "p", "b": "u"}, others), tmp_path / "my set.csv"
    write_manifest(path, replace(whole.card, name="my set"), whole.videos)
    sizes = {"my set": data_size(load_manifest(path))}
    text, _ = make_plan([Spec(data="my set", profile="demo", depth=10, width=1)], sizes, tmp_path / "runs", "cpu", 1)
    command = f"r21d manifest validation '{path}'"
    line = f"my set: its 1 val videos are not used; `{command}` writes my set-val.csv, which has them as test videos"
    assert text.splitlines()[1] == line
    assert main(shlex.split(command)[1:]) == 0
    capsys.readouterr()
    cut = load_manifest(tmp_path / "my set-val.csv")
    assert [(v.video, v.split) for v in cut.videos] == [
        ("a/0.mp4", "train"),
        ("a/val.mp4", "test"),
        ("b/0.mp4", "train"),
    ]
    assert not data_size(cut).unused


def test_committed_cut_is_what_the_command_makes():
    paths = list(FOLDER.glob("*-val.csv"))
    assert paths
    for path in paths:
        made = make_val_split(load_manifest(path.with_name(path.name.replace("-val", ""))))
        assert load_manifest(path) == made
        assert {len({v.group for v in made.split("test") if v.label == label}) for label in made.card.classes} == {4}
