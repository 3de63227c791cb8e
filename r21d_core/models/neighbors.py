"""Other networks under the same records: torchvision's S3D, MViTv2-S and Swin3D-T, C3D, and those of one's own."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from r21d_core import R21DError
from r21d_core.models.imported import build_imported, describe_failure
from r21d_core.study.variants import is_imported

FEATURES = {"s3d": 1024, "mvit_v2_s": 768, "swin3d_t": 768, "C3D": 4096}  # of the classifier


class Neighbor(nn.Module):
    """Compute logits (N, num_classes) of clips (N, in_channels, frames, crop, crop).

    `body` is the network named `variant`, or that of `build_imported`, without its classifier, which is `fc`. Dropout
    and stochastic depth depend on `seed` and the number of training passes alone, so that a resumed run equals one that
    was never stopped, and several processes, whose passes `count_as_one_process` numbers, equal one. Raises R21DError
    in `forward` for other lengths than `frames`, which sets the size of some weights.
    """

    passes: Tensor
    body: Any

    def __init__(self, variant: str, *, num_classes: int, frames: int, crop: int, in_channels: int = 3, seed: int = 0):
        from torchvision.models import video  # takes half a second

        super().__init__()
        self.variant, self.num_classes, self.frames, self.seed = variant, num_classes, frames, seed
        if is_imported(variant):
            self.body = build_imported(
                variant, num_classes=num_classes, in_channels=in_channels, frames=frames, crop=crop
            )
            features, self.body.fc = self.body.fc.in_features, nn.Identity()
        elif variant == "C3D":
            self.body = C3D(frames, crop, in_channels)
        elif variant == "s3d":
            # Its pooling of 2×7×7 is that of 16×224×224 pixels; the mean over all positions is the same there.
            self.body = video.s3d()
            self.body.avgpool = nn.Identity()
            self.body.classifier[1] = nn.Identity()
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.momentum = 0.1  # torchvision's 0.001 takes thousands of steps to forget the initial ones
        elif variant == "mvit_v2_s":
            # Its relative positions are those of 16×224×224 pixels, and are interpolated for others.
            self.body = video.mvit_v2_s()
            self.body.pos_encoding.temporal_size = -(-frames // 2)
            self.body.pos_encoding.spatial_size = (-(-crop // 4),) * 2
            self.body.head[1] = nn.Identity()
        else:
            self.body = video.swin3d_t()
            self.body.head = nn.Identity()
        self.fc = nn.Linear(features if is_imported(variant) else FEATURES[variant], num_classes)
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)
        # torchvision's networks take RGB, and leave the initialization of convolutions to PyTorch.
        if in_channels != 3 and variant != "C3D" and not is_imported(variant):
            modules: dict[str, Any] = dict(self.body.named_modules())
            name = next(name for name, module in modules.items() if isinstance(module, nn.Conv3d))
            sizes = {key: getattr(modules[name], key) for key in ("out_channels", "kernel_size", "stride", "padding")}
            self.body.set_submodule(name, nn.Conv3d(in_channels, **sizes, bias=modules[name].bias is not None))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of clips (N, in_channels, T, H, W)."""
        if self.frames != x.shape[2]:
            raise R21DError(f"{self.variant} was built for clips of {self.frames} frames and got {x.shape[2]}")
        if self.training and x.device.type != "meta":
            self.passes += 1
            torch.manual_seed((1_000_003 * self.seed + int(self.passes)) % 2**64)
        return self.fc(self.body(x))


class C3D(nn.Sequential):
    """Tran et al., ICCV 2015: eight 3×3×3 convolutions, five poolings, fc6 and fc7; returns (N, 4096).

    Clips of 16 frames of 112×112 pixels are the paper's. Of shorter clips, the poolings that meet one frame leave it.
    """

    def __init__(self, frames: int, crop: int, in_channels: int = 3):
        layers: list[nn.Module] = []
        channels, size = in_channels, crop
        for stage, (count, out_channels) in enumerate(((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))):
            for _ in range(count):
                layers += [nn.Conv3d(channels, out_channels, 3, padding=1), nn.ReLU(inplace=True)]
                channels = out_channels
            time, padding = 2 if stage and frames > 1 else 1, int(stage == 4)  # 7×7 pixels become 4×4
            layers.append(nn.MaxPool3d((time, 2, 2), padding=(0, padding, padding)))
            frames, size = frames // time, size // 2 + padding
        layers.append(nn.Flatten())
        for features in (channels * frames * size**2, 4096):
            layers += [nn.Linear(features, 4096), nn.ReLU(inplace=True), nn.Dropout()]
        super().__init__(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.constant_(module.get_parameter("bias"), 0)


@lru_cache
def count_neighbor(variant: str, num_classes: int, frames: int, crop: int, in_channels: int) -> tuple[int, int]:
    """Return the numbers of parameters and of multiply-adds for one clip.

    Raises R21DError for clips that are too small, and for one's own network that fails or uses weights which are none
    of its parameters. The random state of the caller stays, whose numbers one's own network draws for its weights.
    """
    from torch.utils.flop_counter import FlopCounterMode

    options = {"num_classes": num_classes, "frames": frames, "crop": crop, "in_channels": in_channels}
    device = "cpu" if is_imported(variant) else "meta"  # where only sizes are computed, which takes known code
    try:
        counting = FlopCounterMode(display=False)
        with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad(), counting as counter:
            network = Neighbor(variant, **options).eval()
            last = _watch_last(network) if is_imported(variant) else []
            with _ParametersOf(network) if is_imported(variant) else nullcontext():
                logits = network(torch.zeros(1, in_channels, frames, crop, crop))
    except R21DError:
        raise
    except Exception as error:  # the code of one's own network may raise anything
        if variant in FEATURES:
            reason = str(error).splitlines()[0]
            raise R21DError(
                f"{variant}: takes no clips of {frames} frames of {crop}×{crop} pixels ({reason})"
            ) from error
        clip = f"(N, in_channels, frames, crop, crop) = (1, {in_channels}, {frames}, {crop}, {crop})"
        raise R21DError(f"variant {variant}: fails for a clip {clip}: {describe_failure(variant, error)}") from error
    if logits.shape != (1, num_classes):
        raise R21DError(f"variant {variant}: returned {tuple(logits.shape)} for a clip, expected (1, {num_classes})")
    if last and (len(last) != 2 or not torch.equal(*last)):
        expected = "fc to be its last layer, without a softmax after it, which the loss has"
        raise R21DError(f"variant {variant}: returns something else than its fc does; expected {expected}")
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


class _ParametersOf(TorchFunctionMode):
    """Raises ValueError where a function of PyTorch takes a parameter that `network` does not have.

    Such as those of layers in a list, or made in `forward`: no optimizer changes them, and no checkpoint has them.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.known = {id(parameter) for parameter in network.parameters()}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for value in (*args, *(kwargs or {}).values()):
            if isinstance(value, nn.Parameter) and id(value) not in self.known:
                raise ValueError(
                    f"the weights {tuple(value.shape)} are no parameters of the network, so they would be neither "
                    "trained nor saved; expected each layer as an attribute, made in __init__, or in an nn.ModuleList"
                )
        return func(*args, **(kwargs or {}))


def _watch_last(network: Neighbor) -> list[Tensor]:
    """Return a list for the next pass: what takes the place of the output of one's own `fc`, and what `body` returns.

    The former are random numbers; the latter equal them if `fc` is the last layer.
    """
    last: list[Tensor] = []

    def draw(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        if output.shape[-1] != network.fc.in_features:  # said here, within the line of one's own that calls fc
            raise ValueError(f"fc takes {network.fc.in_features} features and got {tuple(output.shape)}")
        last.append(torch.randn_like(output))
        return last[-1]

    network.body.fc.register_forward_hook(draw)
    network.fc.register_forward_pre_hook(lambda _, inputs: last.append(inputs[0]))
    return last
