"""Packs: the finished runs of a folder in one ZIP file, which is read as the folder is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import softmax

from r21d_core import R21DError
from r21d_core.runs.files import write_atomically
from r21d_core.runs.metrics import clip_at_1, video_at
from r21d_core.runs.quantize import DRAWS, STEPS, dequantize, quantize
from r21d_core.runs.run import CHECKED, SUMMARY, Run, load_runs, seal_summary
from r21d_core.runs.scores import Scores, encode_scores, take_items

PACKED = (*CHECKED, "filters.npz", "attributions.npz")
MARGIN = 1e-6  # no decision of quantized scores hangs on a smaller difference of probabilities
SAME_INPUT = ("task", "data", "profile", "variant", "depth", "frames", "frame_stride", "seed", "eval_clips")


def pack_runs(folder: Path | str, out: Path | str) -> list[Run]:
    """Write the finished runs of `folder`, without their checkpoints, to the ZIP file `out` and return them from there.

    Scores are quantized (`r21d_core.runs.quantize`). Raises R21DError for a damaged record and without a finished run.
    """
    runs = [run for run in load_runs(folder) if run.is_complete]
    if not runs:
        raise R21DError(f"{folder}: no finished run; name the folder of runs of `r21d train`")
    scores = {run: run.scores for run in runs}
    ways = _choose_ways(scores)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as pack:
        for run in runs:
            files = {path.name: run.read(path.name) for path in run.folder.iterdir() if path.name in PACKED}
            summary = run.summary
            if "quantization" not in scores[run].protocol:
                accuracies = {"clip@1": clip_at_1(scores[run])}
                accuracies |= {f"video@{k}": video_at(scores[run], k) for k in (1, 5)}
                summary |= {"accuracies_before_quantization": accuracies}
                files["scores.npz"] = _encode(scores[run], ways[run])
            files[SUMMARY] = seal_summary(summary, files).encode()
            for name, content in sorted(files.items()):
                pack.writestr(_entry(f"{run.folder.name}/{name}"), content)
    write_atomically(Path(out), buffer.getvalue())
    return load_runs(out)


def _encode(scores: Scores, ways: np.ndarray) -> bytes:
    counts = np.bincount(ways // DRAWS, minlength=len(STEPS) + 1).tolist()
    steps = {f"1/{step}": count for step, count in zip(STEPS, counts, strict=False)} | {"logits": counts[-1]}
    quantization = {"items by step of the probabilities": steps, "see": "results/README.md"}
    protocol = scores.protocol | {"quantization": quantization}
    return encode_scores(replace(scores, protocol=protocol), quantize(scores.logits, ways))


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an entry without the time of packing, so that equal runs make equal packs."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_LZMA
    entry.external_attr = 0o644 << 16
    return entry


def _choose_ways(scores: dict[Run, Scores]) -> dict[Run, np.ndarray]:
    """Return the first way to round each item of each run that keeps all decisions; quantized scores stay.

    All items are rounded in their way; those with a changed decision, alone or in the mean of two streams, take the
    next way and are rounded again, until none has changed or the last way, which keeps the logits, is reached.
    """
    last = len(STEPS) * DRAWS
    ways = {run: np.full(len(s.labels), last if "quantization" in s.protocol else 0) for run, s in scores.items()}
    exact = {run: softmax(s.logits.astype(float), axis=2) for run, s in scores.items()}
    rounded = {run: np.empty_like(probabilities) for run, probabilities in exact.items()}
    changed = {run: np.ones(len(s.labels), bool) for run, s in scores.items()}
    streams = _stream_pairs(scores)
    while any(map(np.any, changed.values())):
        tried = {run: np.flatnonzero(mask) for run, mask in changed.items()}
        for run, rows in tried.items():
            items = take_items(scores[run], rows)
            logits = dequantize(quantize(items.logits, ways[run][rows]))
            rounded[run][rows] = softmax(logits.astype(float), axis=2)
            subsets = clip_subsets(items.logits.shape[1])
            changed[run][rows] = ~same_decisions(exact[run][rows], rounded[run][rows], items, subsets)
        for rgb, flow in streams:  # their mean changes the way of items whose own decisions were kept
            rows = np.union1d(tried[rgb], tried[flow])
            before, after = ((of[rgb][rows] + of[flow][rows]) / 2 for of in (exact, rounded))
            all_clips = np.arange(before.shape[1])
            changed_mean = ~same_decisions(before, after, take_items(scores[rgb], rows), [all_clips])
            for run in (rgb, flow):
                changed[run][rows] |= changed_mean
        for run, mask in changed.items():
            mask &= ways[run] < last
            ways[run][mask] += 1
    return ways


def _stream_pairs(scores: dict[Run, Scores]) -> list[tuple[Run, Run]]:
    """Return the runs on RGB and on flow that are two streams of one network on the same videos."""
    return [
        (rgb, flow)
        for rgb, flow in product(scores, repeat=2)
        if (rgb.spec.modality, flow.spec.modality) == ("rgb", "flow")
        and all(getattr(rgb.spec, name) == getattr(flow.spec, name) for name in SAME_INPUT)
        and np.array_equal(scores[rgb].videos, scores[flow].videos)
    ]


def clip_subsets(stored: int) -> list[np.ndarray]:
    """Return the indices of 2 to `stored` clips spread evenly over the stored ones, and of the one in the middle."""
    return [np.array([stored // 2]), *(np.linspace(0, stored - 1, n).round().astype(int) for n in range(2, stored + 1))]


def same_decisions(before: np.ndarray, after: np.ndarray, scores: Scores, subsets: Iterable) -> np.ndarray:
    """Return whether every decision on an item is the same, (items,) bool, of probabilities (items, clips, classes)."""
    same = np.logical_and.reduce(_same_argmax(before, after), axis=1)
    labels = scores.labels[:, None]
    for chosen in subsets:
        same = np.logical_and(same, _same_argmax(before[:, chosen].mean(axis=1), after[:, chosen].mean(axis=1)))
    old, new = before.mean(axis=1), after.mean(axis=1)
    rank = (np.argsort(-old, axis=1, kind="stable") == labels).argmax(axis=1)
    label = np.take_along_axis(new, labels, axis=1)
    above, not_below = (new > label + MARGIN).sum(axis=1), (new > label - MARGIN).sum(axis=1) - 1
    same = np.logical_and(same, np.where(rank < 5, not_below < 5, above >= 5))
    for names in scores.families.values():
        members = [scores.classes.index(name) for name in names]
        same = np.logical_and(same, _same_argmax(old[:, members], new[:, members]))
    return same


def _same_argmax(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return whether the largest value along the last axis is in the same place, by more than the margin."""
    place = before.argmax(axis=-1)[..., None]
    best = np.take_along_axis(after, place, axis=-1)[..., 0]
    others = after.copy()
    np.put_along_axis(others, place, -1, axis=-1)
    return best - others.max(axis=-1) > MARGIN
