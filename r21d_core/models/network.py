"""The one network class: residual blocks whose convolutions are those of the variant's letters (Section 3, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from r21d_core import R21DError
from r21d_core.models.architecture import Conv, conv_rows
from r21d_core.study.variants import stage_spec, variant_name


class VideoResNet(nn.Module):
    """Compute logits (N, num_classes) of clips (N, in_channels, T, H, W).

    `variant` is a name of NETWORKS, or five letters such as "33p22". conv1 and conv2_x have `width` filters, each later
    stage twice as many. The stem of R(2+1)D has 45 planes at width 64, as in the authors' code; Section 3.5 gives 83
    (`stem_midplanes=83`). `midplanes_per_block` computes M_i once a block, as torchvision does, instead of for each
    convolution. A network whose conv1 spans the clip (R2D) raises R21DError for other lengths than `frames`.
    """

    def __init__(
        self, variant: str = "R(2+1)D", depth: int = 18, width: int = 64, *, num_classes: int = 400, frames: int = 8,
        in_channels: int = 3, stem_midplanes: int | None = None, midplanes_per_block: bool = False, eps: float = 1e-3,
    ):  # fmt: skip
        super().__init__()
        letters, blocks = stage_spec(variant, depth)
        rows = conv_rows(variant, depth, width, frames, in_channels, stem_midplanes, midplanes_per_block)
        convs = {row.name: row for row in rows}
        self.variant = variant_name(variant)
        self.frames = frames if letters[0] == "c" else None
        self.num_classes = num_classes
        self.conv1, self.bn1 = make_conv(convs, "conv1")
        self.relu = nn.ReLU(inplace=True)
        self.conv2_x, self.conv3_x, self.conv4_x, self.conv5_x = (
            nn.Sequential(*(Block(convs, f"conv{stage}_x.{block}") for block in range(count)))
            for stage, count in enumerate(blocks, start=2)
        )
        self.fc = nn.Linear(8 * width, num_classes)
        self._frozen: list[nn.Module] = []
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = eps
        if self.fc.weight.is_meta:  # has no values, and PyTorch would import its compiler to draw them: seconds
            return
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)

    def freeze(self, stages: int) -> None:
        """Keep the first `stages` of conv1, conv2_x … conv5_x as they are in training, their statistics too."""
        self._frozen = [*self.children()][: stages + 2] if stages else []  # after conv1 come its batch norm and ReLU
        for module in self._frozen:
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> VideoResNet:
        """Set the mode, which of frozen stages stays evaluation."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of clips (N, in_channels, T, H, W)."""
        if self.frames not in (None, x.shape[2]):
            raise R21DError(f"{self.variant} was built for clips of {self.frames} frames and got {x.shape[2]}")
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the output of conv5_x, (N, 8·width, T', H', W')."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.conv5_x(self.conv4_x(self.conv3_x(self.conv2_x(x))))

    def forward_head(self, x: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of the output of conv5_x, averaged over time and space."""
        return self.fc(x.mean((2, 3, 4)))


class Block(nn.Module):
    """Two convolutions and a shortcut, equation (1); `name` is the block's path in `convs`."""

    def __init__(self, convs: Mapping[str, Conv], name: str):
        super().__init__()
        self.conv1, self.bn1 = make_conv(convs, f"{name}.conv1")
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = make_conv(convs, f"{name}.conv2")
        self.relu2 = nn.ReLU(inplace=True)
        shortcut = f"{name}.shortcut.0"
        self.shortcut = nn.Sequential(*make_conv(convs, shortcut)) if shortcut in convs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, T', H', W') of (N, in_channels, T, H, W)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class P3D(nn.Module):
    """The sum of a spatial and a temporal convolution, both with batch norm and ReLU, projected by a 1×1×1 one.

    The temporal one takes the input (P3D's parallel form) or the output of the spatial one (its skip form).
    """

    def __init__(self, spatial: Conv, temporal: Conv, project: Conv):
        super().__init__()
        self.is_parallel = temporal.is_branch
        self.spatial, self.spatial_norm = _conv3d(spatial), nn.BatchNorm3d(spatial.out_channels)
        self.spatial_relu = nn.ReLU(inplace=True)
        self.temporal, self.temporal_norm = _conv3d(temporal), nn.BatchNorm3d(temporal.out_channels)
        self.temporal_relu = nn.ReLU(inplace=True)
        self.project = _conv3d(project)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, T', H', W') of (N, in_channels, T, H, W)."""
        spatial = self.spatial_relu(self.spatial_norm(self.spatial(x)))
        temporal = self.temporal_relu(self.temporal_norm(self.temporal(x if self.is_parallel else spatial)))
        return self.project(self.add(spatial, temporal))

    def add(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """Return the sum, at the frames that a temporal convolution with a stride leaves."""
        return temporal + (spatial if self.is_parallel else spatial[:, :, :: self.temporal.stride[0]])


def make_conv(convs: Mapping[str, Conv], name: str) -> tuple[nn.Module, nn.BatchNorm3d]:
    """Return the convolution at a path, a Conv3d, a Sequential of two, or a P3D, and its batch norm."""
    rows = [row for path, row in convs.items() if path == name or path.startswith(f"{name}.")]
    norm = nn.BatchNorm3d(rows[-1].out_channels)
    if len(rows) == 1:
        return _conv3d(rows[0]), norm
    if len(rows) == 3:
        return P3D(*rows), norm
    first, second = rows
    between = nn.BatchNorm3d(first.out_channels), nn.ReLU(inplace=True)
    n_between = int(second.name.rpartition(".")[2]) - 1
    return nn.Sequential(_conv3d(first), *between[:n_between], _conv3d(second)), norm


def _conv3d(row: Conv) -> nn.Conv3d:
    return nn.Conv3d(row.in_channels, row.out_channels, row.kernel, row.stride, row.padding, bias=False)
