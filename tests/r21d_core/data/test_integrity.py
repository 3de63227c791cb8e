"""What is no whole video is refused, and the error names the file and the reason."""

import os
from contextlib import nullcontext
from fractions import Fraction
from types import SimpleNamespace

import pytest

from r21d_core import R21DError
from r21d_core.data.decode import probe, read_all, read_frames
from r21d_core.data.integrity import check_duration
from tests.bad_videos import BAD_FILES, blocks, cut_off, noise_within, write_video


def write_playlist(path):
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nv.ts\n#EXT-X-ENDLIST\n")


def write_unknown_codec(path):
    write_video(path, blocks(5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"qqq1"))


BAD = {
    "pipe.mp4": (os.mkfifo, "is a pipe"),
    "device.mp4": (lambda path: path.symlink_to("/dev/zero"), "pipe, socket or device"),
    "list.m3u8": (write_playlist, "is a playlist"),
    "concat.mp4": (lambda path: path.write_text("ffconcat version 1.0\nfile v.mp4\n"), "is a playlist"),
    "unknown.mp4": (write_unknown_codec, "codec is unknown"),
    "folder.mp4": (lambda path: path.mkdir(), "is a folder"),
    "text.mp4": (BAD_FILES["text.srt"][0], "no video, only subtitle|not a video"),
    **BAD_FILES,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("how", [probe, lambda path: read_all(path, None), lambda path: read_frames(path, [0], (8, 8))])
def test_bad_file_is_named_and_told_why(tmp_path, name, how):
    make, said = BAD[name]
    make(tmp_path / name)
    with pytest.raises(R21DError, match=said) as error:
        how(tmp_path / name)
    assert name in str(error.value)


WHOLE = {
    "web.mp4": {"movflags": "faststart"},
    "mpeg4.mp4": {"codec": "mpeg4", "movflags": "faststart"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "skipped.avi": {"codec": "mpeg4", "times": [5 * n for n in range(60)]},
    "h264.mkv": {},
    "mpeg4.mkv": {"codec": "mpeg4"},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9", "cpu-used": "8", "deadline": "realtime"},
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_is_cut_off_if_it_lost_its_end(tmp_path, name):
    path = write_video(tmp_path / name, blocks(60, 96, 128), **WHOLE[name])
    found, content = probe(path), path.read_bytes()
    assert (found.frames, found.notes) == (60, ())
    for share in (0.2, 0.33, 0.9, 0.99):
        path.write_bytes(content)
        cut_off(path, share)
        for how in (probe, lambda path: read_all(path, None), lambda path: read_frames(path, [0], (8, 8))):
            with pytest.raises(R21DError, match=f"{name}: cut off.*fetch it again"):
                how(path)


@pytest.mark.parametrize(("format", "codec"), [("avi", "mpeg4"), ("matroska", "mpeg4"), ("webm", "libvpx")])
def test_what_does_not_tell_its_size_is_whole(tmp_path, format, codec):
    """As of a recorder that cannot go back to its header; and the size of an AVI is told in two ways."""
    with open(tmp_path / "live", "wb") as file:
        write_video(SimpleNamespace(write=file.write, parent=tmp_path), blocks(60), codec, format=format)
    found = probe(tmp_path / "live")
    assert (found.frames, found.notes) == (60, ())
    content = (tmp_path / "live").read_bytes()
    if format == "avi":
        (tmp_path / "live").write_bytes(content[:4] + len(content).to_bytes(4, "little") + content[8:])
        assert probe(tmp_path / "live").frames == 60


def test_damage_in_the_middle_is_not_a_lost_end(tmp_path):
    pixels = blocks(60, 96, 128)
    avi = noise_within(write_video(tmp_path / "noise.avi", pixels, "mpeg4"))
    found = probe(avi)
    assert 40 < found.frames < 60 and len(read_all(avi, None)) == found.frames
    assert len(found.notes) == 1 and found.notes[0].startswith(f"damaged: {found.frames} of 60 frames decode, ")
    for name, said in {
        "noise.mp4": r"frame 2\d of 60 does not decode, as the file is damaged",
        "noise.mkv": r"damaged, as only 2\d frames are found, [01]\.\d of 2\.4 seconds",  # a cluster holds them all
    }.items():
        with pytest.raises(R21DError, match=f"{name}: {said}; fetch it again"):
            probe(noise_within(write_video(tmp_path / name, pixels)))


@pytest.mark.parametrize("told", ["", "42", "P0DT0H0M3S", "1:2", "0:0:nan", "-1:00:00", "a:b:c", "1:0:0:0"])
def test_a_length_that_is_told_in_other_words_is_none(tmp_path, told):
    """Of MKV, whose own words are 00:00:02.400000000; a file that is too short by these is damaged."""
    path = write_video(tmp_path / "odd.mkv", blocks(60))
    content = path.read_bytes()
    assert content.count(b"00:00:02.400000000") == 1
    path.write_bytes(content.replace(b"00:00:02.400000000", told.encode().ljust(18, b"\0")))
    assert probe(path).frames == 60
    path.write_bytes(content.replace(b"00:00:02.400000000", b"00:01:02.400000000"))
    with pytest.raises(R21DError, match=r"damaged, as only 60 frames are found, 2\.4 of 62\.4 seconds"):
        probe(path)


@pytest.mark.parametrize(("name", "codec"), [("slides.mkv", "libx264"), ("slides.webm", "libvpx")])
@pytest.mark.parametrize("frames", [1, 6])
def test_long_last_frame_counts_in_the_duration(tmp_path, name, codec, frames):
    path = write_video(tmp_path / name, blocks(frames), codec, rate=1)
    assert probe(path).frames == frames == len(read_all(path, (8, 8)))
    if name.endswith("mkv"):
        content = path.read_bytes()
        stated = f"00:00:{frames:02d}.000000000".encode()
        assert content.count(stated) == 1
        path.write_bytes(content.replace(stated, f"00:00:{frames + 2:02d}.000000000".encode()))
        with pytest.raises(R21DError, match=f"only {frames} frames are found, {frames}.0 of {frames + 2}.0 seconds"):
            probe(path)


@pytest.mark.parametrize(("missing", "is_cut"), [(0, False), (490, False), (510, True)])
def test_seconds_that_an_mkv_may_lack(missing, is_cut):
    """Of one that starts at a second and states more than an hour, in milliseconds."""
    stream = SimpleNamespace(metadata={"DURATION": "01:02:03.500000000"}, time_base=Fraction(1, 1000))
    spans = [(1000, 40), (1000 + 3_723_500 - missing - 40, 40)]
    with pytest.raises(R21DError, match=r"only 2 frames are found, 3723\.0 of 3723\.5") if is_cut else nullcontext():
        check_duration("a.mkv", stream, spans)
