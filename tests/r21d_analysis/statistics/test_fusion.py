"""Two streams: the mean of softmax, against brute force, and what must not be fused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from r21d_analysis.statistics.fusion import fuse
from r21d_core import R21DError
from r21d_core.runs.metrics import clip_at_1, video_at, video_probabilities
from r21d_core.runs.scores import Scores

PROTOCOL = {
    "clips": 3, "crop": "centre 112×112", "averaging": "mean of softmax", "frames": 8, "frame_stride": 1, "task": "action",
    "data": "made up", "split": "test", "profile": "demo",
}  # fmt: skip


def scores(seed: int, modality: str = "rgb") -> Scores:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (12, 3, 4)).astype(np.float32)
    labels = np.arange(12) % 4
    return Scores(logits, labels, np.array([f"v{n:02d}" for n in range(12)]), tuple("abcd"),
                  PROTOCOL | {"modality": modality})  # fmt: skip


@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(0, 100))
def test_fused_is_the_weighted_mean_of_softmax(seed, one_weight, other_weight):
    one, other = scores(seed), scores(seed + 5000, "flow")
    fused = fuse(one, other, (one_weight, other_weight))
    share = one_weight / (one_weight + other_weight)
    by_clip = share * softmax(one.logits, 2) + (1 - share) * softmax(other.logits, 2)
    assert np.allclose(video_probabilities(fused), by_clip.mean(axis=1), atol=1e-6)
    assert clip_at_1(fused) == (by_clip.argmax(axis=2) == one.labels[:, None]).mean()
    assert video_at(fused, 1) == (by_clip.mean(axis=1).argmax(axis=1) == one.labels).mean()


def test_one_stream_alone_has_all_the_weight():
    one, other = scores(1), scores(2, "flow")
    assert np.allclose(video_probabilities(fuse(one, other, (1, 0))), video_probabilities(one))
    assert np.allclose(video_probabilities(fuse(one, other, (0, 3))), video_probabilities(other))


def test_the_protocol_says_what_was_fused():
    fused = fuse(scores(1), scores(2, "flow"))
    assert fused.protocol["modality"] == "rgb + flow" and fused.protocol["weights"] == [1, 1]
    assert fused.protocol["clips"] == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: replace(s, protocol=s.protocol | {"clips": 10}), "clips is 3 in one run and 10"),
        (lambda s: replace(s, protocol=s.protocol | {"crop": "centre 8×8"}), "crop is 'centre 112×112'"),
        (lambda s: replace(s, protocol=s.protocol | {"averaging": "mean"}), "averaging is 'mean of softmax'"),
        (lambda s: replace(s, protocol=s.protocol | {"data": "other"}), "data is 'made up'"),
        (lambda s: replace(s, classes=tuple("abce")), "other classes, 'd'"),
        (lambda s: replace(s, classes=tuple("abdc")), "other classes, 'their order'"),
        (lambda s: replace(s, videos=np.array([*s.videos[:-1], "v99"])), "'v11' in one only"),
        (lambda s: replace(s, videos=s.videos[:-1], labels=s.labels[:-1], logits=s.logits[:-1]), "'v11' in one only"),
        (lambda s: replace(s, labels=np.roll(s.labels, 1)), "'v00' has another label"),
    ],
)
def test_unlike_runs_are_refused(change, says):
    with pytest.raises(R21DError, match=says):
        fuse(scores(1), change(scores(2, "flow")))


@pytest.mark.parametrize("weights", [(0, 0), (-1, 2), (float("nan"), 1), (1, 2, 3)])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(R21DError, match="weights"):
        fuse(scores(1), scores(2), weights)
