"""A manifest says what it was given, whatever the names, and every fault in one is told with file and line."""

import gc
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data import manifest as manifests
from r21d_core.data.manifest import (
    DatasetCard,
    Video,
    check_no_leaks,
    describe_recordings,
    load_manifest,
    write_manifest,
)
from r21d_core.data.rows import write_rows

HOWTO = Path(__file__).parents[3] / "docs" / "howto.md"

CARD = DatasetCard(
    "set", ("a", "b"), "made up", "none", {"train": 2, "test": 1}, "videos", {"letters": ("a", "b")}, "25"
)


def video(name, label="a", split="train", group=None, **numbers):
    return Video(name, None, label, split, group or name, **numbers)


VIDEOS = [video("a/1.mp4"), video("b/1.mp4", "b"), video("a/2.mp4", split="test")]
LINES = "video,label,split,group\na/1.mp4,a,train,1\nb/1.mp4,b,train,2\na/2.mp4,a,test,3\n"


@pytest.fixture
def path(tmp_path):
    """A sound manifest, which tests then spoil."""
    write_manifest(tmp_path / "set.csv", CARD, VIDEOS)
    (tmp_path / "set.csv").write_text(LINES)
    return tmp_path / "set.csv"


def test_manifest_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "set.csv"
    videos = [replace(VIDEOS[0], frames=9, fps=29.97, width=64, height=48), *VIDEOS[1:]]
    write_manifest(path, CARD, videos)
    manifest = load_manifest(path)
    root = (path.parent / "videos").resolve()
    assert manifest.card == CARD
    assert list(manifest.videos) == sorted((replace(each, root=root) for each in videos), key=lambda each: each.video)
    assert [each.video for each in manifest.split("test")] == ["a/2.mp4"]


def test_columns_of_the_index_are_there_only_if_it_is(tmp_path):
    write_manifest(tmp_path / "set.csv", CARD, VIDEOS)
    assert (tmp_path / "set.csv").read_text().splitlines()[0] == "video,label,split,group"
    write_manifest(tmp_path / "set.csv", CARD, [replace(each, frames=3) for each in VIDEOS])
    assert (tmp_path / "set.csv").read_text().splitlines()[:2] == [
        "video,label,split,group,frames,fps,width,height",
        "a/1.mp4,a,train,a/1.mp4,3,,,",
    ]


def test_root_of_an_unknown_user_is_a_folder_that_is_missing(path):
    """Such as of a manifest that was written on another machine."""
    card = load_manifest(path).card
    write_manifest(path, replace(card, root="~no-such-user/videos"), load_manifest(path).videos)
    assert load_manifest(path).root.parts[-2:] == ("~no-such-user", "videos")


@pytest.mark.parametrize("root", ["/far/away", "~"])
def test_root_may_be_absolute_and_lie_elsewhere(tmp_path, monkeypatch, root):
    monkeypatch.setenv("HOME", "/far/away")
    write_manifest(tmp_path / "set.csv", replace(CARD, root=root), VIDEOS)
    assert load_manifest(tmp_path / "set.csv").videos[0].path.as_posix() == "/far/away/a/1.mp4"


LABELS = ["with, comma", 'with "quotes"', "Übung 体操 🤸", "a;b\tc", "two\nlines", " spaces ", "'=1+1"]


@pytest.mark.parametrize("label", LABELS)
def test_odd_labels_survive(tmp_path, label):
    card = DatasetCard("set", (label, "b"))
    write_manifest(tmp_path / "set.csv", card, [video(f"{label}/1.mp4", label, group=label), video("2.mp4", "b")])
    manifest = load_manifest(tmp_path / "set.csv")
    assert manifest.card == card
    odd = next(each for each in manifest.videos if each.label == label)
    assert (odd.video, odd.group, odd.path.name) == (f"{label}/1.mp4", label, "1.mp4")


HEADER, *ROWS = LINES.splitlines(keepends=True)
EQUAL = {
    "Windows line ends": LINES.replace("\n", "\r\n"),
    "byte-order mark": "\ufeff" + LINES,
    "blank lines": LINES.replace("\n", "\n\n") + ",,,\n",
    "spaces in the header": LINES.replace("label", " label "),
    "no last line end": LINES.removesuffix("\n"),
    "order of rows": HEADER + "".join(ROWS[::-1]),
}


@pytest.mark.parametrize("kind", EQUAL)
def test_form_of_the_file_changes_nothing(path, kind):
    before = load_manifest(path)
    path.write_bytes(EQUAL[kind].encode())
    assert load_manifest(path) == before and load_manifest(path).fingerprint == before.fingerprint


def test_fingerprint_is_computed_once(path, monkeypatch):
    """Each checkpoint has it, and it is of all rows."""
    manifest, dumps = load_manifest(path), Mock(wraps=json.dumps)
    monkeypatch.setattr("r21d_core.data.manifest.json.dumps", dumps)
    assert len({manifest.fingerprint for _ in range(3)}) == 1
    assert dumps.call_count == 1 + len(manifest.videos)


def test_fingerprint_is_of_the_content_not_of_the_place(path, tmp_path):
    before = load_manifest(path).fingerprint
    other = tmp_path / "else" / "other.csv"
    write_manifest(other, replace(CARD, root="/elsewhere", source=""), load_manifest(path).videos)
    assert load_manifest(other).fingerprint == before
    first, *rest = load_manifest(path).videos
    changes = {"video": "0", "label": "b", "split": "val", "group": "7", "frames": 9}
    others = [replace(load_manifest(path), videos=(replace(first, **{key: changes[key]}), *rest)) for key in changes]
    others += [replace(load_manifest(path), card=replace(CARD, classes=("b", "a")))]
    assert len({before, *(manifest.fingerprint for manifest in others)}) == 7


CARD_FAULTS = {
    "not JSON": ("{", "expected a JSON card"),
    "a list": ("[]", "no 'name'"),
    "no classes": ('{"name": "set"}', "no 'classes'"),
    "unknown key": ('{"name": "set", "classes": ["a", "b"], "license": ""}', "unknown key 'license'"),
    "classes no list": ('{"name": "set", "classes": "ab"}', "'classes' is 'ab', expected a list"),
    "class twice": ('{"name": "set", "classes": ["a", "b", "a"]}', "a class is listed twice"),
    "name of a path": ('{"name": "../set", "classes": ["a", "b"]}', "'name' is '../set', expected a name"),
    "unknown split": ('{"name": "set", "classes": ["a", "b"], "expected": {"tests": 1}}', "'tests'"),
    "count as text": ('{"name": "set", "classes": ["a", "b"], "expected": {"test": "1"}}', "a whole number for each"),
    "numbers as classes": ('{"name": "set", "classes": [1, 2]}', "expected names in quotation marks"),
    "family of no list": ('{"name": "set", "classes": ["a", "b"], "families": {"f": "ab"}}', "expected names in quot"),
    "family of others": ('{"name": "set", "classes": ["a", "b"], "families": {"f": ["a", "c"]}}', "'families' has 'c'"),
}
ROW_FAULTS = {
    "duplicate row": (LINES + "a/1.mp4,a,train,1\n", "line 5.*'a/1.mp4' is listed twice.*line 2"),
    "duplicate by another path": (LINES + "b/../a/1.mp4,a,train,1\n", "line 5.*is listed twice"),
    "class tested only": (LINES.replace("b,train", "b,test"), "line 3.*'b' is in test, and no video of it in train"),
    "unknown label": (LINES.replace(",b,", ",c,"), r"line 3: label 'c'.*set\.json"),
    "unknown split": (LINES.replace("test", "tset"), "line 4: split 'tset', expected one of train, val, test"),
    "no column": (LINES.replace("group", "grp"), "line 1: no column 'group'"),
    "unknown column": (LINES.replace("group\n", "group,fsp\n"), "line 1: column 'fsp' is unknown"),
    "column twice": (LINES.replace("group\n", "group,group\n"), "line 1: column 'group' is .* duplicated"),
    "too few cells": (LINES.replace(",3\n", "\n"), "line 4: 3 cells, expected 4"),
    "unquoted comma": (LINES.replace(",3\n", ",3,3\n"), "line 4: 5 cells, expected 4"),
    "open quote": (LINES.replace(",3\n", ',"3\n'), "line 4: not CSV"),
    "empty cell": (LINES.replace(",a,train", ",,train"), "line 2: column 'label' is empty"),
    "no rows": ("video,label,split,group\n", "lists no video"),
    "empty file": ("", "the file is empty; expected columns video, label, split, group"),
    "other column": (
        "video,label,split,group,viewpoint\n1,a,train,1,left\n",
        "line 1: column 'viewpoint' is unknown or duplicated; "
        "known: video, label, split, group, frames, fps, width, height; keep other columns in another file",
    ),
    "no number": ("video,label,split,group,frames\n1,a,train,1,many\n", "line 2: frames is 'many', expected a number"),
    "no frames": ("video,label,split,group,frames\n1,a,train,1,0\n", "line 2: frames is '0', expected more than 0"),
    "no rate": ("video,label,split,group,fps\n1,a,train,1,nan\n", "line 2: fps is 'nan'"),
}


FAULTS = {"set.csv": ROW_FAULTS, "set.json": CARD_FAULTS}


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults])
def test_fault_is_told_with_file_and_line(path, name, fault):
    text, said = FAULTS[name][fault]
    path.with_name(name).write_text(text)
    with pytest.raises(R21DError, match=f"{name}.*{said}"):
        load_manifest(path)
    assert path.with_name(name).read_text() == text


@pytest.mark.parametrize("lists", ["labels.csv", "labels without splits", "mmaction2"])
def test_code_of_the_howto_makes_a_manifest_of_labels(lists, tiny_manifest, tmp_path, monkeypatch):
    """From files in one folder."""
    section = HOWTO.read_text().split("\n### Labels in a CSV or JSON file")[1].split("\n## ")[0]
    code, of_lists = re.findall(r"```python\n(.*?)```", section, re.S)
    monkeypatch.chdir(tmp_path)
    tiny = load_manifest(tiny_manifest)
    Path("videos").mkdir()
    for each in tiny.videos:
        shutil.copy(each.path, Path("videos", each.path.name))
    rows = [(each.path.name, each.label, each.split, each.group) for each in tiny.videos]
    columns = ("path", "label", "group") if "without" in lists else ("path", "label", "split", "group")
    kept = [0, 1, 3] if "without" in lists else range(4)
    write_rows(Path("labels.csv"), columns, ([row[number] for number in kept] for row in rows))
    exec(code, {})
    if lists == "mmaction2":
        Path("data/mine.csv").unlink()
        numbers = {"dark": "0", "bright": "1"}
        for split in ("train", "test"):
            lines = [f"{path} {numbers[label]}\n" for path, label, of, _ in rows if of == split]
            Path(f"{split}.txt").write_text("".join(lines))
        before, after = re.split(r"with open.*?\n(?=root)", code, flags=re.S)
        exec(before + of_lists + after, {})
    assert main(["check", "data/mine.csv", "--workers", "0"]) == 0
    manifest = load_manifest("data/mine.csv")
    check_no_leaks(manifest)
    found = [(each.video, each.label, each.split, each.group) for each in manifest.videos]
    if lists == "labels.csv":
        assert found == sorted(rows)
    elif lists == "mmaction2":
        assert found == sorted((path, numbers[label], split, path) for path, label, split, _ in rows)
    else:
        assert [each[:2] + each[3:] for each in found] == sorted(each[:2] + each[3:] for each in rows)
        assert [each.group for each in manifest.split("test")] == ["g06", "g07"], "the fourth of six of each class"
    assert all(each.frames for each in manifest.videos)


def test_file_in_another_encoding_is_told(path):
    path.write_bytes(LINES.replace("a/2", "ä/2").encode("latin-1"))
    with pytest.raises(R21DError, match=r"set\.csv: expected a CSV file in UTF-8"):
        load_manifest(path)


def test_missing_manifest_and_card_are_errors(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with pytest.raises(R21DError, match=rf"^{path.with_name('new.csv')}: no such file; `r21d manifest`"):
        load_manifest("new.csv")
    path.with_suffix(".json").unlink()
    with pytest.raises(R21DError, match=r"set\.json: no such file; a manifest needs its card"):
        load_manifest(path)


UNWRITABLE = {
    "lists no video": [],
    "is listed twice": [*VIDEOS, VIDEOS[0]],
    "label 'c'": [*VIDEOS, video("c.mp4", "c")],
    "split 'dev'": [*VIDEOS, video("c.mp4", split="dev")],
    "'b' is in test, and no video": [VIDEOS[0], replace(VIDEOS[1], split="test")],
    "column 'group' is empty": [*VIDEOS, video("c.mp4", group=" ")],
    r"video 'a\\rb' has a character that CSV cannot hold; rename it": [*VIDEOS, video("a\rb", group="c")],
    r"group 'a\\udce9b' has a character that CSV cannot hold": [*VIDEOS, video("c", group="a\udce9b")],
}


@pytest.mark.parametrize(("said", "videos"), UNWRITABLE.items(), ids=range(len(UNWRITABLE)))
def test_what_could_not_be_loaded_is_not_written(path, said, videos):
    before = path.read_text(), path.with_suffix(".json").read_text()
    with pytest.raises(R21DError, match=rf"set\.csv.*{said}"):
        write_manifest(path, replace(CARD, name="new"), videos)
    assert (path.read_text(), path.with_suffix(".json").read_text()) == before


def test_set_to_be_tested_alone_needs_no_training_side(path):
    path.write_text(LINES.replace("train", "test"))
    manifest = load_manifest(path)
    assert len(manifest.split("test")) == 3
    with pytest.raises(R21DError, match=r"set\.csv: no row has split 'train'"):
        manifest.split("train")


@pytest.mark.parametrize("enabled", [True, False])
def test_loading_leaves_the_collector_as_it_was(path, enabled):
    try:
        gc.enable() if enabled else gc.disable()
        load_manifest(path)
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


def test_card_may_say_no_more_than_name_and_classes(path):
    path.with_suffix(".json").write_text(json.dumps({"name": "set", "classes": ["a", "b"]}))
    assert load_manifest(path).card == DatasetCard("set", ("a", "b"))


def test_recordings_are_counted_once_a_split(monkeypatch):
    """And not for each of its classes, which takes a minute for Kinetics' 400."""
    counted = []
    monkeypatch.setattr(manifests, "Counter", lambda items: counted.append(1) or Counter(items))
    videos = [video(f"{n}/{m}.mp4", str(n), split) for n in range(50) for m, split in enumerate(("train", "test"))]
    line = describe_recordings([*videos, video("0/2.mp4", "0")])
    assert line == "recordings: 51 train (1 or more of each class), 50 test (1 or more of each class)"
    assert len(counted) <= 3, "the splits' videos, and the recordings of each of two"
