"""What a network costs, by arithmetic on its row of the table: every convolution, its weights and its multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from r21d_core.models.variants import VARIANTS, midplanes, stage_spec
from r21d_core.study.spec import Spec

Three = tuple[int, int, int]  # time, height, width
CHANNELS = {"rgb": 3, "flow": 2}


@dataclass(frozen=True)
class Conv:
    """A convolution without bias, followed by batch norm; `name` is its path in the network."""

    name: str
    inputs: int
    outputs: int
    kernel: Three
    stride: Three
    padding: Three
    size: Three  # of its output

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * prod(self.kernel)

    @property
    def macs(self) -> int:
        return self.weights * prod(self.size)


@dataclass(frozen=True)
class Cost:
    """The sums over a network; `macs` are the multiply-adds of one clip in convolutions and fc."""

    convs: tuple[Conv, ...]
    parameters: int
    conv_fc_weights: int  # the paper's rule: convolutions and fc, its bias included, without batch norm
    macs: int
    final_shape: tuple[int, int, int, int]  # channels, time, height, width of conv5_x


def cost(
    variant: str,
    depth: int = 18,
    width: int = 64,
    frames: int = 8,
    classes: int = 400,
    channels: int = 3,
    *,
    size: int = 112,
    stem_midplanes: int | None = None,
    midplanes_per_block: bool = False,
) -> Cost:
    """The Cost of a network on clips (channels, frames, size, size); arguments as for `VideoResNet`."""
    convs = tuple(_convs(variant, depth, width, (frames, size, size), channels, stem_midplanes, midplanes_per_block))
    last = convs[-1]
    weights = sum(conv.weights for conv in convs) + (last.outputs + 1) * classes
    return Cost(
        convs=convs,
        parameters=weights + 2 * sum(conv.outputs for conv in convs),
        conv_fc_weights=weights,
        macs=sum(conv.macs for conv in convs) + last.outputs * classes,
        final_shape=(last.outputs, *last.size),
    )


def spec_cost(spec: Spec, classes: int) -> Cost:
    """The Cost of the network of `spec`."""
    return cost(
        spec.variant,
        spec.depth,
        spec.width,
        spec.frames,
        classes,
        CHANNELS[spec.modality],
        size=spec.crop,
        midplanes_per_block=spec.midplanes_per_block,
    )


def _convs(variant, depth, width, size: Three, channels, stem_midplanes, midplanes_per_block):
    """The rows in the order of the network; each starts from the size the one before it leaves."""
    letters, blocks = stage_spec(variant, depth)
    middle = stem_midplanes or max(45 * width // 64, 1)
    yield from (stem := list(_conv("conv1", letters[0], channels, width, size, (1, 2, 2), 7, middle)))
    size, inputs = stem[-1].size, width
    for group, (letter, count) in enumerate(zip(letters[1:], blocks, strict=True), start=2):
        outputs = width * 2 ** (group - 2)
        for block in range(count):
            name = f"conv{group}_x.{block}"
            stride = (1, 1, 1) if group == 2 or block else (1, 2, 2) if letter == "2" else (2, 2, 2)
            one = list(_conv(f"{name}.conv1", letter, inputs, outputs, size, stride))
            middle = midplanes(inputs, outputs) if midplanes_per_block else None
            two = list(_conv(f"{name}.conv2", letter, outputs, outputs, one[-1].size, (1, 1, 1), middle=middle))
            yield from one + two
            if stride != (1, 1, 1):
                yield Conv(f"{name}.shortcut.0", inputs, outputs, (1, 1, 1), stride, (0, 0, 0), two[-1].size)
            size, inputs = two[-1].size, outputs


def _conv(name, letter, inputs, outputs, size: Three, stride: Three, d=3, middle=None):
    """The convolution of a letter; for (2+1)D two: the spatial stride is on the first, the temporal on the second."""
    half = d // 2
    if letter == "p":
        middle = middle or midplanes(inputs, outputs)
        spatial = _sized(f"{name}.0", inputs, middle, (1, d, d), (1, *stride[1:]), (0, half, half), size)
        yield spatial
        yield _sized(f"{name}.3", middle, outputs, (3, 1, 1), (stride[0], 1, 1), (1, 0, 0), spatial.size)
    else:
        time, pad = {"c": (size[0], 0), "2": (1, 0), "3": (3, 1)}[letter]
        yield _sized(name, inputs, outputs, (time, d, d), stride, (pad, half, half), size)


def _sized(name, inputs, outputs, kernel: Three, stride: Three, padding: Three, size: Three) -> Conv:
    out = tuple((s + 2 * p - k) // t + 1 for s, p, k, t in zip(size, padding, kernel, stride, strict=True))
    return Conv(name, inputs, outputs, kernel, stride, padding, out)


def variants_table(depth=18, width=64, frames=8, classes=400, channels=3) -> list[dict]:
    """What `r21d variants --json` prints: a dict for each of the twelve networks, in Table 2's order."""
    rows = []
    for name in VARIANTS:
        c = cost(name, depth, width, frames, classes, channels)
        rows.append(
            {
                "name": name,
                "parameters": c.parameters,
                "conv_fc_weights": c.conv_fc_weights,
                "macs": c.macs,
                "final_shape": list(c.final_shape),
            }
        )
    return rows


def format_variants(rows: list[dict]) -> str:
    """`variants_table`'s rows as a table for people."""
    lines = [f"{'network':<9}{'parameters':>13}{'conv+fc weights':>17}{'GMAC/clip':>11}   conv5_x"]
    for row in rows:
        shape = "×".join(map(str, row["final_shape"]))
        lines.append(
            f"{row['name']:<9}{row['parameters']:>13,}{row['conv_fc_weights']:>17,}{row['macs'] / 1e9:>11.3f}   {shape}"
        )
    return "\n".join(lines)
