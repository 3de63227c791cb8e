"""The same network in a faster form: an `nn.Module` around a `VideoResNet`, which owns the parameters.

Activations are channels-last and in 16 bits. The channels of convolutions are padded to multiples of 8, as cuDNN is
slow for 230 and 45, and convolutions of one frame or one pixel run as 2-D ones. Batch norm, ReLU and residual sum are
the Triton kernels of `fused_bn`, and those of `fused_pair` join them with convolutions. For inference batch norm is
folded into the convolutions; a CPU does only that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r21d_core.models.conv_layout import (
    COLUMNS,
    conv_gradients,
    convolve,
    from_conv_shape,
    is_space_to_depth,
    pack_weight,
    padded_channels,
    prepare_input,
    stride_padding,
    to_conv_shape,
    unpack_weight,
)
from r21d_core.models.network import P3D, Block, VideoResNet

T = TypeVar("T", bound=nn.Module)
# Runs a convolution, its batch norm if any and, with `relu`, the sum with `residual` and the ReLU: (conv, norm, x,
# relu, residual). It returns its output twice, once for each of its two uses.
Layer = Callable[..., tuple[Tensor, Tensor]]


class FastVideoResNet(nn.Module):
    """Compute the logits (N, num_classes), float32, that `model` computes under autocast to `dtype`.

    Evaluation without gradients uses folded weights. They are folded again after a change of mode and after in-place
    changes that PyTorch counts; fused optimizers are not counted, so call `train()` and `eval()` on this module.
    Evaluation with gradients runs `model` itself, and so does training without `kernels`, the module `fused_pair`.
    """

    def __init__(self, model: VideoResNet, dtype: torch.dtype, kernels: ModuleType | None):
        super().__init__()
        self.model, self.dtype = model, dtype
        self.kernels: Any = kernels
        self.num_classes = model.num_classes
        self._folded: dict[nn.Module, Any] = {}  # weight and bias of a convolution; of a pair what `split_pair` returns
        self._versions: list[int] = []
        self.train(model.training)

    def train(self, mode: bool = True) -> FastVideoResNet:
        """Set the mode of this module and its model, and drop the folded weights if it changes."""
        if mode != self.training:
            self._folded = {}
        super().train(mode)
        return self

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of clips (N, in_channels, T, H, W)."""
        has_fast_form = self.kernels is not None if self.training else not torch.is_grad_enabled()
        if not has_fast_form or self.model.frames not in (None, clips.shape[2]):
            return self.model(clips)
        with torch.autocast(clips.device.type, enabled=False):
            if not self.training:
                self._fold()
            run = self._train_conv if self.training else self._infer_conv
            features = self._forward_features(clips, run)
            return self.model.fc(features.mean((2, 3, 4), dtype=torch.promote_types(self.dtype, torch.float32)))

    def _forward_features(self, clips: Tensor, run: Layer) -> Tensor:
        model = self.model
        x, skip = run(model.conv1, model.bn1, clips)
        for block in _modules(model, Block):
            y, _ = run(block.conv1, block.bn1, x)
            if isinstance(block.shortcut, nn.Sequential):
                skip, _ = run(*block.shortcut, skip, relu=False)
            x, skip = run(block.conv2, block.bn2, y, residual=skip)
        return x

    def _train_conv(self, conv, norm, x, relu=True, residual=None) -> tuple[Tensor, Tensor]:
        """As `run_conv`, with a pair's batch norm and ReLU inside its temporal convolution where the kernels fit."""
        if isinstance(conv, nn.Sequential) and len(conv) == 4:
            first, between, _, conv = conv
            convolve_first = partial(self.kernels.convolve_with_statistics, norm=between)
            x, statistics = _Convolution.apply(x, first.weight, first, self.dtype, convolve_first)
            if self.kernels.can_fuse(conv, x):
                y, statistics = self.kernels.norm_relu_conv(x, between, conv, norm, statistics)
                return self.kernels.batch_norm(y, norm, relu, residual, statistics)
            x, _ = self.kernels.batch_norm(x, between, statistics=statistics)
        return run_conv(self._train_layer, conv, norm, x, relu=relu, residual=residual)

    def _train_layer(self, conv, norm, x, relu=True, residual=None) -> tuple[Tensor, Tensor]:
        y, _ = _Convolution.apply(x, conv.weight, conv, self.dtype, None)
        return self.kernels.batch_norm(y, norm, relu, residual) if norm else (y, y)

    def _infer_conv(self, conv, norm, x, relu=True, residual=None) -> tuple[Tensor, Tensor]:
        """As `run_conv`, with a pair's convolutions split where that is faster."""
        if self.kernels and self.kernels.can_split(conv, x):
            if conv not in self._folded:
                self._folded[conv] = self.kernels.split_pair(self._folded[conv[0]], self._folded[conv[3]])
            y = self.kernels.infer_split(self._folded[conv], x, residual)
            return y, y
        return run_conv(self._folded_layer, conv, norm, x, relu=relu, residual=residual)

    def _folded_layer(self, conv, norm, x, relu=True, residual=None) -> tuple[Tensor, Tensor]:
        weight, bias = self._folded[conv]
        prepared = prepare_input(conv, x, self.dtype)
        if not relu:
            y = convolve(conv, prepared, weight, x.shape, bias)
            return y, y
        assert bias is not None  # a ReLU follows batch norm only
        residual = None if residual is None else to_conv_shape(conv, residual)
        run = self.kernels.conv_bias_relu if self.kernels else conv_bias_relu
        y = from_conv_shape(conv, run(prepared, weight, bias, *stride_padding(conv), residual), x.shape)
        return y, y

    def _fold(self) -> None:
        """Fold batch norm into weights and biases; a shortcut's bias goes to the convolution that it is added to."""
        versions = [tensor._version for tensor in (*self.model.parameters(), *self.model.buffers())]
        if self._folded and self._versions == versions:
            return
        weights: dict[nn.Module, Tensor] = {}
        biases: dict[nn.Module, Tensor] = {}
        for conv, norm in conv_bn_pairs(self.model):
            if norm is None:
                weights[conv] = pack_weight(conv, conv.weight, self.dtype)
                continue
            mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            scale = norm.weight * (var + norm.eps).rsqrt()
            weights[conv] = pack_weight(conv, conv.weight * scale.view(-1, 1, 1, 1, 1), self.dtype)
            bias = F.pad(norm.bias - mean * scale, (0, padded_channels(conv) - len(scale)))
            biases[conv] = bias.repeat(COLUMNS) if is_space_to_depth(conv) else bias
        for block in _modules(self.model, Block):
            if isinstance(block.shortcut, nn.Sequential):
                biases[_modules(block.conv2, nn.Conv3d)[-1]] += biases.pop(block.shortcut[0])
        packed = {conv: bias.to(self.dtype) for conv, bias in biases.items()}
        self._folded = {conv: (weight, packed.get(conv)) for conv, weight in weights.items()}
        self._versions = versions


def conv_bn_pairs(model: VideoResNet) -> list[tuple[nn.Conv3d, nn.BatchNorm3d | None]]:
    """Return every convolution with its batch norm, which the model declares before the next one, or None."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv3d | nn.BatchNorm3d)]
    following = (*layers[1:], None)
    return [
        (conv, norm if isinstance(norm, nn.BatchNorm3d) else None)
        for conv, norm in zip(layers, following, strict=True)
        if isinstance(conv, nn.Conv3d)
    ]


def _modules(model: nn.Module, kind: type[T]) -> list[T]:
    return [module for module in model.modules() if isinstance(module, kind)]


def run_conv(layer: Layer, conv: nn.Module, norm: nn.BatchNorm3d, x: Tensor, **options) -> tuple[Tensor, Tensor]:
    """Run a convolution of any form that `make_conv` returns, and its batch norm."""
    if isinstance(conv, nn.Sequential):
        first, *between, conv = conv
        x, _ = layer(first, between[0] if between else None, x, relu=len(between) == 2)
    elif isinstance(conv, P3D):
        spatial, skip = layer(conv.spatial, conv.spatial_norm, x)
        temporal, _ = layer(conv.temporal, conv.temporal_norm, x if conv.is_parallel else spatial)
        x, conv = conv.add(skip, temporal), conv.project
    return layer(conv, norm, x, **options)


def conv_bias_relu(
    x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], residual: Tensor | None = None
) -> Tensor:
    """Return relu(convolution + bias + residual) of x, 2-D or 3-D, on any device, as `fused_bn.conv_bias_relu` does."""
    y = (F.conv3d if x.dim() == 5 else F.conv2d)(x, weight, bias, stride, padding)
    return (y if residual is None else y.add_(residual)).relu_()


class _Convolution(torch.autograd.Function):
    """The convolution in `dtype`, its statistics if `run` computes both, and its gradients.

    The gradient of the weight has the weight's type and layout.
    """

    @staticmethod
    def forward(ctx, x, weight, conv, dtype, run):
        packed = pack_weight(conv, weight, dtype)
        prepared = prepare_input(conv, x, dtype)
        ctx.conv, ctx.shape = conv, x.shape
        ctx.save_for_backward(prepared, weight, packed)
        operands = conv, prepared, packed, x.shape
        y, statistics = run(*operands) if run else (convolve(*operands), None)
        if statistics is not None:
            ctx.mark_non_differentiable(statistics)
            ctx.set_materialize_grads(False)  # no zeros for the gradient of the statistics
        return y, statistics

    @staticmethod
    def backward(ctx, dy, _):
        x, weight, packed = ctx.saved_tensors
        dx, dw = conv_gradients(ctx.conv, dy, x, packed, ctx.shape, (ctx.needs_input_grad[0], True))
        return dx, unpack_weight(ctx.conv, dw, weight), None, None, None
