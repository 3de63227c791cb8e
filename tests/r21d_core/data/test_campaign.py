"""A campaign over damaged files; R21D_CAMPAIGN=2000 sets the number of files."""

import os
import random

import numpy as np
import pytest

from r21d_core.cli import main
from r21d_core.data.decode import read_all, read_frames
from r21d_core.data.manifest import load_manifest
from r21d_core.data.rows import read_rows
from r21d_core.data.verify import COLUMNS
from r21d_core.engine.train import train
from r21d_core.study.spec import Spec
from tests.bad_videos import blocks, mutate, write_video
from tests.r21d_core.data.test_decode import FRAMES, SOUND_FILES

FILES = int(os.environ.get("R21D_CAMPAIGN", "40"))
WORKERS = 2 if FILES > 100 else 0  # of a stream, which take seconds to start
SPEC = Spec(
    data="set", profile="demo", variant="R3D", depth=10, width=2, frames=4, frame_height=18, frame_width=24, crop=16,
    epochs=1, clips_per_epoch=64, batch_size=8, eval_clips=2, lr=0.01, warmup_epochs=0,
)  # fmt: skip
KINDS = SOUND_FILES | {
    "vp8.webm": {"codec": "libvpx"},
    "web.mp4": {"g": "8", "movflags": "faststart", "x264-params": "repeat-headers=1"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of two classes with FILES damaged videos and a few sound ones in train and test."""
    root = tmp_path_factory.mktemp("campaign") / "set"
    sound = {name: write_video(root.parent / name, blocks(FRAMES), **how).read_bytes() for name, how in KINDS.items()}
    for split in ("train", "test"):
        for label in "ab":
            for number in range(4):
                pixels = blocks(20, seed=ord(label) + number * 7 + 100 * len(split))
                write_video(root / split / label / f"sound{number}.mp4", pixels)
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
