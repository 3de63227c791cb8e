"""The learning rate of each training step, and what weight decay does over all of them."""

from __future__ import annotations

import math

from r21d_core.study.spec import Spec


def steps_per_epoch(spec: Spec) -> int:
    """Return the number of batches of an epoch; the last may be smaller."""
    return math.ceil(spec.clips_per_epoch / spec.batch_size)


def lr_at_step(spec: Spec, step: int, steps: int) -> float:
    """Return the learning rate after `step` steps, `steps` an epoch: linear warm-up, then `lr_schedule`.

    The step decay is that of Section 4.1.
    """
    warmup = spec.warmup_epochs * steps
    if step < warmup:
        return spec.lr * min(step + 1, warmup) / warmup
    if spec.lr_schedule == "cosine":
        return spec.lr * (1 + math.cos(math.pi * (step - warmup) / (spec.epochs * steps - warmup))) / 2
    decays = math.floor((step - warmup) / (spec.lr_decay_epochs * steps)) if spec.lr_decay_epochs else 0
    return spec.lr * spec.lr_decay**decays


def shrinkage(spec: Spec) -> float:
    """Return the fraction of its initial value that a weight with no gradient loses to weight decay, as SGD applies it.

    A change of the weights by this fraction alone says nothing of what training taught them.
    """
    weight, velocity, steps = 1.0, 0.0, steps_per_epoch(spec)
    for step in range(spec.epochs * steps):
        gradient = spec.weight_decay * weight
        velocity = spec.momentum * velocity + gradient
        weight -= lr_at_step(spec, step, steps) * (gradient + spec.momentum * velocity if spec.nesterov else velocity)
    return 1 - weight
