"""The architecture (Section 3, Table 1) as rows: each convolution, for `network` to build and `cost` to count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt, prod
from typing import NamedTuple

from r21d_core.study.variants import stage_spec

Triple = tuple[int, int, int]  # time, height, width


@dataclass(frozen=True)
class Conv:
    """A convolution without bias; `name` is the module's path in the network."""

    name: str
    in_channels: int
    out_channels: int
    kernel: Triple
    stride: Triple
    padding: Triple
    has_norm: bool = True  # followed by batch norm
    is_branch: bool = False  # its output is added to another's, of the same size: a shortcut, or P3D's parallel form

    @property
    def weights(self) -> int:
        """The number of weights."""
        return self.in_channels * self.out_channels * prod(self.kernel)


class Pair(NamedTuple):
    """How a letter composes a convolution of two in series, the first with M filters."""

    first: str  # a key of KERNELS
    second: str
    between: int = 2  # modules between the two: 2 are batch norm and ReLU, 1 is batch norm
    planes: float = 1  # filters of the first, times M


KERNELS = {"spatial": (1, 3, 3), "temporal": (3, 1, 1), "full": (3, 3, 3), "point": (1, 1, 1)}
PAIRS = {
    "p": Pair("spatial", "temporal"),
    "n": Pair("spatial", "temporal", between=1),
    "l": Pair("spatial", "temporal", between=0),
    "h": Pair("spatial", "temporal", planes=0.5),
    "d": Pair("spatial", "temporal", planes=2),
    "t": Pair("temporal", "spatial"),
    "r": Pair("full", "point"),
}


def conv_rows(
    variant: str, depth: int, width: int, frames: int, in_channels: int, stem_midplanes: int | None, per_block: bool
) -> Iterator[Conv]:
    """Yield the convolutions of a network in the order of its modules; arguments as for `VideoResNet`."""
    letters, blocks = stage_spec(variant, depth)
    if letters[0] == "p":
        mid_channels = stem_midplanes or max(45 * width // 64, 1)
        yield Conv("conv1.0", in_channels, mid_channels, (1, 7, 7), (1, 2, 2), (0, 3, 3))
        yield Conv("conv1.3", mid_channels, width, (3, 1, 1), (1, 1, 1), (1, 0, 0))
    else:
        time = {"c": frames, "2": 1, "3": 3}[letters[0]]
        yield Conv("conv1", in_channels, width, (time, 7, 7), (1, 2, 2), (int(letters[0] == "3"), 3, 3))
    in_channels = width
    for stage, (kind, count) in enumerate(zip(letters[1:], blocks, strict=True), start=2):
        out_channels = width * 2 ** (stage - 2)
        for block in range(count):
            name = f"conv{stage}_x.{block}"
            stride = (1, 1, 1) if stage == 2 or block else (1, 2, 2) if kind == "2" else (2, 2, 2)
            mid_of = in_channels if per_block and kind == "p" else out_channels
            yield from composition(f"{name}.conv1", kind, in_channels, out_channels, stride)
            yield from composition(f"{name}.conv2", kind, out_channels, out_channels, mid_of=mid_of)
            if stride != (1, 1, 1):
                yield Conv(
                    f"{name}.shortcut.0", in_channels, out_channels, (1, 1, 1), stride, (0, 0, 0), is_branch=True
                )
            in_channels = out_channels


def composition(
    name: str, kind: str, in_channels: int, out_channels: int, stride: Triple = (1, 1, 1), mid_of: int = 0
) -> Iterator[Conv]:
    """Yield the convolutions that a letter stands for in a residual block.

    A convolution takes the stride along the axes on which its kernel is larger than 1. `mid_of`, if any, are the input
    channels that M is computed of.
    """
    mid_channels = midplanes(mid_of or in_channels, out_channels, kind)

    def own_stride(kernel: str) -> Triple:
        time, height, width = (s if size > 1 else 1 for s, size in zip(stride, KERNELS[kernel], strict=True))
        return time, height, width

    def row(name: str, kernel: str, channels: tuple[int, int], stride: Triple, **flags) -> Conv:
        sizes = KERNELS[kernel]
        return Conv(name, *channels, sizes, stride, (sizes[0] // 2, sizes[1] // 2, sizes[2] // 2), **flags)

    if kind in PAIRS:
        first, second, between, _ = PAIRS[kind]
        yield row(f"{name}.0", first, (in_channels, mid_channels), own_stride(first), has_norm=between > 0)
        yield row(f"{name}.{between + 1}", second, (mid_channels, out_channels), own_stride(second))
    elif kind in "bs":
        is_branch = kind == "b"
        spatial, temporal = (stride if is_branch else own_stride(kernel) for kernel in ("spatial", "temporal"))
        yield row(f"{name}.spatial", "spatial", (in_channels, mid_channels), spatial)
        channels = (in_channels if is_branch else mid_channels), mid_channels
        yield row(f"{name}.temporal", "temporal", channels, temporal, is_branch=is_branch)
        yield row(f"{name}.project", "point", (mid_channels, out_channels), (1, 1, 1))
    else:
        kernel = {"2": "spatial", "3": "full"}[kind]
        yield row(name, kernel, (in_channels, out_channels), stride)


def midplanes(in_channels: int, out_channels: int, kind: str = "p") -> int:
    """Return M_i of Section 3.5 for t = d = 3: the letter's convolutions then have at most as many weights as a 3×3×3.

    P3D's are a spatial, a temporal and a projecting 1×1×1 convolution. The letters h and d halve and double M_i.
    """
    weights = 27 * in_channels * out_channels
    if kind == "b":
        return max(weights // (9 * in_channels + 3 * in_channels + out_channels), 1)
    if kind == "s":  # the largest M with 9·i·M + 3·M² + M·o ≤ weights
        linear = 9 * in_channels + out_channels
        return max((isqrt(linear**2 + 12 * weights) - linear) // 6, 1)
    first, second, _, planes = PAIRS.get(kind, PAIRS["p"])
    most = weights // (prod(KERNELS[first]) * in_channels + prod(KERNELS[second]) * out_channels)
    return max(int(planes * most), 1)
