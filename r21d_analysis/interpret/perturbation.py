"""What a network's verdict on a clip rests on, from what it loses when the clip is tampered with.

The evidence for a class is its logit less the mean of the others'. What a clip has of it is counted from that of a
clip of nothing but the data's mean colour. Freezing a clip leaves its appearance: what is then lost was motion, or the
network's surprise at a clip that stands still, which no such experiment can tell apart.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from r21d_analysis.interpret.bootstrap import TILES
from r21d_analysis.interpret.checkpoints import EvalClips

DRAWS = 3  # frames to freeze, and orders to shuffle to: what is kept is the mean over them


def logit_margin(logits: Tensor, label: Tensor) -> Tensor:
    """The logit of each clip's own label less the mean of its others, (n,) of (n, classes)."""
    own = logits.gather(1, label[:, None])[:, 0]
    return own - (logits.sum(1) - own) / (logits.shape[1] - 1)


def temporal_perturbations(clips: Tensor) -> dict[str, list[Tensor]]:
    """Clips (n, 3, T, H, W) under each of `shares.PERTURBATIONS`, in several draws where there is a choice.

    Frozen at the frames at 1/4, 2/4 and 3/4 of their length; shuffled to three fixed orders, none the true one or its
    reverse; reversed.
    """
    t = clips.shape[2]
    at = [min(t * (draw + 1) // (DRAWS + 1), t - 1) for draw in range(DRAWS)]
    return {
        "frozen": [clips[:, :, [frame]].expand_as(clips).contiguous() for frame in at],
        "shuffled": [clips[:, :, order] for order in shuffles(t)],
        "reversed": [clips.flip(2)],
    }


def shuffles(frames: int) -> list[list[int]]:
    """DRAWS orders of `frames` frames, the same each time; of three or more never the true order or its reverse."""
    random, found = np.random.default_rng(0), []
    while len(found) < DRAWS:
        order = random.permutation(frames).tolist()
        if frames < 3 or sorted(order) not in (order, order[::-1]):
            found.append(order)
    return found


def occlude_tiles(clips: Tensor) -> list[Tensor]:
    """Clips with each tile of a TILES × TILES grid set to the mean colour in all frames, row by row."""
    parts = []
    rows, columns = (np.linspace(0, size, TILES + 1).astype(int) for size in clips.shape[3:])
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            part = clips.clone()
            part[..., top:bottom, left:right] = 0
            parts.append(part)
    return parts


@torch.inference_mode()
def measure_evidence(network: nn.Module, test: EvalClips, rows: np.ndarray, title: str = "") -> dict[str, np.ndarray]:
    """What is left of the evidence for each item's own class, for the items `rows` of the test set.

    `whole` (n,) is the evidence in the clip as it is; each of `shares.PERTURBATIONS` (n,) what is left of it, `hidden`
    (n, TILES²) what is left without a tile, all counted from the evidence in a clip of the mean colour; `label`
    (n,), and `right` (n,) whether the class was found.
    """
    kept: dict[str, list[np.ndarray]] = {}
    for part, _, clips in tqdm(test.read(rows), title or "weighing evidence", unit="batch", leave=False):
        label = torch.from_numpy(test.clips.label[part]).to(clips.device)
        nothing = logit_margin(network(torch.zeros_like(clips[:1])).expand(len(clips), -1), label)
        logits = network(clips)
        found = {
            "label": label,
            "correct": logits.argmax(1) == label,
            "original": logit_margin(logits, label) - nothing,
        }
        for name, draws in temporal_perturbations(clips).items():
            found[name] = torch.stack([logit_margin(network(draw), label) - nothing for draw in draws]).mean(0)
        found["occluded"] = torch.stack(
            [logit_margin(network(tile), label) - nothing for tile in occlude_tiles(clips)], 1
        )
        for name, values in found.items():
            kept.setdefault(name, []).append(values.cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in kept.items()}
