"""The architecture (Section 3, Table 1) as rows: each convolution, for `network` to build and `cost` to count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from r21d_core.study.variants import stage_spec

Triple = tuple[int, int, int]  # time, height, width


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, followed by batch norm; `name` is the module's path in the network."""

    name: str
    in_channels: int
    out_channels: int
    kernel: Triple
    stride: Triple
    padding: Triple

    @property
    def weights(self) -> int:
        """The number of weights."""
        return self.in_channels * self.out_channels * prod(self.kernel)


def conv_rows(
    variant: str, depth: int, width: int, frames: int, in_channels: int, stem_midplanes: int | None, per_block: bool
) -> Iterator[Conv]:
    """Yield the convolutions of a network in the order of its modules; arguments as for `VideoResNet`."""
    letters, blocks = stage_spec(variant, depth)
    mid_channels = stem_midplanes or max(45 * width // 64, 1)
    yield from _conv("conv1", letters[0], in_channels, mid_channels, width, (1, 2, 2), size=7, time=frames)
    in_channels = width
    for stage, (kind, count) in enumerate(zip(letters[1:], blocks, strict=True), start=2):
        out_channels = width * 2 ** (stage - 2)
        for block in range(count):
            name = f"conv{stage}_x.{block}"
            stride = (1, 1, 1) if stage == 2 or block else (1, 2, 2) if kind == "2" else (2, 2, 2)
            first = midplanes(in_channels, out_channels)
            second = first if per_block else midplanes(out_channels, out_channels)
            yield from _conv(f"{name}.conv1", kind, in_channels, first, out_channels, stride)
            yield from _conv(f"{name}.conv2", kind, out_channels, second, out_channels, (1, 1, 1))
            if stride != (1, 1, 1):
                yield Conv(f"{name}.shortcut.0", in_channels, out_channels, (1, 1, 1), stride, (0, 0, 0))
            in_channels = out_channels


def _conv(
    name: str, kind: str, in_channels: int, mid_channels: int, out_channels: int, stride: Triple, size=3, time=3
) -> Iterator[Conv]:
    """Yield the convolution of a letter; for `p` the spatial one, to `mid_channels`, and the temporal one."""
    half = size // 2
    if kind == "p":
        yield Conv(f"{name}.0", in_channels, mid_channels, (1, size, size), (1, *stride[1:]), (0, half, half))
        yield Conv(f"{name}.3", mid_channels, out_channels, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0))
    else:
        kernel, padding = {"c": (time, 0), "2": (1, 0), "3": (3, 1)}[kind]
        yield Conv(name, in_channels, out_channels, (kernel, size, size), stride, (padding, half, half))


def midplanes(in_channels: int, out_channels: int) -> int:
    """Return M_i of Section 3.5 for t = d = 3: a (2+1)D pair then has at most as many weights as a 3×3×3."""
    return 27 * in_channels * out_channels // (9 * in_channels + 3 * out_channels)
