"""Claims that arithmetic or the paper's own tables answer, a function each, named in the table of claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from r21d_analysis.claims.select import LENGTHS, MC, RMC
from r21d_analysis.claims.verdict import REFUTED, SUPPORTED, Verdict
from r21d_analysis.statistics.inference import spearman
from r21d_core.models.cost import Cost, cost
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper, paper_table
from r21d_core.study.variants import VARIANTS


def _verdict(supported: bool, why: str, effect: float = np.nan, unit: str = "") -> Verdict:
    return Verdict(SUPPORTED if supported else REFUTED, float(effect), why=why, unit=unit)


def _cost(variant: str, frames: int = 8, depth: int = 18) -> Cost:
    return cost(variant, depth, frames=frames)


def _layers(variant: str, depth: int) -> int:
    """The number of convolutions off the shortcuts."""
    return sum("shortcut" not in conv.name for conv in _cost(variant, depth=depth).convs)


Pair = tuple[str, tuple, tuple]  # a key of NUMBERS and its arguments for two networks
NUMBERS: dict[str, Callable[..., float]] = {
    "parameters": lambda *network: _cost(*network).parameters,
    "GMAC": lambda *network: round(_cost(*network).macs / 1e9, 3),
    "ReLUs": lambda variant: _layers(variant, 18),
    "hours in Table 3": lambda row: paper(3, row, "hours"),
}


def _table_2_gaps(better: Sequence[str], worse: Sequence[str], column: str) -> tuple[float, float]:
    """The smallest and the largest difference of a variant of `better` minus one of `worse`, to the printed digit."""
    gaps = [paper(2, a, column) - paper(2, b, column) for a in better for b in worse]
    return round(min(gaps), 1), round(max(gaps), 1)


def ratios(low: float, high: float, judged: Sequence[Pair], beside: Sequence[Pair] = ()) -> Verdict:
    """Whether each ratio of two numbers of `judged` lies from `low` to `high`; those of `beside` are only shown."""
    texts, values = [], []
    for name, a, b in (*judged, *beside):
        above, below = NUMBERS[name](*a), NUMBERS[name](*b)
        labels = [" ".join(str(part) + " frames" * isinstance(part, int) for part in network) for network in (a, b)]
        texts.append(f"{name} of {' and '.join(labels)}: {above:,} against {below:,}, {above / below:.2f} times")
        values.append(above / below)
    supported = all(low <= value <= high for value in values[: len(judged)])
    return _verdict(supported, "; ".join(texts), values[0], "times")


def above(table: int, *cases: tuple[str, Sequence[str], str]) -> Verdict:
    """Whether a row of a table is above all the others in a column, in each case; the effect is the least lead."""
    rows, leads = paper_table(table), {}
    for row, others, column in cases:
        best = max(rows[other][column] for other in others if column in rows[other])
        leads[f"{row} {rows[row][column]} against {best} at most, {column}"] = round(rows[row][column] - best, 1)
    smallest = min(leads.values())
    return _verdict(smallest > 0, f"Table {table}: {'; '.join(leads)}", smallest, "points, smallest")


def ranges(*stated: tuple[Sequence[str], Sequence[str], str, tuple[float, float]], digits: int = 1) -> Verdict:
    """Whether Table 2 gives the ranges that the text states, rounded to `digits`."""
    printed, claimed = [_table_2_gaps(*row[:3]) for row in stated], [row[3] for row in stated]
    texts = [", ".join(f"{low}–{high}" if low < high else f"{low}" for low, high in row) for row in (claimed, printed)]
    why = f"the text says {texts[0]}; Table 2 gives {texts[1]}"
    rounded = [(round(low, digits), round(high, digits)) for low, high in printed]
    return _verdict(rounded == claimed, why, printed[0][0], "points, smallest")


def single_channel() -> Verdict:
    """The channels after conv1 of R2D."""
    filters = _cost("R2D").convs[0].out_channels
    why = f"conv1 of R2D has {filters} filters and so as many channels; only time is collapsed"
    return _verdict(filters == 1, why, filters, "channels")


def layers_in_r21d34() -> Verdict:
    """The layers of R(2+1)D-34."""
    layers = _layers("R(2+1)D", 34) + 1
    return _verdict(layers == 67, f"{layers} convolutions and fc in a row", layers, "layers")


def final_shapes() -> Verdict:
    """The output size of conv5_x."""
    shapes = {variant: [_cost(variant, frames).final_shape[1:] for frames in (8, 16)] for variant in VARIANTS}
    same = shapes["f-R2D"] == [(8, 7, 7), (16, 7, 7)] and shapes["R3D"] == shapes["R(2+1)D"] == [(1, 7, 7), (2, 7, 7)]
    sizes = ", ".join(f"{variant} {short[0]}, {long[0]}" for variant, (short, long) in shapes.items())
    return _verdict(same, f"with 8 and 16 frames: {sizes}")


def parameter_column() -> Verdict:
    """Table 2's parameters beside the arithmetic."""
    counts = {v: (_cost(v).conv_fc_weights / 1e6, paper(2, v, "parameters (M)")) for v in TABLE_2}
    wrong = [f"{v}: {ours:.3f} M, printed {printed}" for v, (ours, printed) in counts.items()
             if round(ours, 1) != printed]  # fmt: skip
    why = f"{12 - len(wrong)} of 12 agree, without batch norm as in the paper; {', '.join(wrong)}"
    return _verdict(not wrong, why, len(wrong), "of 12 wrong")


def cheaper(variant: str, others: Sequence[str]) -> Verdict:
    """Whether a variant takes fewer multiply-adds than others, with 8 and with 16 frames."""
    gmacs = {frames: {v: _cost(v, frames).macs / 1e9 for v in (variant, *others)} for frames in (8, 16)}
    supported = all(m[variant] < min(m[other] for other in others) for m in gmacs.values())
    nearest = min(others, key=lambda other: gmacs[8][other])
    texts = (f"{m[variant]:.3f} GMAC against {m[nearest]:.3f} of {nearest}, {n} frames" for n, m in gmacs.items())
    return _verdict(supported, "; ".join(texts), gmacs[8][nearest] / gmacs[8][variant], "times")


def rmc2_reason() -> Verdict:
    """The letters of rMC2."""
    name = next(variant for variant in RMC if VARIANTS[variant][1:3] == "22")
    why = f"rMC2 is {VARIANTS['rMC2']}: 3-D in groups 2 and 3; the reason describes {name}, {VARIANTS[name]}"
    return _verdict(VARIANTS["rMC2"][1] == "2", why)


def same_parameters() -> Verdict:
    """R(2+1)D's parameters by clip length."""
    counts = {_cost("R(2+1)D", frames).parameters for frames in LENGTHS}
    return _verdict(len(counts) == 1, f"{max(counts):,} with every clip length from 8 to 48", len(counts), "count")


def order_of_rows() -> Verdict:
    """The rank correlation of Table 2's clip@1 with 8 and with 16 frames."""
    short, long = (np.array([paper(2, variant, f"clip@1 {frames}f") for variant in TABLE_2]) for frames in (8, 16))
    pairs = [(i, j) for i in range(12) for j in range(i) if (short[i] - short[j]) * (long[i] - long[j]) < 0]
    swapped = [f"{TABLE_2[i]} and {TABLE_2[j]}" for i, j in pairs]
    effect = float(spearman(short, long))
    why = f"clip@1, Spearman; of 66 pairs {len(swapped)} change places: {', '.join(swapped)}"
    return _verdict(effect > 0.8, why, effect, "correlation")


def differences(table: int, *stated: tuple[str, str, str, float]) -> Verdict:
    """Whether a table gives the differences that the text states, each (row, baseline row, column, points)."""
    printed = [round(paper(table, row, column) - paper(table, base, column), 1) for row, base, column, _ in stated]
    rows = zip(stated, printed, strict=True)
    texts = (f"{a} minus {b}, {column}: {gap:+.1f}, stated {claimed:+.1f}" for (a, b, column, claimed), gap in rows)
    why = f"Table {table}: {'; '.join(texts)}"
    return _verdict(printed == [row[3] for row in stated], why, printed[0], "points")


def beside_i3d() -> Verdict:
    """R(2+1)D minus I3D in Table 6."""
    gaps = {
        (stream, column): round(paper(6, f"R(2+1)D-{stream} (Kinetics)", column)
                                - paper(6, f"I3D-{stream} (ImageNet+Kinetics)", column), 1)
        for stream in ("RGB", "Flow") for column in ("UCF101", "HMDB51")
    }  # fmt: skip
    supported = all(abs(gap) < 1.5 if stream == "RGB" else -1.5 < gap < 0 for (stream, _), gap in gaps.items())
    listed = ", ".join(f"{stream} {column} {gap:+.1f}" for (stream, column), gap in gaps.items())
    return _verdict(supported, f"R(2+1)D minus I3D: {listed}", min(gaps.values()), "points, smallest")


def mc1_is_fr2d() -> Verdict:
    """The letters of MC1, by the rule of MC2 to MC5, beside those of f-R2D."""
    letters = [("3" * (group - 1)).ljust(5, "2") for group in range(1, 6)]
    supported = letters == [VARIANTS["f-R2D"], *(VARIANTS[variant] for variant in MC)]
    return _verdict(supported, f"MC1 by the rule of MC2 to MC5 is {letters[0]}, f-R2D {VARIANTS['f-R2D']}")


def r2d_lowest(*columns: tuple[str, str]) -> Verdict:
    """Whether R2D is the lowest of Table 2 in each column, or in the difference of one minus another.

    The effect is the smallest lead of another network.
    """
    leads, texts = [], []
    for column, less in columns:
        values = {v: round(paper(2, v, column) - (paper(2, v, less) if less else 0), 1) for v in TABLE_2}
        nearest = min((v for v in TABLE_2 if v != "R2D"), key=values.__getitem__)
        leads.append(round(values[nearest] - values["R2D"], 1))
        name = f"{column} minus {less}" if less else column
        texts.append(f"{name} R2D {values['R2D']}, {nearest} {values[nearest]}")
    why = f"Table 2, R2D and the lowest of the others: {'; '.join(texts)}"
    return _verdict(min(leads) > 0, why, min(leads), "points, smallest")


def rmc3_stride() -> Verdict:
    """The temporal stride of rMC3's conv3_1."""
    stride = next(conv.stride[0] for conv in _cost("rMC3").convs if conv.name == "conv3_x.0.conv1")
    why = f"rMC3 is {VARIANTS['rMC3']}; its later layers are 3-D, not “2D convolutional layers” as the reason has it"
    return _verdict(stride == 2, why, stride, "frames")


def best_trade_off() -> Verdict:
    """The points per hour beyond the 8-frame model's, of finetuning and of training with 32 frames, by Table 3."""
    rates = {}
    for row, metric in product(("8 finetuned at 32", "32"), ("clip@1", "video@1")):
        points, hours = (paper(3, row, column) - paper(3, "8", column) for column in (metric, "hours"))
        rates[row, metric] = points / hours
    listed = ", ".join(f"{row} {metric} {rate:.2f}" for (row, metric), rate in rates.items())
    ratios = [rates["8 finetuned at 32", metric] / rates["32", metric] for metric in ("clip@1", "video@1")]
    why = f"points per hour: {listed}; the paper defines no measure, and no row has both less time and more accuracy"
    return _verdict(min(ratios) > 1, why, min(ratios), "times, smallest")
