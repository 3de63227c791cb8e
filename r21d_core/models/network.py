"""The one network class: residual blocks whose convolutions are what the variant's letters say (Section 3, Table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from r21d_core import R21DError
from r21d_core.models.variants import midplanes, stage_spec


class VideoResNet(nn.Module):
    """Logits (N, classes) of clips (N, channels, T, H, W).

    `width` filters in conv1 and conv2_x, doubled with each later group. The stem of R(2+1)D goes through 45 planes at
    width 64, as in the authors' code; the formula of Section 3.5 gives 83 (`stem_midplanes=83`). Its blocks compute
    M_i for each convolution; `midplanes_per_block` computes it once a block, as torchvision does and only its
    weights need. R2D takes clips of `frames` frames and raises R21DError for others.
    """

    def __init__(
        self,
        variant: str = "R(2+1)D",
        depth: int = 18,
        width: int = 64,
        *,
        classes: int = 400,
        frames: int = 8,
        channels: int = 3,
        stem_midplanes: int | None = None,
        midplanes_per_block: bool = False,
        eps: float = 1e-3,
    ):
        super().__init__()
        letters, blocks = stage_spec(variant, depth)
        self.variant = variant
        self.frames = frames if letters[0] == "c" else None
        middle = stem_midplanes or max(45 * width // 64, 1)
        time = frames if letters[0] == "c" else 3
        self.conv1 = make_conv(letters[0], channels, width, (1, 2, 2), middle, d=7, time=time)
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        inputs = width
        for group, (letter, count) in enumerate(zip(letters[1:], blocks, strict=True), start=2):
            outputs = width * 2 ** (group - 2)
            stride = (1, 1, 1) if group == 2 else (1, 2, 2) if letter == "2" else (2, 2, 2)
            stack = [Block(letter, inputs, outputs, stride, midplanes_per_block)]
            stack += [Block(letter, outputs, outputs, (1, 1, 1), midplanes_per_block) for _ in range(count - 1)]
            setattr(self, f"conv{group}_x", nn.Sequential(*stack))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm3d):
                module.eps = eps
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.frames not in (None, x.shape[2]):
            raise R21DError(f"{self.variant} was built for clips of {self.frames} frames and got {x.shape[2]}")
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the output of conv5_x, (N, 8·width, T', H', W')."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.conv5_x(self.conv4_x(self.conv3_x(self.conv2_x(x))))

    def forward_head(self, x: Tensor) -> Tensor:
        """Return the logits (N, classes) of the output of conv5_x, averaged over time and space."""
        return self.fc(x.mean((2, 3, 4)))


class Block(nn.Module):
    """Two convolutions and a shortcut, (N, inputs, T, H, W) to (N, outputs, …), equation (1)."""

    def __init__(self, letter: str, inputs: int, outputs: int, stride, midplanes_per_block: bool):
        super().__init__()
        middle = midplanes(inputs, outputs)
        again = middle if midplanes_per_block else midplanes(outputs, outputs)
        self.conv1 = make_conv(letter, inputs, outputs, stride, middle)
        self.bn1 = nn.BatchNorm3d(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = make_conv(letter, outputs, outputs, (1, 1, 1), again)
        self.bn2 = nn.BatchNorm3d(outputs)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != (1, 1, 1):
            self.shortcut = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm3d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


def make_conv(letter: str, inputs: int, outputs: int, stride, middle: int, d: int = 3, time: int = 3) -> nn.Module:
    """The convolution of a letter; for `p` a spatial one to `middle` planes, BN, ReLU and a temporal one."""
    half = d // 2
    if letter == "p":
        return nn.Sequential(
            nn.Conv3d(inputs, middle, (1, d, d), (1, *stride[1:]), (0, half, half), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, outputs, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0), bias=False),
        )
    kernel, pad = {"c": (time, 0), "2": (1, 0), "3": (3, 1)}[letter]
    return nn.Conv3d(inputs, outputs, (kernel, d, d), stride, (pad, half, half), bias=False)
