"""Captions of the figures of insight records: what the figures do not show themselves, as escaped HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
from IPython.display import HTML

from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.attribution_figures import MIN_POSITIONS, find_video
from r21d_analysis.interpret.filter_figures import order_fractions
from r21d_analysis.interpret.filters import input_frames
from r21d_analysis.interpret.html import caption_html


def caption_of_records(text: Callable[[InsightRecord], str]) -> Callable[[Sequence[InsightRecord]], HTML]:
    """Return a function of records that lists the `text` of each."""

    @wraps(text)
    def caption(records: Sequence[InsightRecord]) -> HTML:
        return caption_html((record.label, text(record)) for record in records)

    return caption


@caption_of_records
def records_caption(record: InsightRecord) -> str:
    """Return the data, the protocol, the weights' hash and the device of each record."""
    spec, metadata = record.metadata["spec"], record.metadata
    profile = "DEMONSTRATION, a tiny network" if spec["profile"] == "demo" else f"profile {spec['profile']}"
    unit = "flow fields" if record.is_flow else "frames"
    frames = "; frames left out: grey images replace the videos' frames" * ("frames" in metadata)
    return (
        f"{profile}; data {spec['data']}, task {spec['task']}; center clips of {spec['frames']} {unit}, frame "
        f"stride {spec['frame_stride']}, crop {spec['crop']}×{spec['crop']}; weights {metadata['weights'][:12]}; "
        f"computed on {metadata['device']} in {metadata['seconds']:.0f} s{frames}"
    )


@caption_of_records
def activations_caption(record: InsightRecord) -> str:
    """Return how far the optimized clips exceed the responses to test clips."""
    ratio = np.median(record["optimized_responses"] / np.maximum(record["responses"][:, 0], 1e-6))
    warning = ", outside the range of videos: they show a direction, not an image." if ratio > 2 else "."
    best = f"the best of {record.metadata['test_clips']:,} test clips"
    return f"optimized clips reach {ratio:.1f} times the response to {best} (median){warning}"


@caption_of_records
def orders_caption(record: InsightRecord) -> str:
    """Return how many layers are close to untrained weights, of those whose input has more than one frame."""
    temporal = record["n_filters"] > 0
    if not temporal.any():
        return "no filter along time."
    frames = input_frames(record.metadata["spec"])
    trained = temporal & np.array([frames[layer] > 1 for layer in record["layer"]])
    near = trained & (np.abs(100 * order_fractions(record) - 100 / 3).max(axis=1) < 3)
    text = f"{near.sum()} of {trained.sum()} layers are within 3 points of one third each, as untrained weights are"
    text += f" ({', '.join(record['layer'][near])})" * bool(near.any())
    if untrained := list(record["layer"][temporal & ~trained]):
        text += f"; not counted, as one input frame trains only the center tap: {', '.join(untrained)}"
    return f"{text}."


def overlay_caption(records: Sequence[InsightRecord], video: str) -> HTML:
    """Return each network's prediction for the video, and the probability of the class that its maps explain."""
    return caption_html(
        (r.label, f"predicts {r['pred'][i]}; {r['target'][i]}: {100 * r['probability'][i]:.0f} %.")
        for r, i in find_video(records, video)
    )


@caption_of_records
def completeness_caption(record: InsightRecord) -> str:
    """Return the mean completeness gaps at the number of steps used, and whether more steps are needed."""
    gradients, deeplift = 100 * record["gaps"].mean(axis=2)
    steps = record.metadata["steps"]
    gap = gradients[np.argmin(np.abs(record["gap_steps"] - steps))]
    advice = "" if gap < 5 else "; too large to read the maps as fractions: increase `steps`"
    return f"integrated gradients {gap:.1f} % at {steps} steps, DeepLift {deeplift[0]:.2g} %{advice}."


@caption_of_records
def sanity_caption(record: InsightRecord) -> str:
    """Return which methods fail the sanity check, ignore the classifier, or cannot be tested."""
    limit, correlation = record.metadata["sanity_corr_max"], record["correlation"]
    tested = record["resolution"] >= MIN_POSITIONS
    fails = tested & (correlation[:, -1] >= limit)
    groups = {
        f"worthless here (rank correlation of {limit:g} or more with all weights shuffled)": fails,
        "insensitive to fc and conv5_x, so not specific to the class": tested & ~fails & (correlation[:, 1] >= 0.8),
        "constant maps": tested & np.isnan(correlation[:, -1]),
        f"not tested (fewer than {MIN_POSITIONS} positions)": ~tested,
    }
    passed = "" if fails.any() else f"no method has a rank correlation of {limit:g} with all weights shuffled. "
    return passed + " ".join(f"{t}: {', '.join(record['methods'][mask])}." for t, mask in groups.items() if mask.any())
