"""Small real videos for the tests, made once a session."""

import multiprocessing
import os
from multiprocessing.context import BaseContext
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")  # bars would drown what a test prints
if not list(Path("/dev").glob("nvidia*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels then run without a GPU; Triton looks when it is imported

import numpy as np
import pytest
import torch
from hypothesis import settings

from r21d_core.data.manifest import DatasetCard, Video, write_manifest
from tests.bad_videos import write_video

settings.register_profile("untimed", deadline=None)  # a first example imports, and a busy machine takes its time
settings.load_profile("untimed")

# A disk takes its time for each of the thousands of records; no test cuts the power. Processes that tests start wait.
os.fsync = lambda _: None

# All worker processes of a test process fork from one server, whose first user would decide what it imports for them.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["r21d_core.engine.train", "r21d_core.engine.launcher", "torch._dynamo", "tests.workers"]
)
BaseContext.set_forkserver_preload = lambda *_: None

# A second thread makes convolutions as small as the tests' slower, many times so where the cores are busy.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_manifest(tmp_path_factory) -> Path:
    """A checked manifest of twelve videos of two classes, a bright and a dark one, 14 to 25 frames of 24 × 32."""
    root = tmp_path_factory.mktemp("tiny")
    generator = np.random.default_rng(0)
    videos = []
    for number in range(12):
        label, count = ("dark", "bright")[number % 2], 14 + number
        level = np.linspace(60, 90, count) + 90 * (number % 2)
        pixels = np.clip(level[:, None, None, None] + generator.normal(0, 20, (count, 24, 32, 3)), 0, 255)
        name = f"{label}/v_g{number:02d}.mp4"
        (root / "videos" / label).mkdir(parents=True, exist_ok=True)
        write_video(root / "videos" / name, pixels.astype(np.uint8))
        side = "test" if number >= 8 else "train"
        videos.append(Video(name, root / "videos", label, side, f"g{number:02d}", count, 25.0, 32, 24))
    card = DatasetCard("tiny", ("dark", "bright"), "made by the tests", "none", {"train": 8, "test": 4}, root="videos")
    write_manifest(root / "tiny.csv", card, videos)
    return root / "tiny.csv"
