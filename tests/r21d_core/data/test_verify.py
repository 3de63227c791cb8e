"""A verify_videos keeps what decodes, sets the rest aside, and loses no row whatever happens."""

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from r21d_core import R21DError
from r21d_core.data import parallel, verify
from r21d_core.data.manifest import DatasetCard, Video, load_manifest, write_manifest
from r21d_core.data.verify import verify_videos
from tests.bad_videos import BAD_FILES, blocks, write_changing_size, write_garbage, write_video

SOUND = ["a/1.mp4", "a/2.mp4", "a/3.mp4", "b/1.mp4", "b/2.mp4", "b/3.mp4"]  # the third of each is tested


def row(name, label="a", split="train", group=None):
    return Video(name, None, label, split, group or name)


@pytest.fixture(scope="session")
def sound_set(tmp_path_factory):
    """A manifest of six small videos, not checked."""
    folder = tmp_path_factory.mktemp("sound")
    for number, name in enumerate(SOUND):
        write_video(folder / "videos" / name, blocks(8 + number, seed=number))
    rows = [row(name, name[0], "test" if "3" in name else "train") for name in SOUND]
    write_manifest(
        folder / "set.csv", DatasetCard("set", ("a", "b"), expected={"train": 4, "test": 2}, root="videos"), rows
    )
    return folder


@pytest.fixture
def path(sound_set, tmp_path):
    return shutil.copytree(sound_set, tmp_path / "set") / "set.csv"


def add(path, *rows):
    manifest = load_manifest(path)
    write_manifest(path, manifest.card, [*manifest.videos, *rows])


def files(path):
    """Name and content of the manifest, its card and what was set aside."""
    return {file.name: file.read_text() for file in path.parent.iterdir() if file.is_file()}


def set_aside(path):
    with open(path.with_suffix(".quarantine.csv"), newline="", encoding="utf-8") as file:
        return {row["video"]: row for row in csv.DictReader(file)}


def spoil(path, name="a/1.mp4"):
    """Make a video garbage; returns its file and its content before."""
    file = path.parent / "videos" / name
    content = file.read_bytes()
    write_garbage(file)
    return file, content


@pytest.mark.parametrize("workers", [0, 2])
def test_sound_videos_are_counted(path, workers):
    report = verify_videos(str(path), workers=workers)
    videos = load_manifest(path).videos
    assert [video.video for video in videos] == SOUND
    assert [(video.frames, video.fps, video.width, video.height) for video in videos] == [
        (8 + number, 25.0, 64, 48) for number in range(6)
    ]
    assert report.counts == report.expected == {"train": 4, "test": 2} and report.frames == 63
    assert str(report) == f"{path}: 6 videos decode (4 train, 2 test), 63 frames"
    assert not path.with_suffix(".quarantine.csv").exists()


@pytest.mark.parametrize(
    ("fps", "expected"), [(30000 / 1001, 29.97), (24000 / 1001, 23.976), (None, None), (5e-6, None)]
)
def test_frame_rate_is_rounded_to_one_that_can_be_read(path, monkeypatch, fps, expected):
    probed = verify.probe(load_manifest(path).videos[0].path)
    monkeypatch.setattr(verify, "probe", lambda _: replace(probed, fps=fps))
    verify_videos(path)
    assert {video.fps for video in load_manifest(path).videos} == {expected}


def test_all_that_is_bad_is_set_aside_with_a_reason(path):
    for name, (make, _) in BAD_FILES.items():
        make(path.parent / "videos" / name)
    add(path, *(row(name, group=f'of, "{name}"') for name in BAD_FILES))
    report = verify_videos(path)
    assert [video.video for video in load_manifest(path).videos] == SOUND
    aside = set_aside(path)
    assert set(aside) == set(report.bad) == set(BAD_FILES)
    assert [*aside["cut.mp4"].values()] == ["cut.mp4", "a", "train", 'of, "cut.mp4"', report.bad["cut.mp4"]]
    for name, (_, reason) in BAD_FILES.items():
        assert re.search(reason, report.bad[name])
    assert str(path.parent) not in path.with_suffix(".quarantine.csv").read_text()
    assert "quarantine.csv (6):" in str(report) and "and 1 more" in str(report)


def test_what_is_odd_is_kept_and_named(path):
    write_changing_size(path.parent / "videos" / "changing.ts")
    for count in (1, 7, 8):
        write_video(path.parent / "videos" / f"{count}.mp4", blocks(count, seed=50 + count))
    write_video(path.parent / "videos" / "turned.mp4", blocks(3, seed=40), rotation=90)
    add(path, *(row(name) for name in ("changing.ts", "turned.mp4", "1.mp4", "7.mp4", "8.mp4")))
    report = verify_videos(path)
    anew = ", fewer than the paper's clip of 8, which then continues at its first frame"
    assert not report.bad and report.notes == {
        "changing.ts": ("changing resolution",),
        "turned.mp4": ("rotated", f"3 frames{anew}"),
        "1.mp4": (f"1 frame{anew}",),
        "7.mp4": (f"7 frames{anew}",),
    }
    videos = {video.video: video for video in load_manifest(path).videos}
    assert (videos["turned.mp4"].width, videos["turned.mp4"].height) == (48, 64)
    assert "kept, but odd (4):" in str(report) and f"\n  turned.mp4: rotated, 3 frames{anew}" in str(report)
    assert "against the 4 expected in train: 5 more" in str(report)


def test_second_check_changes_nothing(path):
    spoil(path, "a/1.mp4")
    first = verify_videos(path)
    before = files(path)
    assert verify_videos(path) == first and files(path) == before
    assert "against the 4 expected in train: 1 missing" in str(first)


def test_what_decodes_again_comes_back(path):
    broken = path.parent / "videos" / "a" / "1.mp4"
    sound = broken.read_bytes()
    verify_videos(path)
    before = files(path)
    broken.unlink()
    spoil(path, "b/1.mp4")
    assert list(verify_videos(path).bad) == ["a/1.mp4", "b/1.mp4"]
    broken.write_bytes(sound)
    report = verify_videos(path)
    assert report.returned == ("a/1.mp4",) and list(report.bad) == list(set_aside(path)) == ["b/1.mp4"]
    assert "decode now and are included again (1):\n  a/1.mp4" in str(report)
    shutil.copy(path.parent / "videos" / "b" / "2.mp4", path.parent / "videos" / "b" / "1.mp4")
    assert verify_videos(path).returned == ("b/1.mp4",)
    assert files(path).keys() == before.keys()


def test_corrected_row_takes_precedence_over_quarantine(path):
    broken, sound = spoil(path)
    verify_videos(path)
    broken.write_bytes(sound)
    add(path, row("a/1.mp4", "b"))
    report = verify_videos(path)
    assert not report.returned and not report.bad and load_manifest(path).videos[0].label == "b"


@pytest.fixture
def refused(path):
    """Calls `verify_videos`, which must refuse and leave every file as it was; gives what it said."""

    def call(**how):
        before = files(path)
        with pytest.raises(R21DError) as error:
            verify_videos(path, **how)
        assert files(path) == before
        return str(error.value)

    return call


def test_same_content_on_both_sides_is_refused(path, refused):
    shutil.copy(path.parent / "videos" / "a" / "1.mp4", path.parent / "videos" / "copy.mp4")
    shutil.copy(path.parent / "videos" / "b" / "1.mp4", path.parent / "videos" / "other.mp4")
    add(path, row("copy.mp4", split="test"), row("other.mp4", split="test"))
    said = refused()
    assert "the same content in two splits" in said and "(2):\n  a/1.mp4 in train = copy.mp4 in test\n" in said


@pytest.mark.parametrize(
    ("count", "line"),
    [(1, "a/1.mp4 = copy0.mp4"), (8, "a/1.mp4 = copy0.mp4 = copy1.mp4 = copy2.mp4 = copy3.mp4 = 4 more")],
)
def test_copies_in_one_split_are_kept_and_named(path, count, line):
    names = [f"copy{number}.mp4" for number in range(count)]
    for name in names:
        shutil.copy(path.parent / "videos" / "a" / "1.mp4", path.parent / "videos" / name)
    add(path, *(row(name) for name in names))
    report = verify_videos(path)
    assert report.duplicates == (("a/1.mp4", *names),) and len(load_manifest(path).videos) == 6 + count
    assert line in str(report).splitlines()[-1]


def test_group_on_both_sides_is_refused_before_decoding(path, refused, monkeypatch):
    add(path, row("new.mp4", split="test", group="a/1.mp4"))
    monkeypatch.setattr(verify, "probe", None)
    assert "group 'a/1.mp4' is in train (a/1.mp4) and in test (new.mp4)" in refused()


def test_group_that_comes_back_on_the_other_side_is_refused(path, refused):
    broken, sound = spoil(path)
    verify_videos(path)
    manifest = load_manifest(path)
    moved = [replace(video, group="a/1.mp4") if video.video == "a/3.mp4" else video for video in manifest.videos]
    write_manifest(path, manifest.card, moved)
    broken.write_bytes(sound)
    assert "group 'a/1.mp4' is in train (a/1.mp4) and in test (a/3.mp4)" in refused()


@pytest.mark.parametrize("lost", [["b"], ["a", "b"]])
def test_class_that_has_nothing_left_to_train_on_is_refused(path, refused, lost):
    for name in SOUND:
        if name[0] in lost and "3" not in name:
            write_garbage(path.parent / "videos" / name)
    said = refused()
    assert f"no training video of class {lost[0]!r} decodes" in said
    assert f"{lost[0]}/1.mp4: " in said and f"{lost[0]}/2.mp4: " in said and "damaged or not a video" in said


def test_set_of_which_nothing_decodes_is_refused(path, refused):
    shutil.rmtree(path.parent / "videos")
    said = refused()
    assert "none of its videos decodes (6):" in said and "a/1.mp4: no such file" in said and "and 1 more" in said


def test_link_is_refused_instead_of_replaced(path):
    """The file that it points to would stay unchecked, and the link would become a file."""
    links = [path.with_name(f"link{suffix}") for suffix in (".csv", ".json")]
    for link in links:
        link.symlink_to(path.with_suffix(link.suffix))
    before = files(path)
    with pytest.raises(R21DError) as error:
        verify_videos(links[0])
    assert str(error.value).startswith(f"{links[0]}: a symbolic link")
    assert f"check {path.resolve()} itself" in str(error.value)
    assert files(path) == before and all(link.is_symlink() for link in links)


def test_number_of_workers_is_one(refused):
    assert "workers is -1" in refused(workers=-1)


def test_quarantine_file_that_is_broken_is_told(path, refused):
    path.with_suffix(".quarantine.csv").write_text("video,label\nx,y\n")
    assert "set.quarantine.csv, line 1: no column 'split'" in refused()


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_written_when_interrupted(path, monkeypatch, workers):
    before = files(path)
    monkeypatch.setattr(verify, "_verify_video", interrupt)
    with pytest.raises(KeyboardInterrupt):
        verify_videos(path, workers=workers)
    assert files(path) == before


def stop_after(monkeypatch, count):
    """Interrupt `verify_videos` after so many videos, and return the names of those that it decodes."""
    decoded, probe = [], verify.probe

    def probe_or_stop(path):
        if len(decoded) == count:
            interrupt()
        decoded.append(path.relative_to(path.parents[1]).as_posix())
        return probe(path)

    monkeypatch.setattr(verify, "probe", probe_or_stop)
    return decoded


@pytest.fixture
def interrupted(path, monkeypatch):
    """The manifest of a set of which four videos were checked, one of them bad, and the file of that progress."""
    spoil(path, "a/2.mp4")
    before = files(path)
    monkeypatch.setattr(verify, "SAVE_SECONDS", 0)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            verify_videos(path)
    left = files(path)
    progress = path.with_suffix(".checking.jsonl")
    assert left.pop(progress.name).count("\n") == 3 and left == before, "the manifest is as it was"
    return path, progress


def test_interrupted_check_resumes(interrupted, monkeypatch, capsys):
    path, progress = interrupted
    with progress.open("a") as file:
        file.write('["half a li')
    (path.parent / "videos" / "a" / "1.mp4").touch()  # perhaps with another content
    decoded = stop_after(monkeypatch, 99)
    report = verify_videos(path)
    assert decoded == ["a/1.mp4", "a/2.mp4", "b/2.mp4", "b/3.mp4"], "what has changed, was bad or is new"
    assert f"{progress}: 2 of 6 videos were checked earlier and have not changed" in capsys.readouterr().out
    assert not progress.exists() and list(report.bad) == ["a/2.mp4"] and report.frames == 63 - 9
    checked = files(path)
    assert verify_videos(path) == report and files(path) == checked, "as in one go"
    assert decoded[4:] == SOUND, "after a complete check the next one decodes everything"


def test_sigterm_saves_what_is_checked(path):
    """Also what came after the last regular save, here that of the first video, and if a second one comes then."""
    code = """if True:
        import os, signal, sys
        from r21d_core.cli import main
        from r21d_core.data import verify
        probe, append, probed, verify.SAVE_SECONDS = verify.probe, verify._append, [], 0

        def probe_or_end(path):
            probed.append(path)
            if len(probed) == 2:
                verify.SAVE_SECONDS = 99
            if len(probed) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return probe(path)

        def append_after_signal(path, lines):
            if len(probed) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            append(path, lines)

        verify.probe, verify._append = probe_or_end, append_after_signal
        sys.exit(main(["check", sys.argv[1]]))
    """
    before = files(path)
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 128 + signal.SIGTERM
    left = files(path)
    assert left.pop("set.checking.jsonl").count("\n") == 3 and left == before


def test_file_of_another_size_is_decoded_again(interrupted, monkeypatch):
    """Such as one that was copied with its time, but not to its end."""
    path, _ = interrupted
    file = path.parent / "videos" / "a" / "1.mp4"
    stat = file.stat()
    file.write_bytes(file.read_bytes()[:-1])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    add(path, row("nu\0ll.mp4"))  # no such path can be looked at
    decoded = stop_after(monkeypatch, 99)
    report = verify_videos(path)
    assert "a/1.mp4" in decoded and "b/1.mp4" not in decoded and "nu\0ll.mp4" in report.bad


def test_refused_check_is_not_repeated(interrupted, monkeypatch):
    """Once the rows are corrected: the same content in two splits is found after an hour of decoding."""
    path, progress = interrupted
    shutil.copy(path.parent / "videos" / "a" / "1.mp4", path.parent / "videos" / "copy.mp4")
    manifest = load_manifest(path)
    write_manifest(path, manifest.card, [*manifest.videos, row("copy.mp4", split="test")])
    with pytest.raises(R21DError, match="the same content in two splits"):
        verify_videos(path)
    assert progress.exists()
    write_manifest(path, manifest.card, manifest.videos)
    decoded = stop_after(monkeypatch, 9)
    verify_videos(path)
    assert decoded == ["a/2.mp4"] and not progress.exists()


def test_progress_that_cannot_be_written_is_named(path, monkeypatch):
    monkeypatch.setattr(verify, "SAVE_SECONDS", 0)
    path.with_suffix(".checking.jsonl").symlink_to(path.parent / "gone" / "x")
    with pytest.raises(R21DError, match=r"set\.checking\.jsonl: could not be written \(No such file"):
        verify_videos(path)


def test_progress_that_cannot_be_read_is_named(path):
    path.with_suffix(".checking.jsonl").mkdir()
    with pytest.raises(R21DError, match=r"set\.checking\.jsonl: could not be read \(Is a directory\); remove it"):
        verify_videos(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: [row[0], "12", *row[2:]], lambda row: [[row[0]], *row[1:]], lambda row: [*row[:3], ["x"], row[4]],
        lambda row: [*row[:4], row[4] | {"frames": "12"}], lambda row: [*row[:4], row[4] | {"fps": "25"}],
        lambda row: [*row[:4], row[4] | {"width": None}], lambda row: [*row[:4], row[4] | {"notes": [1]}],
        lambda row: [*row[:4], row[4] | {"fps": math.nan}], lambda row: [*row[:4], row[4] | {"length": 1}],
        lambda row: row[:4], lambda row: row[4], lambda row: [*row[:4], row[4] | {"frames": 0}],
    ],
)  # fmt: skip
def test_edited_progress_is_named_by_its_line(interrupted, change):
    path, progress = interrupted
    first, second, *rest = progress.read_text().splitlines(keepends=True)
    progress.write_text("".join([first, json.dumps(change(json.loads(second))) + "\n", *rest]))
    before = files(path)
    with pytest.raises(R21DError, match=r"set\.checking\.jsonl: line 2: expected .*; remove the line, and that video"):
        verify_videos(path)
    assert files(path) == before
    progress.write_text("".join([first, *rest]))
    assert verify_videos(path).frames == 63 - 9


def test_crash_between_two_writings_loses_no_row(path, monkeypatch):
    broken, sound = spoil(path)
    verify_videos(path)
    broken.write_bytes(sound)
    spoil(path, "b/1.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(verify, "write_manifest", interrupt)
        with pytest.raises(KeyboardInterrupt):
            verify_videos(path)
    assert {*(video.video for video in load_manifest(path).videos), *set_aside(path)} == set(SOUND)
    report = verify_videos(path)
    assert list(report.bad) == ["b/1.mp4"] and [video.video for video in load_manifest(path).videos] == [
        name for name in SOUND if name != "b/1.mp4"
    ]


def test_few_videos_start_no_process_and_many_do(path, monkeypatch):
    started = []
    monkeypatch.setattr(parallel, "available_cpus", lambda: started.append(1) or 1)
    verify_videos(path)
    assert not started
    monkeypatch.setattr(parallel, "MIN_ITEMS", 6)
    verify_videos(path)
    assert started
