"""The same network in the form that is fastest; its parameters stay where they are.

Clips are channels-last and 16 bits wide throughout. Convolutions have their channels padded to multiples of 8 (230 and
45 are none, and cost cuDNN dear), and those of one frame or one pixel are 2-D. Batch norm, ReLU and the residual sum
are the kernels of `fused`. For inference batch norm is folded into the convolutions, and the rest is done by them. On a
CPU there is that alone, in 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from r21d_core.models.network import VideoResNet

CHANNELS_LAST = torch.channels_last_3d
_optimised = 0  # steps of any optimiser: a fused one changes parameters and not their versions


def _count_step(*_) -> None:
    global _optimised
    _optimised += 1


register_optimizer_step_post_hook(_count_step)


class FastVideoResNet:
    """Logits (N, classes), float32, of clips (N, channels, T, H, W), as `network` gives them under autocast to `dtype`.

    In training gradients reach the parameters of `network`, and its running statistics move on. Evaluation without
    gradients keeps the folded weights until a parameter or buffer changes; with gradients it is the plain form.
    `kernels` is the module `fused`, or what does the same; without it training is the plain form too.
    """

    def __init__(self, network: VideoResNet, dtype: torch.dtype, kernels: ModuleType | None):
        self.network, self.dtype, self.kernels = network, dtype, kernels
        self._folded: dict[nn.Conv3d, tuple[Tensor, Tensor]] = {}
        self._of: tuple | None = None

    def __call__(self, clips: Tensor) -> Tensor:
        network = self.network
        wrong_length = network.frames not in (None, clips.shape[2])
        ours = self.kernels is not None if network.training else not torch.is_grad_enabled()
        if wrong_length or not ours:
            return VideoResNet.forward(network, clips)
        with torch.autocast(clips.device.type, enabled=False):
            if network.training:
                self._of = None
                features = self._features(clips, self._train_layer)
            else:
                self._fold()
                features = self._features(clips, self._folded_layer)
            wide = torch.promote_types(self.dtype, torch.float32)
            return F.linear(features.mean((2, 3, 4), dtype=wide), network.fc.weight, network.fc.bias)

    def _features(self, clips: Tensor, layer: Callable) -> Tensor:
        """What fc sees before its mean. A layer gives its output twice, once for each use that is made of it."""
        network = self.network
        x, again = _layers(layer, network.conv1, network.bn1, clips)
        for group in (network.conv2_x, network.conv3_x, network.conv4_x, network.conv5_x):
            for block in group:
                y, _ = _layers(layer, block.conv1, block.bn1, x)
                if isinstance(block.shortcut, nn.Sequential):
                    again, _ = layer(*block.shortcut, again, relu=False)
                x, again = _layers(layer, block.conv2, block.bn2, y, residual=again)
        return x

    def _train_layer(self, conv, norm, x, relu=True, residual=None):
        return self.kernels.batch_norm(_Convolution.apply(x, conv.weight, conv, self.dtype), norm, relu, residual)

    def _folded_layer(self, conv, norm, x, relu=True, residual=None):
        weight, bias = self._folded[conv]
        entered = prepare_input(conv, x, self.dtype)
        if relu:
            residual = None if residual is None else to_conv_shape(conv, residual)
            run = self.kernels.rectified if self.kernels else conv_bias_relu
            y = from_conv_shape(conv, run(entered, weight, bias, *stride_padding(conv), residual), x.shape)
        else:
            y = convolve(conv, entered, weight, x.shape)
        return y, y

    def _fold(self) -> None:
        """Batch norm as a factor of the weights and a bias, that of a shortcut with the sum it goes into."""
        state = (*self.network.parameters(), *self.network.buffers())
        now = _optimised, [(tensor.data_ptr(), tensor._version) for tensor in state]
        if self._of == now:
            return
        weights, biases = {}, {}
        for conv, norm in conv_bn_pairs(self.network):
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weights[conv] = pack_weight(conv, conv.weight * scale.view(-1, 1, 1, 1, 1), self.dtype)
            bias = F.pad(norm.bias - norm.running_mean * scale, (0, _padded(conv) - len(scale)))
            biases[conv] = bias.repeat(COLUMNS) if is_gathered(conv) else bias
        for block in self.network.modules():
            if isinstance(getattr(block, "shortcut", None), nn.Sequential):
                last = block.conv2[-1] if isinstance(block.conv2, nn.Sequential) else block.conv2
                biases[last] += biases[block.shortcut[0]]
        self._folded = {conv: (weights[conv], biases[conv].to(self.dtype)) for conv in weights}
        self._of = now


def conv_bn_pairs(network: VideoResNet) -> list[tuple[nn.Conv3d, nn.BatchNorm3d]]:
    """Every convolution with the batch norm behind it: the two are declared one after the other."""
    modules = [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.BatchNorm3d)]
    return list(zip(modules[::2], modules[1::2], strict=True))


def _layers(layer: Callable, conv: nn.Module, norm: nn.BatchNorm3d, x: Tensor, **options) -> tuple[Tensor, Tensor]:
    """`layer` of a convolution, or of both of a (2+1)D pair."""
    if isinstance(conv, nn.Sequential):
        spatial, between, _, conv = conv
        x, _ = layer(spatial, between, x)
    return layer(conv, norm, x, **options)


def conv_bias_relu(
    x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], residual: Tensor | None = None
) -> Tensor:
    """relu(convolution + bias + residual) of x, 2-D or 3-D, as `fused.rectified` does it, but on any device."""
    y = (F.conv3d if x.dim() == 5 else F.conv2d)(x, weight, bias, stride, padding)
    return (y if residual is None else y.add_(residual)).relu_()


class _Convolution(torch.autograd.Function):
    """The convolution in `dtype`, and its gradients; that of the weight in the weight's own type and layout."""

    @staticmethod
    def forward(ctx, x, weight, conv, dtype):
        packed = pack_weight(conv, weight, dtype)
        entered = prepare_input(conv, x, dtype)
        ctx.conv, ctx.shape = conv, x.shape
        ctx.save_for_backward(entered, weight, packed)
        return convolve(conv, entered, packed, x.shape)

    @staticmethod
    def backward(ctx, dy):
        x, weight, packed = ctx.saved_tensors
        conv = ctx.conv
        stride, padding = stride_padding(conv)
        dy = dy.contiguous(memory_format=CHANNELS_LAST)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            to_conv_shape(conv, pack_columns(dy) if is_gathered(conv) else dy), x, packed, None, stride, padding, [1] * len(stride),
            False, [0] * len(stride), 1, [ctx.needs_input_grad[0], True, False],
        )  # fmt: skip
        if dx is not None:
            dx = from_conv_shape(conv, dx, ctx.shape)
        return dx, unpack_weight(conv, dw, weight), None, None


# How a Conv3d is run: as it stands, or as a 2-D one on frames or on pixels' histories. A stem has too few channels for
# tensor cores: on a GPU 2 rows of 8 pixels become one of 64 channels, of which it makes COLUMNS pixels of its output.
COLUMNS = 4
GATHERED = ("cuda",)  # elsewhere what is added to a stem's products costs more than it saves


def conv_kind(conv: nn.Conv3d) -> str:
    """`frames` for 1×d×d, `pixels` for 3×1×1, else `clips`."""
    time, height, _ = conv.kernel_size
    if time == 1 and height > 1:
        return "frames"
    return "pixels" if height == 1 and time > 1 else "clips"


def is_stem(conv: nn.Conv3d) -> bool:
    """Whether it is the d = 7, stride 2 of conv1."""
    return conv.kernel_size[1] == 7


def is_gathered(conv: nn.Conv3d) -> bool:
    """Whether it is a stem that takes what `gather` makes of clips, whose gradient nobody asks for."""
    return is_stem(conv) and conv.weight.device.type in GATHERED


def stride_padding(conv: nn.Conv3d) -> tuple[list[int], list[int]]:
    """Stride and padding of the form that `conv` is run in."""
    stride, padding = list(conv.stride), list(conv.padding)
    if is_gathered(conv):
        stride, padding = [stride[0], 1, 1], [padding[0], 0, 0]
    keep = {"frames": slice(1, None), "pixels": slice(0, 2), "clips": slice(None)}[conv_kind(conv)]
    return stride[keep], padding[keep]


def to_conv_shape(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) as what the form takes: (N·T, C, H, W), (N, C, T, H·W) or themselves; never a copy."""
    kind = conv_kind(conv)
    return x.transpose(1, 2).flatten(0, 1) if kind == "frames" else x.flatten(3) if kind == "pixels" else x


def from_conv_shape(conv: nn.Conv3d, y: Tensor, shape: torch.Size) -> Tensor:
    """Clips again, of as many clips or pixels as those of `shape`, what the convolution was of, ask for."""
    kind = conv_kind(conv)
    if kind == "frames":
        y = y.unflatten(0, (shape[0], -1)).transpose(1, 2)
    y = y.unflatten(3, (-1, shape[4])) if kind == "pixels" else y
    return unpack_columns(y, (shape[4] + 1) // 2) if is_gathered(conv) else y


def convolve(conv: nn.Conv3d, entered: Tensor, packed: Tensor, shape: torch.Size) -> Tensor:
    """Clips (N, out, T', H', W') from what `enter` and `pack` made, `shape` being that of the clips before."""
    stride, padding = stride_padding(conv)
    run = F.conv3d if packed.dim() == 5 else F.conv2d
    return from_conv_shape(conv, run(entered, packed, None, stride, padding), shape)


def prepare_input(conv: nn.Conv3d, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Clips in the form that `conv` takes; a stem's are cast."""
    return to_conv_shape(conv, space_to_depth(x, dtype) if is_gathered(conv) else x.to(dtype))


def space_to_depth(clips: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, T, H, W) as (N, 16·C', T, ⌈H/2⌉ + 3, ⌈W/8⌉ + 1), C' being C padded to a multiple of 4, zeros around.

    A stride of 2 over 7×7 pixels is one of 1 over 4×2 of these, which 4 pixels of the output see: they are 4 times 7×7
    pixels, each 2 columns on, of 8×16 that begin 4 rows and columns left of a clip.
    """
    n, c, t, h, w = clips.shape
    if h % 2 or w % 4:
        clips = F.pad(clips, (0, -w % 4, 0, h % 2))
    pixels = clips.unflatten(4, (-1, 4)).unflatten(3, (-1, 2))  # (N, C, T, h, 2, w, 4)
    h, wide = pixels.shape[3] + 3, -(-w // 8) + 1
    gathered = clips.new_zeros(n, t, h, 2 * wide, 2, 4, -(-c // 4) * 4, dtype=dtype)
    gathered[:, :, 2:-1, 1 : 1 + pixels.shape[5], :, :, :c] = pixels.permute(0, 2, 3, 5, 4, 6, 1)
    return gathered.view(n, t, h, wide, -1).permute(0, 4, 1, 2, 3)


def unpack_columns(y: Tensor, columns: int) -> Tensor:
    """(N, 4·C, T, H, W), of 4 pixels at once, as (N, C, T, H, columns); no copy where 4·W are as many."""
    y = y.permute(0, 2, 3, 4, 1).unflatten(4, (COLUMNS, -1)).flatten(3, 4).permute(0, 4, 1, 2, 3)
    return y if y.shape[4] == columns else y[..., :columns].contiguous(memory_format=CHANNELS_LAST)


def pack_columns(y: Tensor) -> Tensor:
    """What `narrow` gave, with zeros for columns that it left out."""
    if y.shape[4] % COLUMNS:
        y = F.pad(y, (0, -y.shape[4] % COLUMNS)).contiguous(memory_format=CHANNELS_LAST)
    return y.permute(0, 2, 3, 4, 1).unflatten(3, (-1, COLUMNS)).flatten(4).permute(0, 4, 1, 2, 3)


def pack_weight(conv: nn.Conv3d, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution's weight in `dtype` and the form's shape, with zeros for channels up to multiples of 8.

    Of a stem that is gathered each output channel is there COLUMNS times.
    """
    out, inputs, time = weight.shape[:3]
    padded, entering = _padded(conv), inputs if is_stem(conv) else -(-inputs // 8) * 8
    if is_gathered(conv):
        kernels = torch.stack([F.pad(weight, (1 + 2 * k, 8 - 2 * k, 1, 0)) for k in range(COLUMNS)])
        packed = weight.new_zeros(COLUMNS * padded, time, 4, 2, 2, 2, 4, -(-inputs // 4) * 4, dtype=dtype)
        _pixels(packed, weight)[:] = kernels.unflatten(5, (2, 2, 4)).unflatten(4, (4, 2))
        packed = packed.flatten(4).permute(0, 4, 1, 2, 3)
    elif out < padded or inputs < entering:
        packed = weight.new_zeros(padded, time, *weight.shape[3:], entering, dtype=dtype)
        packed = packed.permute(0, 4, 1, 2, 3)
        packed[:out, :inputs] = weight
    else:
        packed = weight.detach().to(dtype, memory_format=CHANNELS_LAST)
    return packed.squeeze({"frames": 2, "pixels": 4}[conv_kind(conv)]) if conv_kind(conv) != "clips" else packed


def unpack_weight(conv: nn.Conv3d, packed: Tensor, weight: Tensor) -> Tensor:
    """What `pack` made, or its gradient, in the type, shape and layout of `weight`; of COLUMNS the sum."""
    own = torch.empty_like(weight)
    out, inputs = weight.shape[:2]
    packed = packed.unsqueeze({"frames": 2, "pixels": 4}[conv_kind(conv)]) if conv_kind(conv) != "clips" else packed
    if is_gathered(conv):
        pixels = packed.permute(0, 2, 3, 4, 1).unflatten(4, (2, 2, 4, -1))
        kernels = _pixels(pixels, weight).to(weight.dtype).flatten(6).flatten(4, 5)  # (COLUMNS, out, C, T, 8, 16)
        return own.copy_(sum(kernel[..., 1:, 1 + 2 * k : 8 + 2 * k] for k, kernel in enumerate(kernels)))
    return own.copy_(packed[:out, :inputs])


def _pixels(packed: Tensor, weight: Tensor) -> Tensor:
    """(COLUMNS·out', T, 4, 2, 2, 2, 4, C') as (COLUMNS, out, C, T, 4, 2, 2, 2, 4): rows, then columns; a view.

    `out` and C are those of `weight`.
    """
    each = packed.unflatten(0, (COLUMNS, -1)).permute(0, 1, 8, 2, 3, 6, 4, 5, 7)
    return each[:, : weight.shape[0], : weight.shape[1]]


def _padded(conv: nn.Conv3d) -> int:
    return -(-conv.out_channels // 8) * 8
