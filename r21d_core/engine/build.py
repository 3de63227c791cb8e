"""Build a spec's model, the module that runs it fastest on a device, and its optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from r21d_core import R21DError, count_noun
from r21d_core.engine.device import DTYPES
from r21d_core.engine.distributed import shard_batch
from r21d_core.engine.numerics import check_numerics
from r21d_core.models.cost import CHANNELS, spec_cost
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.imported import named_failures
from r21d_core.models.neighbors import Neighbor
from r21d_core.models.network import VideoResNet
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_imported, is_neighbor

Model = VideoResNet | Neighbor


def build_model(spec: Spec, num_classes: int, device: torch.device) -> Model:
    """Return the model of `spec` with its seed's initial weights, in the memory layout that is fastest on `device`."""
    torch.manual_seed(spec.seed)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "frames": spec.frames,
        "in_channels": CHANNELS[spec.modality],
    }
    if is_neighbor(spec.variant):
        spec_cost(spec, num_classes)  # raises R21DError for clips that are too small
        model = Neighbor(spec.variant, crop=spec.crop, seed=spec.seed, **options)
    else:
        options |= {"midplanes_per_block": spec.midplanes_per_block, "eps": spec.eps}
        model = VideoResNet(spec.variant, spec.depth, spec.width, **options)
        model.freeze(spec.frozen_stages)
    if spec.fc_init == "xavier":  # Caffe2's XavierFill
        bound = math.sqrt(3 / model.fc.in_features)
        nn.init.uniform_(model.fc.weight, -bound, bound)
    model.to(device)
    for parameter in model.parameters():
        if parameter.dim() == 5:  # `model.to(memory_format=…)` would raise for the weights of 2-D convolutions
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
    if device.type == "cpu" and isinstance(model, VideoResNet) and _convolves_over_time(model.conv5_x):
        # Most memory traffic of a conv5_x that convolves over time is weights, and PyTorch's CPU convolutions copy
        # channels-last gradients of weights slowly: a tenth of a training step of R3D with few clips.
        model.conv5_x.to(memory_format=torch.contiguous_format)
        model.conv5_x.register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())
    return model


def check_batch_norm(spec: Spec) -> None:
    """Raise R21DError, with the settings to change, if batch norm would get one value per channel in training.

    That has no variance. Of one clip, the last map of a small crop and few frames is one value per channel.
    """
    batches = {min(spec.batch_size, spec.clips_per_epoch), spec.clips_per_epoch % spec.batch_size} - {0}
    shards = [shard_batch(size, spec.grad_accum_steps, 0, 1) for size in batches]
    if not spec.epochs or min(rows.stop - rows.start for shard in shards for rows in shard.micro_batches) > 1:
        return
    device = torch.device("cpu" if is_imported(spec.variant) else "meta")  # on meta only the sizes are computed
    with device:
        model = build_model(spec, 1, device)
    try:
        with device, named_failures(spec.variant):
            model(torch.zeros(1, CHANNELS[spec.modality], spec.frames, spec.crop, spec.crop))
    except (R21DError, ValueError) as error:
        if "Expected more than 1 value per channel" not in str(error):  # PyTorch's words, in batch norm
            raise
        raise R21DError(
            f"{spec.variant}, seed {spec.seed}: some batch is one clip, of which {count_noun(spec.frames, 'frame')} of "
            f"{spec.crop}×{spec.crop} pixels become one value per channel, and batch norm cannot train on one value; "
            f"make clips_per_epoch = {spec.clips_per_epoch} a multiple of batch_size = {spec.batch_size} and this at "
            f"least twice grad_accum_steps = {spec.grad_accum_steps}, or take a larger crop or more frames"
        ) from error


def _convolves_over_time(stage: nn.Module) -> bool:
    return any(module.kernel_size[0] > 1 for module in stage.modules() if isinstance(module, nn.Conv3d))


def optimize(model: Model, spec: Spec, device: torch.device) -> Model | FastVideoResNet:
    """Return a module that runs `model` faster: on a GPU in 16 bits, on a CPU in evaluation; else `model` itself.

    `model` itself is returned too, and a line printed, where the fast form fails `check_numerics`. A Neighbor has none.
    """
    if isinstance(model, Neighbor):
        return model
    if device.type == "cpu":
        return FastVideoResNet(model, torch.float32, None)
    if device.type != "cuda" or spec.precision == "fp32" or spec.frozen_stages:  # whose batch norm it would train
        return model
    dtype = DTYPES[spec.precision]
    try:
        from r21d_core.models import fused_pair  # needs Triton, which some platforms lack

        failure = check_numerics(model, dtype, fused_pair, spec.frames)
    except Exception as error:  # a compiler or driver may raise anything
        failure = f"it raised {type(error).__name__} ({str(error).strip().splitlines()[0] if str(error) else ''})"
    if failure:
        print(f"{spec.variant}: runs without the fast form, which fails its check here: {failure}")
        return model
    return FastVideoResNet(model, dtype, fused_pair)


def build_optimizer(model: nn.Module, spec: Spec) -> torch.optim.SGD:
    """Return the recipe's SGD for what `optimize` returned, without its frozen stages.

    It is fused where gradients have their parameters' layout.
    """
    fused = True if isinstance(model, FastVideoResNet) and model.kernels else None
    is_bias = {p: name.endswith("bias") for name, p in model.named_parameters() if p.requires_grad}
    groups = [{"params": list(is_bias)}]
    if not spec.decay_biases:
        weights, biases = ([p for p in is_bias if is_bias[p] == kind] for kind in (False, True))
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.SGD(
        groups, spec.lr, spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.nesterov, fused=fused
    )
