"""What a network costs, by arithmetic on the rows of its architecture: parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from r21d_core.models.architecture import Conv, Triple, conv_rows
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_neighbor

CHANNELS = {"rgb": 3, "flow": 2}


@dataclass(frozen=True, kw_only=True)
class ConvCost(Conv):
    """A convolution with the size of its output for one clip."""

    size: Triple

    @property
    def macs(self) -> int:
        """The multiply-adds for one clip."""
        return self.weights * prod(self.size)


@dataclass(frozen=True)
class Cost:
    """The sums over a network; `macs` are the multiply-adds of one clip in convolutions and fc."""

    convs: tuple[ConvCost, ...]
    parameters: int
    conv_fc_weights: int  # the paper's rule: convolutions and fc with its bias, without batch norm
    macs: int
    final_shape: tuple[int, int, int, int]  # channels, time, height, width of conv5_x

    def training_macs(self, frozen_stages: int) -> int:
        """The multiply-adds of a training step for one clip: three passes, but of the frozen stages one.

        The other two are the gradients of activations and weights. That of the clip, which no step needs, is counted.
        """
        frozen = [conv for conv in self.convs if int(conv.name.removeprefix("conv")[0]) <= frozen_stages]
        return 3 * self.macs - 2 * sum(conv.macs for conv in frozen)


def cost(
    variant: str, depth: int = 18, width: int = 64, frames: int = 8, num_classes: int = 400, in_channels: int = 3, *,
    size: int = 112, stem_midplanes: int | None = None, midplanes_per_block: bool = False,
) -> Cost:  # fmt: skip
    """Return the Cost of a network on clips (in_channels, frames, size, size); arguments as for `VideoResNet`."""
    rows = conv_rows(variant, depth, width, frames, in_channels, stem_midplanes, midplanes_per_block)
    convs = tuple(_with_sizes(rows, (frames, size, size)))
    last = convs[-1]
    weights = sum(conv.weights for conv in convs) + (last.out_channels + 1) * num_classes
    return Cost(
        convs=convs,
        parameters=weights + 2 * sum(conv.out_channels for conv in convs if conv.has_norm),
        conv_fc_weights=weights,
        macs=sum(conv.macs for conv in convs) + last.out_channels * num_classes,
        final_shape=(last.out_channels, *last.size),
    )


def spec_cost(spec: Spec, num_classes: int) -> Cost:
    """Return the Cost of the network of `spec`; that of a Neighbor has no list of convolutions."""
    if is_neighbor(spec.variant):
        from r21d_core.models.neighbors import FEATURES, count_neighbor  # counts by PyTorch, which costs time to import

        modality = CHANNELS[spec.modality]
        parameters, macs = count_neighbor(spec.variant, num_classes, spec.frames, spec.crop, modality)
        return Cost((), parameters, parameters, macs, (FEATURES.get(spec.variant, 0), 1, 1, 1))
    return cost(
        spec.variant, spec.depth, spec.width, spec.frames, num_classes, CHANNELS[spec.modality],
        size=spec.crop, midplanes_per_block=spec.midplanes_per_block,
    )  # fmt: skip


def _with_sizes(rows: Iterable[Conv], size: Triple) -> Iterator[ConvCost]:
    """Yield the rows with their output sizes; a branch has the size of the row before it, that it is added to."""
    for row in rows:
        if not row.is_branch:
            t, h, w = (
                (n + 2 * padding - kernel) // stride + 1
                for n, padding, kernel, stride in zip(size, row.padding, row.kernel, row.stride, strict=True)
            )
            size = t, h, w
        yield ConvCost(**vars(row), size=size)
