"""The same network in a faster form: an `nn.Module` around a `VideoResNet`, which owns the parameters.

Activations are channels-last and in 16 bits. The channels of convolutions are padded to multiples of 8, as cuDNN is
slow for 230 and 45, and convolutions of one frame or one pixel run as 2-D ones. Batch norm, ReLU and residual sum are
the Triton kernels of `fused_bn`, and those of `fused_pair` join them with convolutions. For inference batch norm is
folded into the convolutions; a CPU does only that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r21d_core.models.network import P3D, Block, VideoResNet

T = TypeVar("T", bound=nn.Module)
CHANNELS_LAST = torch.channels_last_3d
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
            bias = F.pad(norm.bias - mean * scale, (0, _padded(conv) - len(scale)))
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


# A spatial convolution runs as a 2-D one on frames, a temporal one as a 2-D one over (T, H·W), others as they are. A
# stem has too few input channels for tensor cores: on a GPU 2 rows of 8 pixels become one pixel of 64 channels, from
# which the stem computes COLUMNS pixels of its output at once.
COLUMNS = 4
SPACE_TO_DEPTH_DEVICES = ("cuda",)  # on a CPU the stem's added multiplications by zero cost more than they save


def conv_kind(conv: nn.Conv3d) -> str:
    """Return `spatial` for 1×d×d, `temporal` for 3×1×1, else, or with a stride along the other axes, `full`."""
    (time, height, _), (frames, *pixels) = conv.kernel_size, conv.stride
    if time == 1 and height > 1 and frames == 1:
        return "spatial"
    return "temporal" if height == 1 and time > 1 and pixels == [1, 1] else "full"


def is_stem(conv: nn.Conv3d) -> bool:
    """Return whether `conv` has conv1's kernel, d = 7."""
    return conv.kernel_size[1] == 7


def is_space_to_depth(conv: nn.Conv3d) -> bool:
    """Return whether `conv` is a stem that takes the output of `space_to_depth`; clips then get no gradient."""
    return is_stem(conv) and conv.weight.device.type in SPACE_TO_DEPTH_DEVICES


def stride_padding(conv: nn.Conv3d) -> tuple[list[int], list[int]]:
    """Return stride and padding of the convolution, 2-D or 3-D, that `conv` runs as."""
    stride, padding = list(conv.stride), list(conv.padding)
    if is_space_to_depth(conv):
        stride, padding = [stride[0], 1, 1], [padding[0], 0, 0]
    axes = {"spatial": slice(1, None), "temporal": slice(0, 2), "full": slice(None)}[conv_kind(conv)]
    return stride[axes], padding[axes]


def to_conv_shape(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Return a view of (N, C, T, H, W): spatial (N·T, C, H, W), temporal (N, C, T, H·W), full unchanged."""
    kind = conv_kind(conv)
    return x.transpose(1, 2).flatten(0, 1) if kind == "spatial" else x.flatten(3) if kind == "temporal" else x


def from_conv_shape(conv: nn.Conv3d, y: Tensor, shape: torch.Size) -> Tensor:
    """Return the output of `conv` as (N, C, T, H, W), the inverse of `to_conv_shape`; `shape` is its 5-D input's."""
    kind = conv_kind(conv)
    if kind == "spatial":
        y = y.unflatten(0, (shape[0], -1)).transpose(1, 2)
    y = y.unflatten(3, (-1, shape[4])) if kind == "temporal" else y
    return unpack_columns(y, (shape[4] + 1) // 2) if is_space_to_depth(conv) else y


def convolve(
    conv: nn.Conv3d, prepared: Tensor, packed: Tensor, shape: torch.Size, bias: Tensor | None = None
) -> Tensor:
    """Return (N, out, T', H', W') from the outputs of `prepare_input`, of an input of `shape`, and `pack_weight`."""
    stride, padding = stride_padding(conv)
    run = F.conv3d if packed.dim() == 5 else F.conv2d
    return from_conv_shape(conv, run(prepared, packed, bias, stride, padding), shape)


def conv_gradients(
    conv: nn.Conv3d, dy: Tensor, prepared: Tensor, packed: Tensor, shape: torch.Size, wanted: tuple[bool, bool]
) -> tuple[Any, Any]:
    """Return the gradients of the input of `shape` and of `packed`, None for those that are not `wanted`."""
    stride, padding = stride_padding(conv)
    dy = dy.contiguous(memory_format=CHANNELS_LAST)
    dx, dw, _ = torch.ops.aten.convolution_backward(
        to_conv_shape(conv, pack_columns(dy) if is_space_to_depth(conv) else dy), prepared, packed, None, stride,
        padding, [1] * len(stride), False, [0] * len(stride), 1, [*wanted, False],
    )  # fmt: skip
    return None if dx is None else from_conv_shape(conv, dx, shape), dw


def prepare_input(conv: nn.Conv3d, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (N, C, T, H, W) in `dtype` and the shape that `conv` runs on."""
    return to_conv_shape(conv, space_to_depth(x, dtype) if is_space_to_depth(conv) else x.to(dtype))


def space_to_depth(clips: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (N, C, T, H, W) as (N, 16·C', T, ⌈H/2⌉ + 3, ⌈W/8⌉ + 1), zero-padded, C' being C up to a multiple of 4.

    A position holds 2 rows of 8 pixels. A 7×7 kernel of stride 2 becomes one of 4×2 positions and stride 1. Its 8×16
    pixels begin 4 rows and columns before the clip and hold the windows of COLUMNS output pixels, 2 columns apart.
    """
    if clips.is_cuda:
        from r21d_core.models import stem_kernel  # needs Triton, as the fast form on a GPU does

        return stem_kernel.space_to_depth(clips, dtype)
    n, c, t, h, w = clips.shape
    if h % 2 or w % 4:
        clips = F.pad(clips, (0, -w % 4, 0, h % 2))
    pixels = clips.unflatten(4, (-1, 4)).unflatten(3, (-1, 2))  # (N, C, T, h, 2, w, 4)
    h, wide = pixels.shape[3] + 3, -(-w // 8) + 1
    blocks = clips.new_zeros(n, t, h, 2 * wide, 2, 4, -(-c // 4) * 4, dtype=dtype)
    blocks[:, :, 2:-1, 1 : 1 + pixels.shape[5], :, :, :c] = pixels.permute(0, 2, 3, 5, 4, 6, 1)
    return blocks.view(n, t, h, wide, -1).permute(0, 4, 1, 2, 3)


def unpack_columns(y: Tensor, columns: int) -> Tensor:
    """Return (N, 4·C, T, H, W), 4 pixels a position, as (N, C, T, H, columns); a copy only where columns < 4·W."""
    y = y.permute(0, 2, 3, 4, 1).unflatten(4, (COLUMNS, -1)).flatten(3, 4).permute(0, 4, 1, 2, 3)
    return y if y.shape[4] == columns else y[..., :columns].contiguous(memory_format=CHANNELS_LAST)


def pack_columns(y: Tensor) -> Tensor:
    """Return the inverse of `unpack_columns`, with zeros for the columns that it dropped."""
    if y.shape[4] % COLUMNS:
        y = F.pad(y, (0, -y.shape[4] % COLUMNS)).contiguous(memory_format=CHANNELS_LAST)
    return y.permute(0, 2, 3, 4, 1).unflatten(3, (-1, COLUMNS)).flatten(4).permute(0, 4, 1, 2, 3)


def pack_weight(conv: nn.Conv3d, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight in `dtype`, in the shape that `conv` runs with, channels zero-padded to multiples of 8.

    A stem on `space_to_depth` has each output channel COLUMNS times. Another stem's input channels are not padded.
    """
    out_channels, in_channels, time = weight.shape[:3]
    padded_out, padded_in = _padded(conv), in_channels if is_stem(conv) else -(-in_channels // 8) * 8
    if is_space_to_depth(conv):
        kernels = torch.stack([F.pad(weight, (1 + 2 * k, 8 - 2 * k, 1, 0)) for k in range(COLUMNS)])
        packed = weight.new_zeros(COLUMNS * padded_out, time, 4, 2, 2, 2, 4, -(-in_channels // 4) * 4, dtype=dtype)
        _pixels(packed, weight)[:] = kernels.unflatten(5, (2, 2, 4)).unflatten(4, (4, 2))
        packed = packed.flatten(4).permute(0, 4, 1, 2, 3)
    elif out_channels < padded_out or in_channels < padded_in:
        packed = weight.new_zeros(padded_out, time, *weight.shape[3:], padded_in, dtype=dtype).permute(0, 4, 1, 2, 3)
        packed[:out_channels, :in_channels] = weight
    else:
        packed = weight.detach().to(dtype, memory_format=CHANNELS_LAST)
    kind = conv_kind(conv)
    return packed if kind == "full" else packed.squeeze(2 if kind == "spatial" else 4)


def unpack_weight(conv: nn.Conv3d, packed: Tensor, weight: Tensor) -> Tensor:
    """Return a packed weight's gradient in the type, shape and layout of `weight`, summed over a stem's COLUMNS."""
    unpacked, kind = torch.empty_like(weight), conv_kind(conv)
    packed = packed if kind == "full" else packed.unsqueeze(2 if kind == "spatial" else 4)
    if is_space_to_depth(conv):
        pixels = packed.permute(0, 2, 3, 4, 1).unflatten(4, (2, 2, 4, -1))
        kernels = _pixels(pixels, weight).to(weight.dtype).flatten(6).flatten(4, 5)  # (COLUMNS, out, C, T, 8, 16)
        windows = (kernel[..., 1:, 1 + 2 * k : 8 + 2 * k] for k, kernel in enumerate(kernels))
        return unpacked.copy_(reduce(torch.add, windows))
    return unpacked.copy_(packed[: weight.shape[0], : weight.shape[1]])


def _pixels(packed: Tensor, weight: Tensor) -> Tensor:
    """Return a view (COLUMNS, out, C, T, 4, 2, 2, 2, 4), rows before columns, of (COLUMNS·out', T, 4, 2, 2, 2, 4, C').

    `out` and C are those of `weight`, out' and C' the padded ones.
    """
    pixels = packed.unflatten(0, (COLUMNS, -1)).permute(0, 1, 8, 2, 3, 6, 4, 5, 7)
    return pixels[:, : weight.shape[0], : weight.shape[1]]


def _padded(conv: nn.Conv3d) -> int:
    return -(-conv.out_channels // 8) * 8
