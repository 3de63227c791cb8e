"""How much of the evidence for a class remains when a clip is perturbed in time or in space.

Evidence is the logit of the class minus the mean of the others, relative to that of a clip of the data's mean color. A
frozen clip keeps the appearance. The rest is due to motion, or to a still clip being an unusual input; this experiment
cannot separate the two.
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from r21d_analysis.interpret.attribution_figures import TILES
from r21d_analysis.interpret.checkpoints import EvalClips

DRAWS = 3  # frozen frames and random orders; evidence and accuracy are means over them


def logit_margin(logits: Tensor, label: Tensor) -> Tensor:
    """Return the logit of each clip's label minus the mean of its other logits, (n,), for `logits` (n, classes)."""
    label_logit = logits.gather(1, label[:, None])[:, 0]
    return label_logit - (logits.sum(1) - label_logit) / (logits.shape[1] - 1)


def temporal_perturbations(clips: Tensor) -> dict[str, list[Tensor]]:
    """Return clips (n, 3, T, H, W) under each of PERTURBATIONS.

    Frozen at the frames at 1/4, 2/4 and 3/4; shuffled in DRAWS fixed orders; reversed.
    """
    t = clips.shape[2]
    frozen = [min(t * (draw + 1) // (DRAWS + 1), t - 1) for draw in range(DRAWS)]
    return {
        "frozen": [clips[:, :, [frame]].expand_as(clips).contiguous() for frame in frozen],
        "shuffled": [clips[:, :, order] for order in random_orders(t)],
        "reversed": [clips.flip(2)],
    }


def random_orders(n_frames: int) -> list[list[int]]:
    """Return DRAWS fixed orders of the frames; with three or more never the true order or its reverse."""
    rng, orders = np.random.default_rng(0), []
    while len(orders) < DRAWS:
        order = rng.permutation(n_frames).tolist()
        if n_frames < 3 or sorted(order) not in (order, order[::-1]):
            orders.append(order)
    return orders


def occlude_tiles(clips: Tensor) -> list[Tensor]:
    """Return clips with each tile of a TILES × TILES grid set to the mean color in all frames, row by row."""
    occluded = []
    rows, columns = (np.linspace(0, size, TILES + 1).astype(int) for size in clips.shape[3:])
    for (top, bottom), (left, right) in product(pairwise(rows), pairwise(columns)):
        occluded.append(clips.clone())
        occluded[-1][..., top:bottom, left:right] = 0
    return occluded


@torch.inference_mode()
def measure_evidence(network: nn.Module, test: EvalClips, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the evidence for the label of each of the items `rows` of the test set, and whether it is predicted.

    `original` (n,) is the evidence in the clip, each of PERTURBATIONS (n,) in the perturbed clip, `occluded`
    (n, TILES²) without each tile. `label` (n,); `correct` (n,) is whether the prediction is the label, and
    `correct_frozen`, … (n,) the fraction of draws in which it is.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch, _, clips in tqdm(test.iter_batches(rows), "measuring evidence", unit="batch", leave=False):
        label = torch.from_numpy(test.clips.label[batch]).to(clips.device)
        baseline = logit_margin(network(torch.zeros_like(clips[:1])).expand(len(clips), -1), label)
        logits = network(clips)
        values = {"label": label, "correct": logits.argmax(1) == label}
        values["original"] = logit_margin(logits, label) - baseline
        for name, draws in temporal_perturbations(clips).items():
            logits = [network(draw) for draw in draws]
            values[name] = torch.stack([logit_margin(draw, label) - baseline for draw in logits]).mean(0)
            values[f"correct_{name}"] = torch.stack([draw.argmax(1) == label for draw in logits]).float().mean(0)
        values["occluded"] = torch.stack([logit_margin(network(x), label) - baseline for x in occlude_tiles(clips)], 1)
        for name, tensor in values.items():
            parts.setdefault(name, []).append(tensor.cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
