"""Fusion against brute force, and runs that must not be fused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from r21d_analysis.artifacts.networks import fuse
from r21d_core import R21DError
from r21d_core.runs.metrics import clip_at_1, video_at, video_probabilities
from r21d_core.runs.scores import Scores

PROTOCOL = {
    "clips": 3, "crop": "center crop 112×112", "averaging": "mean of softmax", "frames": 8, "frame_stride": 1,
    "task": "action", "data": "made up", "split": "test", "profile": "demo",
}  # fmt: skip


def scores(seed: int, modality: str = "rgb") -> Scores:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (12, 3, 4)).astype(np.float32)
    labels = np.arange(12) % 4
    videos = np.array([f"v{n:02d}" for n in range(12)])
    return Scores(logits, labels, videos, videos, tuple("abcd"), PROTOCOL | {"modality": modality})


@given(st.integers(0, 1000))
def test_fused_is_the_mean_of_softmax(seed):
    a, b = scores(seed), scores(seed + 5000, "flow")
    fused = fuse(a, b)
    by_clip = (softmax(a.logits, 2) + softmax(b.logits, 2)) / 2
    assert np.allclose(video_probabilities(fused), by_clip.mean(axis=1), atol=1e-6)
    assert clip_at_1(fused) == (by_clip.argmax(axis=2) == a.labels[:, None]).mean()
    assert video_at(fused, 1) == (by_clip.mean(axis=1).argmax(axis=1) == a.labels).mean()
    assert fused.protocol["modality"] == "rgb + flow" and fused.protocol["clips"] == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: replace(s, protocol=s.protocol | {"clips": 10}), "clips is 3 in the first run and 10"),
        (lambda s: replace(s, protocol=s.protocol | {"crop": "center crop 8×8"}), "crop is 'center crop 112×112'"),
        (lambda s: replace(s, protocol=s.protocol | {"averaging": "mean"}), "averaging is 'mean of softmax'"),
        (lambda s: replace(s, protocol=s.protocol | {"data": "other"}), "data is 'made up'"),
        (lambda s: replace(s, classes=tuple("abce")), "classes of the runs differ, first 'd'"),
        (lambda s: replace(s, classes=tuple("abdc")), "classes of the runs differ, first 'their order'"),
        (lambda s: replace(s, videos=np.array([*s.videos[:-1], "v99"])), "videos of the runs differ, first 'v11'"),
        (
            lambda s: replace(s, videos=s.videos[:-1], labels=s.labels[:-1], logits=s.logits[:-1]),
            "videos of the runs differ, first 'v11'",
        ),
        (lambda s: replace(s, labels=np.roll(s.labels, 1)), "the label of 'v00' differs"),
    ],
)
def test_different_runs_are_not_fused(change, says):
    with pytest.raises(R21DError, match=says):
        fuse(scores(1), change(scores(2, "flow")))
