"""A campaign over damaged files and killed processes; R21D_CAMPAIGN=2000 sets the number of files."""

import os
import random

import numpy as np
import pytest

from r21d_core.cli import main
from r21d_core.data.decode import read_all, read_frames
from r21d_core.data.manifest import load_manifest
from r21d_core.data.verify import COLUMNS, read_rows
from r21d_core.engine.train import train
from r21d_core.study.spec import Spec
from tests.bad_videos import blocks, mutate, write_video
from tests.r21d_core.data.test_parallel import children_after_kill

FILES = int(os.environ.get("R21D_CAMPAIGN", "40"))
WORKERS = 2 if FILES > 100 else 0  # of a stream, which take seconds to start
KILLS = max(FILES * 30 // 2000, 2)
SPEC = Spec(
    data="set", profile="demo", variant="R3D", depth=10, width=2, frames=4, frame_height=18, frame_width=24, crop=16,
    epochs=1, clips_per_epoch=64, batch_size=8, eval_clips=2, lr=0.01, warmup_epochs=0,
)  # fmt: skip
KINDS = {
    "h264.mp4": {"bf": "2", "g": "8", "sc_threshold": "0", "b_strategy": "0"},
    "opengop.mov": {"bf": "3", "g": "6", "x264-params": "open-gop=1"},
    "h264.mkv": {"bf": "2", "g": "8", "sc_threshold": "0"},
    "h264.ts": {"g": "8", "sc_threshold": "0"},
    "mpeg4.avi": {"codec": "mpeg4", "g": "9"},
    "mpeg4.mp4": {"codec": "mpeg4", "bf": "2", "g": "6", "sc_threshold": "1000000000"},
    "vp8.webm": {"codec": "libvpx"},
    "web.mp4": {"g": "8", "movflags": "faststart", "x264-params": "repeat-headers=1"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of two classes with FILES damaged videos and a few sound ones in train and test."""
    root = tmp_path_factory.mktemp("campaign") / "set"
    sound = {name: write_video(root.parent / name, blocks(24), **how).read_bytes() for name, how in KINDS.items()}
    for split in ("train", "test"):
        for label in "ab":
            for number in range(4):
                write_video(
                    root / split / label / f"sound{number}.mp4",
                    blocks(20, seed=ord(label) + number * 7 + 100 * len(split)),
                )
    contents = set()
    for number in range(FILES):
        name = list(KINDS)[number % len(KINDS)]
        content, seed = mutate(sound[name], number), number
        while content in contents:  # copies in two splits would be refused
            seed += FILES
            content = mutate(sound[name], seed)
        contents.add(content)
        target = root / ("train", "test")[number % 5 == 0] / "ab"[number // 8 % 2]
        (target / f"{number:05d}-{name}").write_bytes(content)
    return root


@pytest.mark.slow
def test_damaged_files_are_kept_or_set_aside_and_read_alike(folder, tmp_path):
    path = tmp_path / "set.csv"
    assert main(["manifest", "folder", str(folder), "--out", str(path)]) == 0
    listed = {video.video for video in load_manifest(path).videos}
    assert main(["check", str(path), "--workers", "2"]) == 0
    manifest = load_manifest(path)
    quarantine = path.with_suffix(".quarantine.csv")
    bad = {cells[0] for _, cells in read_rows(quarantine, COLUMNS)} if quarantine.exists() else set()
    kept = {video.video for video in manifest.videos}
    assert kept | bad == listed and not kept & bad
    chance = random.Random(0)
    for video in manifest.videos:
        whole = read_all(video.path, (18, 24))
        assert len(whole) == video.frames
        indices = [chance.randrange(video.frames) for _ in range(4)]
        np.testing.assert_array_equal(read_frames(video.path, indices, (18, 24)), whole[indices])
    scores = [
        train(SPEC, manifest, tmp_path / cache, device="cpu", cache=cache, workers=WORKERS).scores
        for cache in ("host", "stream")
    ]
    np.testing.assert_array_equal(scores[0].logits, scores[1].logits)
    assert sorted(scores[0].videos) == sorted(video.video for video in manifest.split("test"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_kill_leaves_no_process(folder, tmp_path, number):
    root, path = str(folder), str(tmp_path / "set.csv")
    command = [
        ["check", path, "--workers", "2"],
        ["prepare", path, "--workers", "2", "--height", "48", "--width", "64"],
    ]
    calls = [["manifest", "folder", root, "--out", path], *[command[number % 2]] * 9]
    assert not children_after_kill(f"from r21d_core.cli import main\nfor call in {calls!r}: main(call)")
