"""The networks themselves, drawn and counted from their rows by arithmetic: Table 1, Figures 1 and 2, M_i. No runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, product
from math import prod, sqrt

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import COLOURS, GREY
from r21d_core import R21DError
from r21d_core.models.architecture import midplanes
from r21d_core.models.cost import ConvCost, cost
from r21d_core.study.paper import paper
from r21d_core.study.variants import VARIANTS, stage_spec

# How a letter of a variant's row looks and is called: name, colour, hatch.
LETTERS = {
    "c": ("2-D, whole clip", COLOURS["R2D"], "..."),
    "2": ("2-D", COLOURS["R2D"], ""),
    "3": ("3-D", COLOURS["R3D"], "////"),
    "p": ("(2+1)D", COLOURS["R(2+1)D"], "xxx"),
}
FIGURE_1 = (
    ("R2D", "f-R2D", "R3D", "R(2+1)D"),
    ("MC2", "MC3", "MC4", "MC5"),
    ("rMC2", "rMC3", "rMC4", "rMC5"),
)
PLAIN = {"facecolor": "#ededed", "edgecolor": GREY, "hatch": ""}  # the clip, pooling and fc
CROP = 112  # Table 1's input
CLASSES = 400
READING = "One sheet is one frame of the output, so a stack that gets thinner loses time; a sheet's side goes with √H."


@dataclass(frozen=True)
class Group:
    """One of conv1, conv2_x … conv5_x: a letter of the variant's row and the convolutions it became."""

    name: str
    letter: str
    convs: tuple[ConvCost, ...]  # shortcuts among them

    @property
    def blocks(self) -> list[tuple[list[str], int]]:
        """Its blocks as lines `kernel, filters` and how many in a row are like that; conv1 is one block."""
        path = [conv for conv in self.convs if "shortcut" not in conv.name]
        each = [[_line(conv, self) for conv in block] for _, block in groupby(path, lambda conv: _block(conv.name))]
        return [(lines, len(list(same))) for lines, same in groupby(each)]

    @property
    def stride(self) -> tuple[int, ...]:
        """Of the group as a whole: time, height, width."""
        path = [conv.stride for conv in self.convs if "shortcut" not in conv.name]
        return tuple(map(prod, zip(*path, strict=True)))

    @property
    def last(self) -> ConvCost:
        return [conv for conv in self.convs if "shortcut" not in conv.name][-1]


def draw_network(variant: str, depth: int = 18, width: int = 64, frames: int = 8) -> Figure:
    """One network as in Figure 1, from clip to classes, with each group's kernels, stride and output size.

    A stack has a sheet for each frame that leaves the group: where stacks get thinner, time is collapsed.
    """
    found = _groups(variant, depth, width, frames)
    texts = [_kernels(group) for group in found]
    tall = 0.145 * max(text.count("\n") + 1 for text in texts)
    columns = [0.5 + 0.85 + 1.47 * number for number in range(6)] + [9.95, 10.85]
    figure, axes = _canvas(11.5, 3.95 + tall)
    middle, top = 2.85 + tall, 1.95 + tall
    size = (frames, CROP, CROP)
    edges = [_stack(axes, columns[0], middle, 0.9, size, frames, 0.45, PLAIN)]
    for x, group in zip(columns[1:], found, strict=False):
        edges.append(_stack(axes, x, middle, 0.9, group.last.size, frames, 0.45, _look(group.letter)))
    edges += [_stack(axes, x, middle, 0.9, (1, 2, 2), frames, 0.45, PLAIN) for x in columns[6:]]
    for (_, right), (left, _) in pairwise(edges):
        _arrow(axes, right + 0.03, left - 0.03, middle)
    outputs = found[-1].last.out_channels
    rows = {
        "": (["clip", *(group.name for group in found), "pool", "fc"], 0),
        "form": (["", *(LETTERS[group.letter][0] for group in found), "", ""], 0.24),
        "output,\nT×H×W": ([_by(size), *(_by(group.last.size) for group in found), "1×1×1", f"{CLASSES} classes"], 0.5),
        "channels": (["3", *(str(group.last.out_channels) for group in found), str(outputs), ""], 0.92),
        "stride": (["", *(_by(group.stride) for group in found), "", ""], 1.16),
        "kernels,\nfilters": (["", *texts, "mean over\nT, H, W", ""], 1.42),
    }
    for label, (cells, down) in rows.items():
        axes.text(0.12, top - down, label, va="top", size=8, color=GREY)
        for x, cell in zip(columns, cells, strict=True):
            axes.text(x, top - down, cell, ha="center", va="top", size=8.5, weight="normal" if label else "bold")
    c = cost(variant, depth, width, frames, CLASSES)
    title = f"{variant}, {depth} layers: {c.parameters:,} parameters, {_giga(c.macs)} for a clip of {frames} frames"
    axes.text(0.12, 3.78 + tall, title, weight="bold", va="center")
    axes.text(0.12, 0.14, READING, size=8, color=GREY, va="center")
    return _closed(figure)


def draw_all(depth: int = 18, width: int = 64, frames: int = 8) -> Figure:
    """Figure 1 for all twelve networks: under each group its form of convolution and T, the frames that leave it."""
    figure, panels = plt.subplots(3, 4, figsize=(11.5, 5.6))
    figure.subplots_adjust(0.01, 0.1, 0.99, 0.95, 0.04, 0.16)
    for axes, variant in zip(panels.flat, (name for row in FIGURE_1 for name in row), strict=True):
        axes.set(xlim=(0, 2.8), ylim=(-0.62, 0.84), aspect="equal", title=variant)
        axes.title.set(size=10, weight="bold")
        axes.set_axis_off()
        for number, group in enumerate(_groups(variant, depth, width, frames)):
            x = 0.3 + 0.55 * number
            _stack(axes, x, 0.42, 0.49, group.last.size, frames, 0.16, _look(group.letter))
            axes.text(x, -0.06, group.name, ha="center", va="top", size=7, color=GREY)
            axes.text(x, -0.22, LETTERS[group.letter][0].split(",")[0], ha="center", va="top", size=8)
            axes.text(x, -0.4, f"T = {group.last.size[0]}", ha="center", va="top", size=8)
    handles = [Patch(**_look(letter), label=name) for letter, (name, *_) in LETTERS.items()]
    figure.legend(handles=handles, loc="lower left", ncols=4, frameon=False, fontsize=9, bbox_to_anchor=(0.005, -0.002))
    figure.text(0.985, 0.028, READING, size=8, color=GREY, ha="right", va="center")
    return _closed(figure)


def draw_factorisation(inputs: int = 64, outputs: int = 64) -> Figure:
    """Figure 2: a 3-D convolution from `inputs` to `outputs` channels beside its (2+1)D pair, with M_i and weights."""
    if inputs < 1 or outputs < 1:
        raise R21DError(f"channels {inputs} → {outputs}: expected 1 or more of both")
    middle = midplanes(inputs, outputs)
    full, spatial, temporal = 27 * inputs * outputs, 9 * inputs * middle, 3 * middle * outputs
    figure, axes = _canvas(11, 3.9)
    for x, time, side, letter in ((1.8, 3, 3, "3"), (5.5, 1, 3, "p"), (9.0, 3, 1, "p")):
        _kernel(axes, x, 2.42, time, side, _look(letter))
    _arrow(axes, 6.4, 8.4, 2.42)
    axes.text(7.4, 2.5, f"{middle} planes\nBN, ReLU", ha="center", va="bottom", size=9)
    for x, title in ((1.8, "(a) 3-D convolution"), (7.25, "(b) (2+1)D convolution")):
        axes.text(x, 3.68, title, ha="center", va="center", weight="bold")
    for x, text in (
        (1.8, f"3×3×3, {inputs} → {outputs}\n3·3·3·{inputs}·{outputs} = {full:,} weights"),
        (5.5, f"1×3×3, {inputs} → {middle}\n1·3·3·{inputs}·{middle} = {spatial:,} weights"),
        (9.0, f"3×1×1, {middle} → {outputs}\n3·1·1·{middle}·{outputs} = {temporal:,} weights"),
    ):
        axes.text(x, 1.3, text, ha="center", va="top", size=9.5)
    share = 100 * (spatial + temporal) / full
    together = f"together {spatial + temporal:,} weights, {share:.1f} % of (a)'s, and a ReLU more"
    axes.text(7.25, 0.7, together, ha="center", va="top", size=9.5)
    axes.text(7.25, 0.38, f"M = {_working(inputs, outputs, 3)} = {middle}", ha="center", va="top", size=9.5)
    axes.text(0.12, 0.14, "a square is one weight of a filter; sheets behind one another: time", size=8, color=GREY)
    return _closed(figure)


def group_table(
    variant: str = "R3D", width: int = 64, frames: int = 8, depths: Sequence[int] = (18, 34)
) -> pd.DataFrame:
    """Table 1: the output size of each group, the stride at its beginning, and its blocks at each of `depths`."""
    each = [_groups(variant, depth, width, frames) for depth in depths]
    rows = [
        {"group": groups_[0].name, "output T×H×W": _by(groups_[0].last.size), "stride": _by(groups_[0].stride)}
        | {f"{variant}-{depth}": _bracketed(group) for depth, group in zip(depths, groups_, strict=True)}
        for groups_ in zip(*each, strict=True)
    ]
    return pd.DataFrame(rows).set_index("group")


def layer_table(
    variant: str, depth: int = 18, width: int = 64, frames: int = 8, classes: int = CLASSES, channels: int = 3
) -> pd.DataFrame:
    """Every convolution with its weights and GMAC a clip, then fc (with its bias), batch norm and the total of `cost`.

    weights = inputs · outputs · kernel, and multiply-adds = weights · output T·H·W. Batch norm has two numbers a
    channel; its multiply-adds are not counted, as usual.
    """
    c = cost(variant, depth, width, frames, classes, channels)
    rows = [
        (k.name, _by(k.kernel), _by(k.stride), k.in_channels, k.out_channels, _by(k.size), k.weights, k.macs / 1e9)
        for k in c.convs
    ]
    last = c.convs[-1].out_channels
    rows += [
        ("fc", "", "", last, classes, "", (last + 1) * classes, last * classes / 1e9),
        ("batch norm", "", "", None, None, "", c.parameters - c.conv_fc_weights, None),
        ("total", "", "", None, None, "", c.parameters, c.macs / 1e9),
    ]
    columns = ["layer", "kernel", "stride", "inputs", "outputs", "output T×H×W", "weights", "GMAC"]
    table = pd.DataFrame(rows, columns=columns).set_index("layer")
    return table.astype({"inputs": "Int64", "outputs": "Int64"})


def midplanes_table(depth: int = 18, width: int = 64) -> pd.DataFrame:
    """M_i of each (2+1)D convolution of R(2+1)D: by Section 3.5's formula with its working, here, and in torchvision.

    `times` is how many convolutions of the network are like that. Torchvision computes M once a block, from the
    block's input and output, so the second convolution of a block that widens has fewer planes there.
    """
    path = [conv for conv in cost("R(2+1)D", depth, width).convs if "shortcut" not in conv.name]
    found: dict[tuple, list[str]] = {}
    opening = {}
    for spatial, temporal in zip(path[::2], path[1::2], strict=True):
        name, block = spatial.name.removesuffix(".0"), _block(spatial.name)
        shape = (spatial.in_channels, temporal.out_channels, spatial.kernel[1], spatial.out_channels)
        once = opening.setdefault(block, shape[3])  # the block's first convolution sees the block's inputs and outputs
        found.setdefault((*shape, once), []).append(name)
    rows = []
    for (inputs, outputs, d, used, once), names in found.items():
        formula = _formula(inputs, outputs, d)
        remarks = [f"{used} as in the authors' code (45 at width 64), not the formula's {formula}"] * (used != formula)
        remarks += [f"torchvision has {once}, the first of its block"] * (once != used)
        rows.append(
            {
                "convolution": names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}",
                "times": len(names),
                "inputs": inputs,
                "outputs": outputs,
                "working": _working(inputs, outputs, d),
                "M by the formula": formula,
                "M here": used,
                "M in torchvision": once,
                "weights": used * (d * d * inputs + 3 * outputs),
                "weights of 3-D": 3 * d * d * inputs * outputs,
                "remark": "; ".join(remarks),
            }
        )
    return pd.DataFrame(rows).set_index("convolution")


def counts_table(depth: int = 18, width: int = 64, lengths: Sequence[int] = (8, 16)) -> pd.DataFrame:
    """The twelve networks: parameters, the paper's rule (convolutions and fc) beside what it prints, GMAC and final T.

    Parameters are those for clips of `lengths[0]` frames, on which R2D's alone depend. The paper prints 18 layers of
    width 64; other sizes have no column of it.
    """
    rows = []
    for variant, letters in VARIANTS.items():
        costs = [cost(variant, depth, width, frames, CLASSES) for frames in lengths]
        full, rule = costs[0].parameters, costs[0].conv_fc_weights
        row = {"network": variant, "groups": letters, "parameters": full, "conv + fc weights": rule}
        if (depth, width) == (18, 64):
            printed = paper(2, variant, "parameters (M)")
            row |= {"paper (M)": printed, "agrees": _agreement(full, rule, printed)}
        row |= {f"GMAC, {frames} frames": c.macs / 1e9 for frames, c in zip(lengths, costs, strict=True)}
        row["final T"] = ", ".join(str(c.final_shape[1]) for c in costs)
        rows.append(row)
    return pd.DataFrame(rows).set_index("network")


def show(table: pd.DataFrame) -> Styler:
    """A table of this file for a notebook: whole, with thousands separated; what is the paper's own is grey."""
    formats = {
        name: "{:,.1f}" if name == "paper (M)" else "{:,.3f}"
        for name in table.columns
        if pd.api.types.is_float_dtype(table[name])
    }
    formats |= {name: "{:,}" for name in table.columns if pd.api.types.is_integer_dtype(table[name])}
    words = [name for name in table.columns if name not in formats]
    return (
        table.style.format(formats, na_rep="", escape="html")
        .format(escape="html", subset=words)
        .map(lambda _: f"color: {GREY}", subset=[name for name in table.columns if name == "paper (M)"])
        .set_properties(words, **{"text-align": "left", "white-space": "pre-line"})
    )


def _groups(variant: str, depth: int, width: int, frames: int) -> list[Group]:
    letters, _ = stage_spec(variant, depth)
    convs = cost(variant, depth, width, frames, CLASSES, size=CROP).convs
    names = ["conv1", *(f"conv{number}_x" for number in range(2, 6))]
    of = [tuple(conv for conv in convs if conv.name.split(".")[0] == name) for name in names]
    return [Group(*row) for row in zip(names, letters, of, strict=True)]


def _block(name: str) -> str:
    """`conv3_x.0.conv2.3` is of the block `conv3_x.0`, and all of the stem is of one block."""
    return ".".join(name.split(".")[:2]) if "_x" in name else "conv1"


def _line(conv: ConvCost, group: Group) -> str:
    middle = group.letter == "p" and conv.kernel[0] == 1
    return f"{_by(conv.kernel)}, {'M = ' * middle}{conv.out_channels}"


def _kernels(group: Group) -> str:
    if group.name == "conv1":
        return "\n".join(group.blocks[0][0])
    return "\n\n".join("\n".join([*lines, f"× {count} block{'s' * (count > 1)}"]) for lines, count in group.blocks)


def _bracketed(group: Group) -> str:
    if group.name == "conv1":
        return ", then ".join(group.blocks[0][0])
    return "\n".join(f"[{'; '.join(lines)}] × {count}" for lines, count in group.blocks)


def _agreement(full: int, rule: int, printed: float) -> str:
    by_rule, by_full = f"{rule / 1e6:.1f}", f"{full / 1e6:.1f}"
    if by_rule == f"{printed:.1f}":
        return "yes"
    return f"no: rounds to {by_rule}" + f"; with batch norm to {by_full}" * (by_full == f"{printed:.1f}")


def _formula(inputs: int, outputs: int, d: int) -> int:
    return 3 * d * d * inputs * outputs // (d * d * inputs + 3 * outputs)


def _working(inputs: int, outputs: int, d: int) -> str:
    above, below = 3 * d * d * inputs * outputs, d * d * inputs + 3 * outputs
    return f"⌊3·{d}²·{inputs}·{outputs} / ({d}²·{inputs} + 3·{outputs})⌋ = ⌊{above:,} / {below:,}⌋"


def _by(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.3f} GMAC" if macs >= 1e8 else f"{macs / 1e6:.1f} MMAC"


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose one axes measures it in inches, so that places are plain arithmetic."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def _look(letter: str) -> dict:
    _, colour, hatch = LETTERS[letter]
    return {"facecolor": colour, "edgecolor": "white", "hatch": hatch}


def _stack(axes, x, y, side, size, frames, deep, look) -> tuple[float, float]:
    """Sheets for an output of `size` = T, H, W, centred on x, y; its left and right end.

    In inches, `side` is that of the input's sheet and `deep` the thickness of a whole clip.
    """
    step, side = deep / frames, side * sqrt(size[1] / CROP)
    left, bottom = (centre - (side + (size[0] - 1) * step) / 2 for centre in (x, y))
    for number in reversed(range(size[0])):  # the farthest first, and the hatch on the nearest alone
        corner = (left + number * step, bottom + number * step)
        axes.add_patch(
            Rectangle(corner, side, side, lw=min(0.6, 20 * step), **look | {"hatch": ""} if number else look)
        )
    return left, left + side + (size[0] - 1) * step


def _kernel(axes, x, y, time, side, look, cell=0.42, step=0.3) -> None:
    """The weights of one filter, `time` × `side` × `side`, centred on x, y."""
    left, bottom = (centre - (side * cell + (time - 1) * step) / 2 for centre in (x, y))
    for number, row, column in product(reversed(range(time)), range(side), range(side)):
        corner = (left + number * step + column * cell, bottom + number * step + row * cell)
        axes.add_patch(Rectangle(corner, cell, cell, **look | {"hatch": ""} if number else look))


def _arrow(axes, start: float, end: float, y: float) -> None:
    look = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8, "lw": 0.8}
    axes.annotate("", (end, y), (start, y), arrowprops=look)


def _closed(figure: Figure) -> Figure:
    """The figure, not kept open, or a notebook would show it twice."""
    plt.close(figure)
    return figure
