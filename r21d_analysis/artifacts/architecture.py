"""The architectures counted by arithmetic: Table 1, the layers, the midplanes M_i, and the twelve parameter counts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from pandas.io.formats.style_render import CSSDict

from r21d_analysis.style import PAPER, style_table
from r21d_core.models.cost import cost
from r21d_core.study.paper import paper
from r21d_core.study.variants import VARIANTS, stage_spec

CROP = 112  # Table 1's input
CLASSES = 400
LENGTHS = (8, 16)  # frames of the clips of Table 2


class Stage(NamedTuple):
    """One of conv1, conv2_x … conv5_x, without shortcuts."""

    name: str
    letter: str  # in the variant
    stride: tuple[int, ...]  # of the stage as a whole: time, height, width
    size: tuple[int, ...]  # of its output
    channels: int
    blocks: list[tuple[list[str], int]]  # lines `kernel, filters`, and the number of equal blocks in a row

    def lines(self) -> str:
        """Its blocks for a drawing, a line for each convolution; conv1 is one block."""
        if self.name == "conv1":
            return "\n".join(self.blocks[0][0])
        return "\n\n".join("\n".join([*lines, f"× {n} block{'s' * (n > 1)}"]) for lines, n in self.blocks)

    def brackets(self) -> str:
        """Its blocks for a table, in brackets as in the paper."""
        if self.name == "conv1":
            return ", then ".join(self.blocks[0][0])
        return "\n".join(f"[{'; '.join(lines)}] × {n}" for lines, n in self.blocks)


def stages_of(variant: str, depth: int, width: int, frames: int) -> list[Stage]:
    """conv1, conv2_x … conv5_x of a network."""
    stages, (letters, _) = [], stage_spec(variant, depth)
    path = [c for c in cost(variant, depth, width, frames, CLASSES, size=CROP).convs if "shortcut" not in c.name]
    for letter, (name, members) in zip(letters, groupby(path, lambda conv: conv.name.split(".")[0]), strict=True):
        convs, blocks = list(members), []
        for _, block in groupby(convs, lambda conv: _block(conv.name)):
            named = [(conv, "M = " if letter == "p" and conv.kernel[0] == 1 else "") for conv in block]
            blocks.append([f"{format_size(conv.kernel)}, {m}{conv.out_channels}" for conv, m in named])
        stride = tuple(map(prod, zip(*(conv.stride for conv in convs if not conv.is_branch), strict=True)))
        repeats = [(lines, len(list(equal))) for lines, equal in groupby(blocks)]
        stages.append(Stage(name, letter, stride, convs[-1].size, convs[-1].out_channels, repeats))
    return stages


def stage_table(variant: str = "R3D", width: int = 64, frames: int = 8) -> pd.DataFrame:
    """Table 1: the output size and the stride of each stage, and its blocks with 18 and with 34 layers."""
    networks = zip(*(stages_of(variant, depth, width, frames) for depth in (18, 34)), strict=True)
    rows = [
        {"stage": stage.name, "output T×H×W": format_size(stage.size), "stride": format_size(stage.stride),
         f"{variant}-18": stage.brackets(), f"{variant}-34": deeper.brackets()}
        for stage, deeper in networks
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("stage")


def layer_table(variant: str, depth: int = 18, width: int = 64, frames: int = 8) -> pd.DataFrame:
    """Every convolution with its weights and GMAC per clip, then fc with its bias, batch norm and the total of `cost`.

    weights = inputs · outputs · kernel, and multiply-adds = weights · output T·H·W. Batch norm has two weights per
    channel; its multiply-adds are not counted, as usual.
    """
    c = cost(variant, depth, width, frames, CLASSES)
    rows = [vars(conv) | {"weights": conv.weights, "GMAC": conv.macs / 1e9} for conv in c.convs]
    table = pd.DataFrame(rows).drop(columns="padding")
    sizes, last = ["kernel", "stride", "size"], c.convs[-1].out_channels
    table[sizes] = table[sizes].map(format_size)
    names = {"name": "layer", "in_channels": "inputs", "out_channels": "outputs", "size": "output T×H×W"}
    table = table.rename(columns=names).set_index("layer").astype({"inputs": "Int64", "outputs": "Int64"})
    table = table[["kernel", "stride", "inputs", "outputs", "output T×H×W", "weights", "GMAC"]]
    table.loc["fc"] = ["", "", last, CLASSES, "", (last + 1) * CLASSES, last * CLASSES / 1e9]
    table.loc["batch norm"] = ["", "", pd.NA, pd.NA, "", c.parameters - c.conv_fc_weights, np.nan]
    table.loc["total"] = ["", "", pd.NA, pd.NA, "", c.parameters, c.macs / 1e9]
    return table


def midplanes_table(depth: int = 18, width: int = 64) -> pd.DataFrame:
    """M_i of each (2+1)D convolution of R(2+1)D: by Section 3.5's formula with its working, here, and in torchvision.

    `times` is the number of equal convolutions. Torchvision computes M once per block, from the block's input and
    output, so the second convolution of a block that widens has fewer planes there.
    """
    path = [conv for conv in cost("R(2+1)D", depth, width).convs if "shortcut" not in conv.name]
    pairs = pd.DataFrame(
        [(a.name.removesuffix(".0"), a.in_channels, b.out_channels, a.kernel[1], a.out_channels)
         for a, b in zip(path[::2], path[1::2], strict=True)],
        columns=["convolution", "inputs", "outputs", "d", "M here"],
    )  # fmt: skip
    blocks = pairs.groupby(pairs["convolution"].map(_block))
    pairs["M in torchvision"] = blocks["M here"].transform("first")  # that of the block's first convolution
    equal = pairs.groupby(["inputs", "outputs", "d", "M here", "M in torchvision"], sort=False)["convolution"]
    table = equal.agg(["first", "last", "size"]).reset_index().rename(columns={"size": "times"})
    inputs, outputs, d = table["inputs"], table["outputs"], table["d"]
    full, per_plane = 3 * d**2 * inputs * outputs, d**2 * inputs + 3 * outputs  # weights
    table["M by the formula"], table["weights of 3-D"] = full // per_plane, full
    table["weights"], table["working"] = per_plane * table["M here"], [*map(midplanes_formula, inputs, outputs, d)]
    remarks = []
    for m, formula, m_block in table[["M here", "M by the formula", "M in torchvision"]].itertuples(index=False):
        whose = "the authors' code" + " (45 at width 64)" * (m != 45)
        remark = [f"{m} as in {whose}, not the formula's {formula}"] * (m != formula)
        remark += [f"torchvision has {m_block}, the first of its block"] * (m_block != m)
        remarks.append("; ".join(remark))
    names = table["first"].where(table["first"] == table["last"], table["first"] + " … " + table["last"])
    columns = ["times", "inputs", "outputs", "working", "M by the formula", "M here", "M in torchvision", "weights"]
    table = table.set_index(names.rename("convolution"))[[*columns, "weights of 3-D"]]
    return table.assign(remark=remarks)


def counts_table(depth: int = 18, width: int = 64) -> pd.DataFrame:
    """The twelve networks: parameters, weights of convolutions and fc beside the paper's column, GMAC and final T.

    Parameters are those for clips of 8 frames; only R2D's depend on it. The paper's column is for 18 layers
    of width 64 only.
    """
    rows = []
    for variant, letters in VARIANTS.items():
        costs = [cost(variant, depth, width, frames, CLASSES) for frames in LENGTHS]
        total, weights = costs[0].parameters, costs[0].conv_fc_weights
        row = {"network": variant, "stages": letters, "parameters": total, "conv + fc weights": weights}
        if (depth, width) == (18, 64):
            printed = paper(2, variant, "parameters (M)")
            row |= {"paper (M)": printed, "agrees": _agreement(total, weights, printed)}
        row |= {f"GMAC, {frames} frames": c.macs / 1e9 for frames, c in zip(LENGTHS, costs, strict=True)}
        row["final T"] = ", ".join(str(c.final_shape[1]) for c in costs)
        rows.append(row)
    return pd.DataFrame(rows).set_index("network")


def show(table: pd.DataFrame) -> Styler:
    """A table of this module for a notebook, with thousands separated; the paper's own numbers are paler."""
    formats: dict[str, int | str] = {"paper (M)": 1}
    formats |= {name: "{:,}" for name in table.columns if pd.api.types.is_integer_dtype(table[name])}
    floats = [name for name in table.columns if pd.api.types.is_float_dtype(table[name])]
    style = style_table(table, formats=dict.fromkeys(floats, 3) | formats, na_rep="")
    papers: list[Hashable] = [name for name in table.columns if name == "paper (M)"]
    texts: list[Hashable] = [name for name in table.columns if name not in formats and name not in floats]
    style = style.map(lambda _: PAPER, subset=papers)
    text: list[CSSDict] = [{"selector": "td", "props": "text-align: left; white-space: pre-line"}]
    return style.set_table_styles(dict.fromkeys(texts, text), overwrite=False)


def _block(name: str) -> str:
    """The block of a convolution: `conv3_x.0` of `conv3_x.0.conv2.3`, and `conv1` of all in the stem."""
    return ".".join(name.split(".")[:2]) if "_x" in name else "conv1"


def _agreement(total: int, weights: int, printed: float) -> str:
    rounded, with_bn = f"{weights / 1e6:.1f}", f"{total / 1e6:.1f}"
    if rounded == f"{printed:.1f}":
        return "yes"
    return f"no: rounds to {rounded}" + f"; with batch norm to {with_bn}" * (with_bn == f"{printed:.1f}")


def midplanes_formula(inputs: int, outputs: int, d: int) -> str:
    """The formula of M_i (Section 3.5) with its numbers."""
    above, below = 3 * d * d * inputs * outputs, d * d * inputs + 3 * outputs
    return f"⌊3·{d}²·{inputs}·{outputs} / ({d}²·{inputs} + 3·{outputs})⌋ = ⌊{above:,} / {below:,}⌋"


def format_size(size: Sequence[int]) -> str:
    """A size such as `8×56×56`."""
    return "×".join(map(str, size))
