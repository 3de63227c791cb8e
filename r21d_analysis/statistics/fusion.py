"""Fuses the scores of two networks on the same videos, such as an RGB and a flow stream (Section 4.4)."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from r21d_core import R21DError
from r21d_core.runs.scores import Scores

SAME_PROTOCOL = ("clips", "crop", "averaging", "frames", "frame_stride", "task", "data", "split", "profile")


def fuse(a: Scores, b: Scores, weights: tuple[float, float] = (1, 1)) -> Scores:
    """The Scores of the weighted mean of both networks' softmax, clip by clip; by default the paper's plain mean.

    Its logits are the logarithms of these means, so every metric of one network applies to the fused pair. Raises
    R21DError if items, labels, classes or protocols differ, and for weights that are negative or both zero.
    """
    _check_fusible(a, b)
    fractions = np.array(weights, float)
    if fractions.shape != (2,) or not np.isfinite(fractions).all() or (fractions < 0).any() or not fractions.any():
        raise R21DError(f"fusion: weights = {weights!r}, expected two finite numbers, 0 or more, not both 0")
    with np.errstate(divide="ignore"):  # log(0): a stream of weight 0 adds nothing
        terms = np.log(fractions / fractions.sum())
    logits = np.logaddexp(*(log_softmax(s.logits, axis=2) + term for s, term in zip((a, b), terms, strict=True)))
    streams = [scores.protocol.get("modality", "rgb") for scores in (a, b)]
    fusion = {"modality": " + ".join(streams), "weights": [float(weight) for weight in weights]}
    return Scores(logits, a.labels, a.videos, a.groups, a.classes, a.protocol | fusion)


def _check_fusible(a: Scores, b: Scores) -> None:
    for key in SAME_PROTOCOL:
        if a.protocol.get(key) != b.protocol.get(key):
            raise R21DError(
                f"fusion: {key} is {a.protocol.get(key)!r} in the first run and {b.protocol.get(key)!r} in the second; "
                "fuse runs of one protocol"
            )
    if a.classes != b.classes:
        odd = sorted(set(a.classes) ^ set(b.classes)) or ["their order"]
        raise R21DError(f"fusion: the classes of the runs differ, first {odd[0]!r}; fuse runs of one manifest")
    if len(a.videos) != len(b.videos) or (a.videos != b.videos).any():
        odd = sorted(set(a.videos.tolist()) ^ set(b.videos.tolist())) or ["their order"]
        raise R21DError(f"fusion: the evaluated videos of the runs differ, first {odd[0]!r}; evaluate both again")
    if (a.labels != b.labels).any():
        video = a.videos[a.labels != b.labels][0]
        raise R21DError(f"fusion: the label of {str(video)!r} differs between the runs; fuse runs of one manifest")
