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

from r21d_core.nets.network import VideoResNet

LAST = torch.channels_last_3d
_optimised = 0  # steps of any optimiser: a fused one changes parameters and not their versions


def _count_step(*_) -> None:
    global _optimised
    _optimised += 1


register_optimizer_step_post_hook(_count_step)


class FastForm:
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
        entered = enter(conv, x, self.dtype)
        if relu:
            residual = None if residual is None else flatten(conv, residual)
            run = self.kernels.rectified if self.kernels else rectified
            y = unflatten(conv, run(entered, weight, bias, *step(conv), residual), x.shape)
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
        for conv, norm in pairs(self.network):
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weights[conv] = pack(conv, conv.weight * scale.view(-1, 1, 1, 1, 1), self.dtype)
            biases[conv] = F.pad(norm.bias - norm.running_mean * scale, (0, len(weights[conv]) - len(scale)))
        for block in self.network.modules():
            if isinstance(getattr(block, "shortcut", None), nn.Sequential):
                last = block.conv2[-1] if isinstance(block.conv2, nn.Sequential) else block.conv2
                biases[last] += biases[block.shortcut[0]]
        self._folded = {conv: (weights[conv], biases[conv].to(self.dtype)) for conv in weights}
        self._of = now


def pairs(network: VideoResNet) -> list[tuple[nn.Conv3d, nn.BatchNorm3d]]:
    """Every convolution with the batch norm behind it: the two are declared one after the other."""
    modules = [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.BatchNorm3d)]
    return list(zip(modules[::2], modules[1::2], strict=True))


def _layers(layer: Callable, conv: nn.Module, norm: nn.BatchNorm3d, x: Tensor, **options) -> tuple[Tensor, Tensor]:
    """`layer` of a convolution, or of both of a (2+1)D pair."""
    if isinstance(conv, nn.Sequential):
        spatial, between, _, conv = conv
        x, _ = layer(spatial, between, x)
    return layer(conv, norm, x, **options)


def rectified(
    x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], residual: Tensor | None = None
) -> Tensor:
    """relu(convolution + bias + residual) of x, 2-D or 3-D, as `fused.rectified` does it, but on any device."""
    y = (F.conv3d if x.dim() == 5 else F.conv2d)(x, weight, bias, stride, padding)
    return (y if residual is None else y.add_(residual)).relu_()


class _Convolution(torch.autograd.Function):
    """The convolution in `dtype`, and its gradients; that of the weight in the weight's own type and layout."""

    @staticmethod
    def forward(ctx, x, weight, conv, dtype):
        packed = pack(conv, weight, dtype)
        entered = enter(conv, x, dtype)
        ctx.conv, ctx.shape = conv, x.shape
        ctx.save_for_backward(entered, weight, packed)
        return convolve(conv, entered, packed, x.shape)

    @staticmethod
    def backward(ctx, dy):
        x, weight, packed = ctx.saved_tensors
        conv = ctx.conv
        stride, padding = step(conv)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            flatten(conv, dy.contiguous(memory_format=LAST)), x, packed, None, stride, padding, [1] * len(stride),
            False, [0] * len(stride), 1, [ctx.needs_input_grad[0], True, False],
        )  # fmt: skip
        if dx is not None:
            dx = unflatten(conv, dx, ctx.shape)
        return dx, unpack(conv, dw, weight), None, None


# How a Conv3d is run: as it stands, or as a 2-D one on frames or on pixels' histories; a stem on 2×2 pixels at once.


def form(conv: nn.Conv3d) -> str:
    """`frames` for 1×d×d, `pixels` for 3×1×1, else `clips`."""
    time, height, _ = conv.kernel_size
    if time == 1 and height > 1:
        return "frames"
    return "pixels" if height == 1 and time > 1 else "clips"


def is_stem(conv: nn.Conv3d) -> bool:
    """Whether it is the d = 7, stride 2 of conv1, on clips whose gradient nobody asks for."""
    return conv.kernel_size[1] == 7


def step(conv: nn.Conv3d) -> tuple[list[int], list[int]]:
    """Stride and padding of the form that `conv` is run in."""
    stride, padding = list(conv.stride), list(conv.padding)
    if is_stem(conv):
        stride, padding = [stride[0], 1, 1], [padding[0], 0, 0]
    keep = {"frames": slice(1, None), "pixels": slice(0, 2), "clips": slice(None)}[form(conv)]
    return stride[keep], padding[keep]


def flatten(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) as what the form takes: (N·T, C, H, W), (N, C, T, H·W) or themselves; never a copy."""
    kind = form(conv)
    return x.transpose(1, 2).flatten(0, 1) if kind == "frames" else x.flatten(3) if kind == "pixels" else x


def unflatten(conv: nn.Conv3d, y: Tensor, shape: torch.Size) -> Tensor:
    """Clips again, of as many clips or pixels as those of `shape` have."""
    kind = form(conv)
    if kind == "frames":
        return y.unflatten(0, (shape[0], -1)).transpose(1, 2)
    return y.unflatten(3, (-1, shape[4])) if kind == "pixels" else y


def convolve(conv: nn.Conv3d, entered: Tensor, packed: Tensor, shape: torch.Size) -> Tensor:
    """Clips (N, out, T', H', W') from what `enter` and `pack` made, `shape` being that of the clips before."""
    stride, padding = step(conv)
    run = F.conv3d if packed.dim() == 5 else F.conv2d
    return unflatten(conv, run(entered, packed, None, stride, padding), shape)


def enter(conv: nn.Conv3d, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Clips in the form that `conv` takes; a stem's are cast, and 2×2 pixels become one of 4·4 channels."""
    return flatten(conv, gather(x, dtype) if is_stem(conv) else x)


def gather(clips: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, T, H, W) as (N, 4·C', T, ⌈H/2⌉ + 3, ⌈W/2⌉ + 3), C' being C padded to a multiple of 4, zeros around.

    A stride of 2 over 7×7 pixels of 3 channels is one of 1 over 4×4 of these, whose 16 channels fit tensor cores.
    """
    n, c, t, h, w = clips.shape
    if h % 2 or w % 2:
        clips = F.pad(clips, (0, w % 2, 0, h % 2))
    h, w = (h + 1) // 2, (w + 1) // 2
    gathered = clips.new_zeros(n, t, h + 3, w + 3, 2, 2, -(-c // 4) * 4, dtype=dtype)
    pixels = clips.unflatten(4, (w, 2)).unflatten(3, (h, 2))  # (N, C, T, h, 2, w, 2)
    gathered[:, :, 2:-1, 2:-1, :, :, :c] = pixels.permute(0, 2, 3, 5, 4, 6, 1)
    return gathered.flatten(4).permute(0, 4, 1, 2, 3)


def pack(conv: nn.Conv3d, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution's weight in `dtype`, both channels padded to multiples of 8 by zeros, in the form's shape."""
    out, inputs, time = weight.shape[:3]
    padded = -(-out // 8) * 8
    if is_stem(conv):
        inputs = -(-inputs // 4) * 4
        packed = weight.new_zeros(padded, time, 4, 4, 2, 2, inputs, dtype=dtype)
        _pixels(packed, weight)[:] = F.pad(weight, (1, 0, 1, 0)).unflatten(4, (4, 2)).unflatten(3, (4, 2))
        packed = packed.flatten(4).permute(0, 4, 1, 2, 3)
    elif out % 8 or inputs % 8:
        packed = weight.new_zeros(padded, time, *weight.shape[3:], -(-inputs // 8) * 8, dtype=dtype)
        packed = packed.permute(0, 4, 1, 2, 3)
        packed[:out, :inputs] = weight
    else:
        packed = weight.detach().to(dtype, memory_format=LAST)
    return packed.squeeze({"frames": 2, "pixels": 4}[form(conv)]) if form(conv) != "clips" else packed


def unpack(conv: nn.Conv3d, packed: Tensor, weight: Tensor) -> Tensor:
    """What `pack` made, or its gradient, in the type, shape and layout of `weight`."""
    own = torch.empty_like(weight)
    out, inputs = weight.shape[:2]
    packed = packed.unsqueeze({"frames": 2, "pixels": 4}[form(conv)]) if form(conv) != "clips" else packed
    if is_stem(conv):
        pixels = packed.permute(0, 2, 3, 4, 1).unflatten(4, (2, 2, -1))
        return own.copy_(_pixels(pixels, weight).flatten(5).flatten(3, 4)[..., 1:, 1:])
    return own.copy_(packed[:out, :inputs])


def _pixels(packed: Tensor, weight: Tensor) -> Tensor:
    """(out', T, 4, 4, 2, 2, C') as (out, C, T, 4, 2, 4, 2) for as many channels as `weight` has, a view."""
    return packed.permute(0, 6, 1, 2, 4, 3, 5)[: weight.shape[0], : weight.shape[1]]
