"""The network with every ReLU a module of its own, which methods that hook or replace ReLUs need."""

from __future__ import annotations

from torch import Tensor, nn

from r21d_analysis.interpret.filters import GROUPS
from r21d_core.models.network import Block, VideoResNet


class Twin(nn.Module):
    """What `network` computes in evaluation, (N, channels, T, H, W) to (N, classes), with the very same parameters.

    GROUPS are its modules, in turn, each with its batch norm and last ReLU. No ReLU works in place and none is used
    twice. The network is left evaluating.
    """

    def __init__(self, network: VideoResNet):
        super().__init__()
        self.conv1 = nn.Sequential(_conv(network.conv1), network.bn1, nn.ReLU())
        for name in GROUPS[1:]:
            self.add_module(name, nn.Sequential(*map(TwinBlock, getattr(network, name))))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.fc = network.fc
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        for name in GROUPS:
            x = getattr(self, name)(x)
        return self.fc(self.pool(x))

    def last_relu(self, group: str) -> nn.ReLU:
        """The ReLU that ends `group`: its input is what the group says before the negative is cut off."""
        last = getattr(self, group)[-1]
        return last.relu2 if isinstance(last, TwinBlock) else last


class TwinBlock(nn.Module):
    """`Block` with its ReLUs as modules."""

    def __init__(self, block: Block):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = _conv(block.conv1), block.bn1, nn.ReLU()
        self.conv2, self.bn2, self.relu2 = _conv(block.conv2), block.bn2, nn.ReLU()
        self.shortcut = block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


def _conv(conv: nn.Module) -> nn.Module:
    """The convolution; of a (2+1)D pair its parts, with a ReLU that does not work in place."""
    if not isinstance(conv, nn.Sequential):
        return conv
    return nn.Sequential(*(nn.ReLU() if isinstance(part, nn.ReLU) else part for part in conv))
