"""From a Spec to its network and its network's cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from r21d_core.engine.device import DTYPES
from r21d_core.models.cost import CHANNELS
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet
from r21d_core.study.spec import Spec


def build_model(spec: Spec, num_classes: int, device: torch.device) -> VideoResNet:
    """The network of `spec` with the initial weights of its seed, in the layout and form fastest on `device`."""
    torch.manual_seed(spec.seed)
    network = VideoResNet(
        spec.variant,
        spec.depth,
        spec.width,
        num_classes=num_classes,
        frames=spec.frames,
        in_channels=CHANNELS[spec.modality],
        midplanes_per_block=spec.midplanes_per_block,
        eps=spec.eps,
    )
    network.to(device, memory_format=torch.channels_last_3d)
    if device.type == "cpu":
        _default_layout_at_the_end(network)
    if form := optimize(network, spec, device):
        network.forward = form
    return network


def _default_layout_at_the_end(network: VideoResNet) -> None:
    """Have conv5_x in the default layout, if it looks over time.

    There weights are most of what is read and written, and in channels last PyTorch's CPU convolutions copy their
    gradients slowly: a tenth of a training step of R3D on a few clips. Weights without time are a third as large, and
    all earlier groups are quicker in channels last.
    """
    group = network.conv5_x
    if any(module.kernel_size[0] > 1 for module in group.modules() if isinstance(module, nn.Conv3d)):
        group.to(memory_format=torch.contiguous_format)
        group.register_forward_pre_hook(_in_default_layout)


def _in_default_layout(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0].contiguous()


def optimize(network: VideoResNet, spec: Spec, device: torch.device) -> Callable[[Tensor], Tensor] | None:
    """What computes `network` faster than it does itself, for 16 bits on a GPU or classifying on a CPU; else None.

    None too where the fast form does not run or is not as right as autocast, which is then said in a line.
    """
    if device.type == "cpu":
        return FastVideoResNet(network, torch.float32, None)
    if device.type != "cuda" or spec.precision == "fp32":
        return None
    try:
        from r21d_core.engine.numerics import check_numerics
        from r21d_core.models import fused_bn  # needs Triton, which not every machine has

        trouble = check_numerics(network, DTYPES[spec.precision], fused_bn, spec.frames)
    except Exception as error:  # whatever a compiler or a driver has to say
        trouble = f"it raised {type(error).__name__} ({str(error).strip().splitlines()[0] if str(error) else ''})"
    if trouble:
        print(f"{spec.variant}: runs in its plain, slower form, as the fast one fails its check here: {trouble}")
        return None
    return FastVideoResNet(network, DTYPES[spec.precision], fused_bn)


def build_optimizer(network: VideoResNet, spec: Spec) -> torch.optim.SGD:
    """The optimiser of the recipe, in one kernel where the gradients come as `FastForm` makes them."""
    fused = True if "forward" in vars(network) and network.fc.weight.is_cuda else None
    return torch.optim.SGD(network.parameters(), spec.lr, spec.momentum, weight_decay=spec.weight_decay, fused=fused)
