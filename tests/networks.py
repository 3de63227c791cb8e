"""A tiny run's spec, networks in which every batch norm does something, and kernels that are interpreted faster."""

import pytest
import torch
from torch import nn

from r21d_core.study.spec import Spec

TINY = Spec(
    depth=10, width=2, frames=4, data="tiny", profile="demo", frame_height=18, frame_width=24, crop=16, epochs=1,
    clips_per_epoch=8, batch_size=4, eval_clips=5,
)  # fmt: skip

# A module of one's own, for `--variants MODULE:build`.
NETWORK = """
from torch import nn

class Network(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.spatial = nn.Conv3d(in_channels, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.temporal = nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.norm, self.drop = nn.BatchNorm3d(6), nn.Dropout(0.5)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.fc(self.drop(self.norm(self.temporal(self.spatial(x))).relu().mean((2, 3, 4))))

def build(num_classes, in_channels, frames, crop):
    return Network(num_classes, in_channels)
"""


@pytest.fixture(autouse=True)
def seed():
    """The same random numbers in each test of a folder whose conftest imports this."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def randomize_batch_norms(network, min_var=0.5):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, min_var, 1.5)
    return network


def few_programs(monkeypatch, fused_bn):
    """Total more channels at once: Triton's interpreter takes as long for a program of 64 as for one of 4.

    `test_batch_norm_is_that_of_float64` has the sizes of a GPU.
    """
    monkeypatch.setattr(fused_bn, "PARTS", 64)
    monkeypatch.setattr(fused_bn, "WIDTH", 64)
