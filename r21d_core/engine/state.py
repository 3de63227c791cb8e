"""The state of a training run, and the step that advances it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from r21d_core.engine.build import Model, build_optimizer
from r21d_core.engine.cuda_graphs import capture_cuda_graph
from r21d_core.engine.device import autocast
from r21d_core.engine.distributed import BatchShard, count_as_one_process
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.study.spec import Spec


@dataclass
class TrainState:
    """What a training step changes, and how far the run is."""

    spec: Spec
    model: Model  # owns the weights
    fast_model: Model | FastVideoResNet  # runs `model`, for evaluation
    train_model: nn.Module  # runs `model` in a step: `fast_model`, with CUDA graphs and DDP where they apply
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the current epoch
    loss: float = 0.0  # sums over the current epoch's clips
    n_wrong: float = 0.0
    n_clips: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)  # a row for each finished epoch
    substituted: dict[str, str] = field(default_factory=dict)  # videos that do not decode, and why
    init_from: str = ""  # which weights the model was initialized with

    def start_epoch(self, epoch: int) -> None:
        """Begin `epoch` with sums of zero."""
        self.epoch, self.step, self.loss, self.n_wrong, self.n_clips, self.seconds = epoch, 0, 0.0, 0.0, 0, 0.0

    def state_dict(self) -> dict:
        """Return all that a checkpoint needs to resume the run exactly."""
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return parts | {"state": {name: getattr(self, name) for name in PROGRESS}}

    def load_state_dict(self, saved: dict) -> None:
        """Restore what `state_dict` returned."""
        for name in PARTS:
            getattr(self, name).load_state_dict(saved[name])
        for name in PROGRESS:
            setattr(self, name, saved["state"][name])


PARTS = ("model", "optimizer", "scaler")
PROGRESS = {
    "epoch": int, "step": int, "loss": float, "n_wrong": float, "n_clips": int, "seconds": float, "history": list,
    "substituted": dict, "init_from": str,
}  # fmt: skip


def create_state(spec: Spec, model: Model, fast_model: Model | FastVideoResNet) -> TrainState:
    """Return the state before the first step of `model`, which `fast_model` runs."""
    # The scaler is enabled on a CPU too, where powers of two change nothing, so that its checkpoints resume on a GPU.
    scaler = torch.amp.GradScaler(model.fc.weight.device.type, enabled=spec.precision == "fp16")
    return TrainState(spec, model, fast_model, fast_model, build_optimizer(fast_model, spec), scaler)


def capture_step(state: TrainState, processes: int) -> nn.Module:
    """Return `fast_model` with its training passes captured as CUDA graphs, if `processes` have one micro-batch each.

    With more of them the next replay would overwrite gradients that are still to be added up.
    """
    if state.spec.grad_accum_steps != processes:
        return state.fast_model
    return capture_cuda_graph(state.fast_model, state.spec, state.spec.batch_size // processes)


def train_step(state: TrainState, clips: Tensor, target: Tensor, shard: BatchShard) -> Tensor:
    """Take one optimizer step; return the sum of the losses and the number of errors on this process's clips, (2,).

    `clips` (N, C, T, H, W) and `target` (N,) are the rows `shard.rows` of the batch, on the device.
    """
    sums, model = torch.zeros(2, device=clips.device), state.train_model
    with count_as_one_process(state.model, shard):
        for rows in shard.micro_batches:
            is_last = rows is shard.micro_batches[-1]  # DDP sums gradients only in its backward pass
            with model.no_sync() if isinstance(model, DistributedDataParallel) and not is_last else nullcontext():
                with autocast(state.spec, clips.device):
                    logits = model(clips[rows])
                losses = F.cross_entropy(
                    logits.float(), target[rows], reduction="none", label_smoothing=state.spec.label_smoothing
                )
                state.scaler.scale(losses.sum() * shard.loss_scale / shard.batch_size).backward()
            if not shard.is_empty:
                sums += torch.stack([losses.detach().sum(), (logits.argmax(1) != target[rows]).sum()])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    return sums
