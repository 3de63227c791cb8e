"""Two streams: what two networks said of the same videos, taken together (Section 4.4)."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from r21d_core import R21DError
from r21d_core.runs.scores import Scores

ALIKE = ("clips", "crop", "averaging", "frames", "frame_stride", "task", "data", "split", "profile")


def fuse(one: Scores, other: Scores, weights: tuple[float, float] = (1, 1)) -> Scores:
    """The Scores of the weighted mean of both networks' softmax, clip by clip; by default the paper's plain mean.

    Its logits are the logarithms of these means, so that every metric of one network is that of the fused two. Raises
    R21DError, saying what differs, if items, labels, classes or protocols are not the same, and for weights that are
    negative or both zero.
    """
    _refuse_unlike(one, other)
    shares = np.array(weights, float)
    if shares.shape != (2,) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
        raise R21DError(f"fusion: weights = {weights!r}, expected two finite numbers, 0 or more, not both 0")
    with np.errstate(divide="ignore"):  # a stream of weight 0 adds nothing
        terms = np.log(shares / shares.sum())
    logits = np.logaddexp(*(log_softmax(s.logits, axis=2) + term for s, term in zip((one, other), terms, strict=True)))
    streams = [scores.protocol.get("modality", "rgb") for scores in (one, other)]
    how = {"modality": " + ".join(streams), "weights": [float(weight) for weight in weights]}
    return Scores(logits, one.labels, one.videos, one.classes, one.protocol | how)


def _refuse_unlike(one: Scores, other: Scores) -> None:
    for key in ALIKE:
        if one.protocol.get(key) != other.protocol.get(key):
            raise R21DError(
                f"fusion: {key} is {one.protocol.get(key)!r} in one run and {other.protocol.get(key)!r} in the other; "
                "fuse runs of one protocol"
            )
    if one.classes != other.classes:
        odd = sorted(set(one.classes) ^ set(other.classes)) or ["their order"]
        raise R21DError(f"fusion: the runs have other classes, {odd[0]!r} for one; fuse runs of one manifest")
    if len(one.videos) != len(other.videos) or (one.videos != other.videos).any():
        odd = sorted(set(one.videos.tolist()) ^ set(other.videos.tolist())) or ["their order"]
        raise R21DError(f"fusion: the runs were evaluated on other videos, {odd[0]!r} in one only; evaluate both anew")
    if (one.labels != other.labels).any():
        video = one.videos[one.labels != other.labels][0]
        raise R21DError(
            f"fusion: {str(video)!r} has another label in one run than in the other; fuse runs of one manifest"
        )
