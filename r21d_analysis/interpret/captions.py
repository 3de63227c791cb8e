"""Captions of the figures of insight records: what the figures do not show themselves, as escaped HTML."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from IPython.display import HTML

from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.attribution_figures import MIN_POSITIONS, find_video, method_names
from r21d_analysis.interpret.filter_figures import order_fractions
from r21d_analysis.interpret.filters import input_frames
from r21d_analysis.interpret.html import caption_html


def records_caption(records: Sequence[InsightRecord]) -> HTML:
    """Return the data, the protocol, the weights' hash and the device of each record."""
    lines = []
    for record in records:
        spec, metadata = record.metadata["spec"], record.metadata
        profile = "DEMONSTRATION, a tiny network" if spec["profile"] == "demo" else f"profile {spec['profile']}"
        unit = "flow fields" if record.is_flow else "frames"
        frames = "; frames left out: grey images replace the videos' frames" * ("frames" in metadata)
        lines.append((record.label, (
            f"{profile}; data {spec['data']}, task {spec['task']}; center clips of {spec['frames']} {unit}, frame "
            f"stride {spec['frame_stride']}, crop {spec['crop']}×{spec['crop']}; weights {metadata['weights'][:12]}; "
            f"computed on {metadata['device']} in {metadata['seconds']:.0f} s{frames}"
        )))  # fmt: skip
    return caption_html(lines)


def activations_caption(records: Sequence[InsightRecord]) -> HTML:
    """Return how far the optimized clips exceed the responses to test clips."""
    lines = []
    for record in records:
        ratio = np.median(record["optimized_responses"] / np.maximum(record["responses"][:, 0], 1e-6))
        warning = ", outside the range of videos: they show a direction, not an image." if ratio > 2 else "."
        best = f"the best of {record.metadata['test_clips']:,} test clips"
        lines.append(
            (record.label, f"optimized clips reach {ratio:.1f} times the response to {best} (median){warning}")
        )
    return caption_html(lines)


def orders_caption(records: Sequence[InsightRecord]) -> HTML:
    """Return how many layers are close to untrained weights, of those whose input has more than one frame."""
    lines = []
    for record in records:
        frames = input_frames(record.metadata["spec"])
        temporal = record["n_filters"] > 0
        trained = temporal & np.array([frames[layer] > 1 for layer in record["layer"]])
        near = trained & (np.abs(100 * order_fractions(record) - 100 / 3).max(axis=1) < 3)
        untrained = list(record["layer"][temporal & ~trained])
        text = f"{near.sum()} of {trained.sum()} layers are within 3 points of one third each, as untrained weights are"
        text += f" ({', '.join(record['layer'][near])})" * bool(near.any())
        if untrained:
            text += f"; not counted, as one input frame trains only the center tap: {', '.join(untrained)}"
        lines.append((record.label, f"{text}." if temporal.any() else "no filter along time."))
    return caption_html(lines)


def overlay_caption(records: Sequence[InsightRecord], video: str) -> HTML:
    """Return each network's prediction for the video, and the probability of the class that its maps explain."""
    lines = []
    for record, index in find_video(records, video):
        probability = f"{100 * record['probability'][index]:.0f} %"
        lines.append((record.label, f"predicts {record['pred'][index]}; {record['target'][index]}: {probability}."))
    return caption_html(lines)


def completeness_caption(records: Sequence[InsightRecord]) -> HTML:
    """Return the mean completeness gaps at the number of steps used, and whether more steps are needed."""
    lines = []
    for record in records:
        gradients, deeplift = 100 * record["gaps"].mean(axis=2)
        steps = record.metadata["steps"]
        gap = gradients[np.argmin(np.abs(record["gap_steps"] - steps))]
        advice = "" if gap < 5 else "; too large to read the maps as fractions: increase `steps`"
        lines.append(
            (record.label, f"integrated gradients {gap:.1f} % at {steps} steps, DeepLift {deeplift[0]:.2g} %{advice}.")
        )
    return caption_html(lines)


def sanity_caption(records: Sequence[InsightRecord]) -> HTML:
    """Return which methods fail the sanity check, ignore the classifier, or cannot be tested."""
    lines = []
    for record in records:
        limit, correlation = record.metadata["sanity_corr_max"], record["correlation"]
        tested = record["resolution"] >= MIN_POSITIONS
        fails = tested & (correlation[:, -1] >= limit)
        groups = {
            f"worthless here (rank correlation of {limit:g} or more with all weights shuffled)": fails,
            "insensitive to fc and conv5_x, so not specific to the class": tested & ~fails & (correlation[:, 1] >= 0.8),
            "constant maps": tested & np.isnan(correlation[:, -1]),
            f"not tested (fewer than {MIN_POSITIONS} positions)": ~tested,
        }
        names = np.array(method_names(record))
        sentences = [f"{text}: {', '.join(names[mask])}" for text, mask in groups.items() if mask.any()]
        passed = "" if fails.any() else f"no method has a rank correlation of {limit:g} with all weights shuffled. "
        lines.append((record.label, f"{passed}{'. '.join(sentences)}{'.' * bool(sentences)}"))
    return caption_html(lines)
