"""Claims that arithmetic or the paper's own tables answer, a function each, named in the table of claims."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from r21d_analysis.claims.select import LENGTHS, MC, RMC, TWO_D
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


def _table_2_gaps(better: Sequence[str], worse: Sequence[str], column: str) -> tuple[float, float]:
    """The smallest and the largest difference of a variant of `better` minus one of `worse`, to the printed digit."""
    gaps = [paper(2, a, column) - paper(2, b, column) for a in better for b in worse]
    return round(min(gaps), 1), round(max(gaps), 1)


def ranges(*stated: tuple[Sequence[str], Sequence[str], str, tuple[float, float]]) -> Verdict:
    """Whether Table 2 gives the ranges that the text states."""
    printed, claimed = [_table_2_gaps(*row[:3]) for row in stated], [row[3] for row in stated]
    texts = [", ".join(f"{low}–{high}" if low < high else f"{low}" for low, high in row) for row in (claimed, printed)]
    why = f"the text says {texts[0]}; Table 2 gives {texts[1]}"
    return _verdict(printed == claimed, why, printed[0][0], "points, smallest")


def single_channel() -> Verdict:
    """The channels after conv1 of R2D."""
    filters = _cost("R2D").convs[0].out_channels
    why = f"conv1 of R2D has {filters} filters and so as many channels; only time is collapsed"
    return _verdict(filters == 1, why, filters, "channels")


def parameters_matched() -> Verdict:
    """R(2+1)D's parameters beside R3D's."""
    a, b = _cost("R(2+1)D").parameters, _cost("R3D").parameters
    return _verdict(abs(a / b - 1) < 0.01, f"{a:,} against {b:,}", 100 * (a / b - 1), "%")


def nonlinearities_doubled() -> Verdict:
    """R(2+1)D's ReLUs beside R3D's."""
    a, b = _layers("R(2+1)D", 18), _layers("R3D", 18)
    return _verdict(a == 2 * b, f"{a} ReLUs against {b}, 18 layers", a / b, "times")


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
    return _verdict(not wrong, why, len(wrong), "wrong")


def params_r3d_over_mc() -> Verdict:
    """R3D's parameters over those of the mixed networks."""
    ratios = {variant: _cost("R3D").parameters / _cost(variant).parameters for variant in MC}
    listed = ", ".join(f"{variant} {ratio:.2f}" for variant, ratio in ratios.items())
    why = f"R3D's parameters over each: {listed}"
    return _verdict(all(round(ratio) == 3 for ratio in ratios.values()), why, ratios["MC5"], "times")


def macs_fr2d_over_r2d() -> Verdict:
    """f-R2D's multiply-adds over R2D's."""
    ratios = [_cost("f-R2D", frames).macs / _cost("R2D", frames).macs for frames in (8, 16)]
    why = f"{ratios[0]:.2f} times the multiply-adds with 8 frames, but {ratios[1]:.1f} with 16"
    return _verdict(round(ratios[0]) == 7, why, ratios[0], "times")


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


def same_cost() -> Verdict:
    """R(2+1)D's multiply-adds beside R3D's."""
    a, b = _cost("R(2+1)D").macs, _cost("R3D").macs
    why = f"{a / 1e9:.3f} against {b / 1e9:.3f} GMAC with 8 frames"
    return _verdict(abs(a / b - 1) < 0.05, why, a / b, "times")


def same_parameters() -> Verdict:
    """R(2+1)D's parameters by clip length."""
    counts = {_cost("R(2+1)D", frames).parameters for frames in LENGTHS}
    return _verdict(len(counts) == 1, f"{max(counts):,} with every clip length from 8 to 48", len(counts), "counts")


def macs_32f_over_8f() -> Verdict:
    """R(2+1)D's multiply-adds with 32 frames over those with 8."""
    ratio = _cost("R(2+1)D", 32).macs / _cost("R(2+1)D", 8).macs
    why = f"{ratio:.2f} times in FLOPs; Table 3's hours give {paper(3, '32', 'hours') / paper(3, '8', 'hours'):.2f}"
    return _verdict(round(ratio, 1) == 7.3, why, ratio, "times")


def order_of_rows() -> Verdict:
    """The rank correlation of Table 2's clip@1 with 8 and with 16 frames."""
    short, long = (np.array([paper(2, variant, f"clip@1 {frames}f") for variant in TABLE_2]) for frames in (8, 16))
    pairs = [(i, j) for i in range(12) for j in range(i) if (short[i] - short[j]) * (long[i] - long[j]) < 0]
    swapped = [f"{TABLE_2[i]} and {TABLE_2[j]}" for i, j in pairs]
    effect = spearman(short, long)
    why = f"clip@1, Spearman; of 66 pairs {len(swapped)} change places: {', '.join(swapped)}"
    return _verdict(effect > 0.8, why, effect, "correlation")


def mc_gain() -> Verdict:
    """The gain of mixed over 2-D networks in Table 2."""
    gaps = {(base, f): _table_2_gaps(MC, [base], f"clip@1 {f}f") for base in TWO_D for f in (8, 16)}
    listed = ", ".join(f"{low}–{high} over {base} with {f} frames" for (base, f), (low, high) in gaps.items())
    supported = all(round(low) >= 3 and round(high) <= 4 for low, high in gaps.values())
    smallest = min(low for low, _ in gaps.values())
    return _verdict(supported, f"Table 2's clip@1: {listed}", smallest, "points, smallest")


def differences(table: int, *stated: tuple[str, str, str, float]) -> Verdict:
    """Whether a table gives the differences that the text states, each (row, baseline row, column, points)."""
    printed = [round(paper(table, row, column) - paper(table, base, column), 1) for row, base, column, _ in stated]
    rows = zip(stated, printed, strict=True)
    texts = (f"{a} minus {b}, {column}: {gap:+.1f}, stated {claimed:+.1f}" for (a, b, column, claimed), gap in rows)
    why = f"Table {table}: {'; '.join(texts)}"
    return _verdict(printed == [row[3] for row in stated], why, printed[0], "points")


def hours_saved() -> Verdict:
    """Table 3's hours with and without finetuning."""
    long, short = paper(3, "32", "hours"), paper(3, "8 finetuned at 32", "hours")
    return _verdict(long > 2 * short, f"Table 3: {short} hours against {long}", long / short, "times")


def best_of_table_4() -> Verdict:
    """R(2+1)D's video@1 in Table 4 beside the others'."""
    rows = {row: values["video@1"] for row, values in paper_table(4).items() if "video@1" in values}
    ours = max(value for row, value in rows.items() if row.startswith("R(2+1)D"))
    others = max(value for row, value in rows.items() if not row.startswith("R(2+1)D"))
    return _verdict(ours > others, f"video@1 {ours} against {others} at most", ours - others, "points")


def best_but_i3d() -> Verdict:
    """R(2+1)D's accuracy in Table 6 beside all methods but I3D."""
    gaps = {}
    for column in ("UCF101", "HMDB51"):
        rows = {row: values[column] for row, values in paper_table(6).items() if column in values}
        others = [value for row, value in rows.items() if not row.startswith(("R(2+1)D", "I3D"))]
        gaps[column] = rows["R(2+1)D-TwoStream (Kinetics)"] - max(others)
    smallest, listed = min(gaps.values()), ", ".join(f"{gap:+.1f} on {column}" for column, gap in gaps.items())
    return _verdict(smallest > 0, f"both streams, pretrained on Kinetics: {listed}", smallest, "points")


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


def kinetics_pretrains_better() -> Verdict:
    """R(2+1)D in Table 6, pretrained on Kinetics minus on Sports-1M."""
    gaps = [
        paper(6, f"R(2+1)D-{stream} (Kinetics)", column) - paper(6, f"R(2+1)D-{stream} (Sports1M)", column)
        for stream, column in product(("RGB", "Flow", "TwoStream"), ("UCF101", "HMDB51"))
    ]
    why = f"Table 6: {min(gaps):+.1f} to {max(gaps):+.1f} in six comparisons"
    return _verdict(min(gaps) > 0, why, min(gaps), "points, smallest")


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
    return _verdict(stride == 2, why, stride, "stride")


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
