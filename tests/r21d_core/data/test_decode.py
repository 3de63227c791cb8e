"""Frame n is frame n, however the file is coded and wherever decoding begins; a bad file is named and told why."""

import av
import numpy as np
import psutil
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.data.decode import iter_timed_frames, probe, read_all, read_frames
from r21d_core.data.video_file import VideoFile
from tests.bad_videos import blocks, mutate, write_changing_size, write_display_matrix, write_video

FRAMES = 30
# The encoder left alone would see a cut in every frame, and use neither B-frames nor long groups.
H264 = {"sc_threshold": "0", "b_strategy": "0"}
SOUND_FILES = {
    "h264.mp4": H264 | {"bf": "3", "g": "7"},
    "h264.mkv": H264 | {"bf": "2", "g": "5"},
    "opengop.mp4": H264 | {"bf": "3", "g": "8", "x264-params": "open-gop=1"},
    "onegop.mov": H264 | {"bf": "0", "g": "250"},
    "gaps.mp4": H264 | {"bf": "3", "g": "6", "times": [n * (n + 1) // 2 for n in range(FRAMES)]},
    "h264.ts": H264 | {"bf": "2", "g": "6"},
    "mpeg4.avi": {"codec": "mpeg4", "g": "9"},
    "mpeg4.mp4": {"codec": "mpeg4", "bf": "2", "g": "6", "sc_threshold": "1000000000"},
    "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2", "g": "6", "sc_threshold": "1000000000"},
}


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    pixels = blocks(FRAMES)
    return {name: write_video(folder / name, pixels, **how) for name, how in SOUND_FILES.items()}


@pytest.mark.parametrize("name", SOUND_FILES)
def test_every_frame_is_read_in_the_order_it_is_shown(sound_files, name):
    frames = read_all(sound_files[name], None)
    found = probe(sound_files[name])
    assert frames.shape == (FRAMES, 48, 64, 3) and frames.dtype == np.uint8
    assert (found.frames, found.height, found.width, found.notes) == (FRAMES, 48, 64, ())
    # Frames share nothing, so that each is nearest to the one it was made from.
    made = blocks(FRAMES).astype(int)
    nearest = [np.abs(made - frame).mean((1, 2, 3)).argmin() for frame in frames]
    assert nearest == list(range(FRAMES))


def test_files_have_what_makes_counting_hard(sound_files):
    kinds = {}
    for name, path in sound_files.items():
        with av.open(path) as container:
            kinds[name] = "".join(PictureType(frame.pict_type).name for frame in container.decode(video=0))
    for name, kind in kinds.items():
        assert ("B" in kind) == (SOUND_FILES[name].get("bf", "0") != "0"), (name, kind)
        assert (kind.count("I") > 2) == (name != "onegop.mov"), (name, kind)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(SOUND_FILES)),
    st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=12),
    st.sampled_from([None, (18, 24)]),
)
def test_chosen_frames_are_those_of_the_whole(sound_files, name, indices, size):
    whole = read_all(sound_files[name], size)
    np.testing.assert_array_equal(read_frames(sound_files[name], indices, size), whole[indices])


@pytest.fixture
def packets_read(monkeypatch):
    """The (section, packets) of each file that is read from now on."""
    reads = []

    def counting(video, section, read=VideoFile.read_packets):
        packets, first = read(video, section)
        before = video.packets_read - 1  # the first packet of an MP4 is read to see whether it is an IDR picture
        reads.append((section, lambda: video.packets_read - before))
        return packets, first

    monkeypatch.setattr(VideoFile, "read_packets", counting)
    return reads


def test_no_frames_are_none():
    assert read_frames("nowhere.mp4", [], (4, 6)).shape == (0, 4, 6, 3)


@pytest.mark.parametrize(("number", "said"), [(FRAMES, f"no frame {FRAMES}.* {FRAMES} frames"), (-1, "no frame -1")])
@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.avi"])
def test_frame_that_is_not_there_is_an_error(sound_files, name, number, said):
    with pytest.raises(R21DError, match=said) as error:
        read_frames(sound_files[name], [0, number], None)
    assert name in str(error.value)


def test_changing_resolution_is_read_in_one_size_and_noted(tmp_path):
    path = write_changing_size(tmp_path / "changing.ts")
    found, frames = probe(path), read_all(path, (24, 32))
    assert found.notes == ("changing resolution",)
    # FFmpeg's MPEG-2 decoder does not show the last picture before the change; frames are those that it shows.
    assert found.frames == len(frames) == 19
    small, large = blocks(10, seed=1).mean((1, 2)), blocks(10, 80, 96, seed=2).mean((1, 2))
    assert np.abs(frames.mean((1, 2)) - np.concatenate([small[:9], large])).max() < 6
    np.testing.assert_array_equal(read_frames(path, [3, 15], (24, 32)), frames[[3, 15]])


@pytest.mark.parametrize(("height", "width"), [(47, 63), (1, 1), (17, 240), (240, 17)])
def test_odd_sizes_are_decoded_and_scaled(tmp_path, height, width):
    path = write_video(tmp_path / "odd.mkv", blocks(4, height, width), "ffv1", pix_fmt="yuv444p")
    found = probe(path)
    assert (found.height, found.width, found.frames) == (height, width, 4)
    assert np.abs(read_all(path, None).astype(int) - blocks(4, height, width)).max() <= 4
    assert read_frames(path, [2], (33, 35)).shape == (1, 33, 35, 3)


DISPLAYS = {
    "rotated by 90": ((0, -1, 1, 0), lambda frames: np.rot90(frames, 1, (1, 2))),
    "rotated by 180": ((-1, 0, 0, -1), lambda frames: np.rot90(frames, 2, (1, 2))),
    "rotated by -90": ((0, 1, -1, 0), lambda frames: np.rot90(frames, -1, (1, 2))),
    "mirrored in x": ((-1, 0, 0, 1), lambda frames: np.flip(frames, 2)),
    "mirrored in y": ((1, 0, 0, -1), lambda frames: np.flip(frames, 1)),
}


@pytest.mark.parametrize("name", DISPLAYS)
def test_display_matrix_is_applied_as_by_ffmpeg(tmp_path, name):
    matrix, display = DISPLAYS[name]
    plain = write_video(tmp_path / "plain.mp4", blocks(20), g="6", sc_threshold="0")
    path, expected = write_display_matrix(plain, tmp_path / "copy.mp4", matrix), display(read_all(plain, None))
    found = probe(path)
    assert (found.height, found.width) == expected.shape[1:3] and found.notes == (name.split()[0],)
    np.testing.assert_array_equal(read_all(path, None), expected)
    np.testing.assert_array_equal(read_frames(path, [15, 3], None), expected[[15, 3]])


def test_names_that_look_like_addresses_or_are_not_ascii(tmp_path):
    for name in ("http: no.mp4", "Übung, “1”.mp4", "100%d.mp4"):
        assert probe(write_video(tmp_path / "plain.mp4", blocks(2)).rename(tmp_path / name)).frames == 2


@pytest.mark.parametrize(
    ("name", "longest"), [("h264.mp4", 7), ("gaps.mp4", 6), ("onegop.mov", 30), ("opengop.mp4", 30)]
)
def test_mp4_is_read_around_the_wanted_frames_only(sound_files, name, longest, packets_read):
    """Files with open groups, which the index does not tell from closed ones, are read from the beginning."""
    whole = read_all(sound_files[name], None)
    for number in range(FRAMES):
        packets_read.clear()
        np.testing.assert_array_equal(read_frames(sound_files[name], [number], None)[0], whole[number])
        ((_, count),) = packets_read
        assert count() <= longest + 3, "the group, and what the decoder needs of the next one"


def test_distant_frames_are_read_from_their_groups(sound_files, packets_read):
    whole = read_all(sound_files["h264.mp4"], None)
    packets_read.clear()
    np.testing.assert_array_equal(read_frames(sound_files["h264.mp4"], [29, 0, 1], None), whole[[29, 0, 1]])
    assert [section for section, _ in packets_read] == [0, 4]


def test_frames_before_the_cut_of_an_edit_are_not_counted(tmp_path):
    """A file that begins with a negative time, as one cut without encoding does: its index holds frames not shown."""
    path = write_video(tmp_path / "whole.mp4", blocks(30), g="10", bf="2", sc_threshold="0", b_strategy="0")
    with av.open(path) as source, av.open(tmp_path / "cut.mp4", "w", options={"use_editlist": "1"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - 4 * packet.duration, packet.dts - 4 * packet.duration
                packet.stream = stream
                container.mux(packet)
    whole = read_all(tmp_path / "cut.mp4", None)
    assert len(whole) == 26
    np.testing.assert_array_equal(whole, read_all(path, None)[4:])
    for number in range(26):
        np.testing.assert_array_equal(read_frames(tmp_path / "cut.mp4", [number], None)[0], whole[number])


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(SOUND_FILES)), st.integers(0, 2**32), st.lists(st.integers(0, 99), min_size=1, max_size=5)
)
def test_damaged_file_gives_one_answer(sound_files, tmp_path_factory, name, seed, indices):
    """What decodes as a whole gives the same frames alone; what does not is refused by all, with the file's name."""
    path = tmp_path_factory.getbasetemp() / f"mutated.{name}"
    path.write_bytes(mutate(sound_files[name].read_bytes(), seed))
    try:
        found = probe(path)
    except R21DError:
        with pytest.raises(R21DError, match=path.name):
            read_all(path, (18, 24))
        return
    whole = read_all(path, (18, 24))
    assert len(whole) == found.frames
    indices = [index % len(whole) for index in indices]
    np.testing.assert_array_equal(read_frames(path, indices, (18, 24)), whole[indices])


@pytest.mark.parametrize(("format", "jumps"), [("mpegts", True), ("mp4", False)])
def test_clock_jump_goes_on_at_the_mean_rate(tmp_path, format, jumps):
    """Of an MPEG stream; in an MP4 the picture stays."""
    times = [*range(25), *range(100_000, 100_025)]
    path = write_video(tmp_path / "jump", blocks(50), times=times, format=format, bf="0")
    seconds = [float(second) for second, _ in iter_timed_frames(path, (8, 8))]
    expected = np.arange(51) / 25 if jumps else np.array([*times, 100_025]) / 25
    np.testing.assert_allclose(np.subtract(seconds, seconds[0]), expected, atol=0.05)
    assert probe(path).notes == (("its clock jumps at frame 25",) if jumps else ())


def test_memory_does_not_grow_with_the_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 512, 512, 3), np.uint8)
    path = write_video(
        tmp_path / "noise.mkv", np.concatenate([frames] * 5), "mjpeg", pix_fmt="yuvj444p", qmin="1", qmax="1"
    )
    process, size = psutil.Process(), path.stat().st_size
    before = process.memory_info().rss
    peak = max(process.memory_info().rss for _ in iter_timed_frames(path, (8, 8)))
    assert size > 50e6 and peak - before < 0.3 * size


def test_more_frames_than_packets_are_read(tmp_path):
    """As damage that joins two frames' data in an AVI gives; frames are counted as they come."""
    path = write_video(tmp_path / "a.avi", blocks(40), "mpeg4")
    whole = read_all(path, (8, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoFile, "expected_frames", 3)
        np.testing.assert_array_equal(read_all(path, (8, 8)), whole)
