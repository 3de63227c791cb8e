"""Claims answered by arithmetic and by the paper's own tables: each row of CLAIMS names its function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r21d_analysis.claims.select import LENGTHS, MC, RMC, TWO_D
from r21d_analysis.claims.verdict import REFUTED, SUPPORTED, Verdict
from r21d_analysis.statistics.inference import spearman
from r21d_core.models.cost import Cost, cost
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper, paper_table
from r21d_core.study.variants import VARIANTS


def _told_by(answer: bool, why: str, effect: float = np.nan, unit: str = "") -> Verdict:
    return Verdict(SUPPORTED if answer else REFUTED, float(effect), why=why, unit=unit)


def _of(variant: str, frames: int = 8, depth: int = 18) -> Cost:
    return cost(variant, depth, frames=frames)


def _layers(variant: str, depth: int) -> int:
    """Convolutions on the longest way through, shortcuts left out."""
    return sum("shortcut" not in conv.name for conv in _of(variant, depth=depth).convs)


def _table_2(better: Sequence[str], worse: Sequence[str], column: str) -> tuple[float, float]:
    """The least and the greatest difference of a variant of `better` less one of `worse`, to the printed digit."""
    gaps = [paper(2, one, column) - paper(2, other, column) for one in better for other in worse]
    return round(min(gaps), 1), round(max(gaps), 1)


def ranges(*stated: tuple[Sequence[str], Sequence[str], str, tuple[float, float]]) -> Verdict:
    """Whether Table 2 gives the ranges that the text states."""
    given = [_table_2(better, worse, column) for better, worse, column, _ in stated]
    said = [range_ for *_, range_ in stated]
    told, printed = (
        ", ".join(f"{low}–{high}" if low < high else f"{low}" for low, high in each) for each in (said, given)
    )
    return _told_by(given == said, f"the text says {told}; Table 2 gives {printed}", given[0][0], "points, least")


def single_channel() -> Verdict:
    shape = _of("R2D").convs[0]
    why = f"conv1 of R2D has {shape.out_channels} filters and so as many channels; only its time is collapsed"
    return _told_by(shape.out_channels == 1, why, shape.out_channels, "channels")


def parameters_matched() -> Verdict:
    here, there = _of("R(2+1)D").parameters, _of("R3D").parameters
    return _told_by(abs(here / there - 1) < 0.01, f"{here:,} against {there:,}", 100 * (here / there - 1), "%")


def nonlinearities_doubled() -> Verdict:
    here, there = _layers("R(2+1)D", 18), _layers("R3D", 18)
    return _told_by(here == 2 * there, f"{here} ReLUs against {there}, 18 layers", here / there, "times")


def layers_in_r21d34() -> Verdict:
    layers = _layers("R(2+1)D", 34) + 1
    return _told_by(layers == 67, f"{layers} convolutions and fc one after the other", layers, "layers")


def final_shapes() -> Verdict:
    shapes = {variant: [_of(variant, frames).final_shape[1:] for frames in (8, 16)] for variant in VARIANTS}
    right = shapes["f-R2D"] == [(8, 7, 7), (16, 7, 7)] and shapes["R3D"] == shapes["R(2+1)D"] == [(1, 7, 7), (2, 7, 7)]
    return _told_by(right, "with 8 and 16 frames: " + ", ".join(f"{v} {s[0][0]}, {s[1][0]}" for v, s in shapes.items()))


def parameter_column() -> Verdict:
    ours = {variant: _of(variant).conv_fc_weights / 1e6 for variant in TABLE_2}
    wrong = [v for v in TABLE_2 if round(ours[v], 1) != paper(2, v, "parameters (M)")]
    told = ", ".join(f"{v}: {ours[v]:.3f} M, printed {paper(2, v, 'parameters (M)')}" for v in wrong)
    why = f"{12 - len(wrong)} of 12 agree, batch norm left out as the paper does; {told}"
    return _told_by(not wrong, why, len(wrong), "wrong")


def params_r3d_over_mc() -> Verdict:
    ratios = {variant: _of("R3D").parameters / _of(variant).parameters for variant in MC}
    told = ", ".join(f"{variant} {ratio:.2f}" for variant, ratio in ratios.items())
    right = all(round(ratio) == 3 for ratio in ratios.values())
    return _told_by(right, f"R3D's parameters over each: {told}", ratios["MC5"], "times")


def macs_fr2d_over_r2d() -> Verdict:
    ratios = [_of("f-R2D", frames).macs / _of("R2D", frames).macs for frames in (8, 16)]
    why = f"{ratios[0]:.2f} times the multiply-adds with 8 frames, but {ratios[1]:.1f} with 16"
    return _told_by(round(ratios[0]) == 7, why, ratios[0], "times")


def cheaper(one: str, others: Sequence[str]) -> Verdict:
    """Whether a variant takes fewer multiply-adds than others, with 8 and with 16 frames."""
    lengths = {frames: {v: _of(v, frames).macs / 1e9 for v in (one, *others)} for frames in (8, 16)}
    right = all(macs[one] < min(macs[other] for other in others) for macs in lengths.values())
    nearest = min(others, key=lambda other: lengths[8][other])
    why = "; ".join(f"{m[one]:.3f} GMAC against {m[nearest]:.3f} of {nearest}, {n} frames" for n, m in lengths.items())
    return _told_by(right, why, lengths[8][nearest] / lengths[8][one], "times")


def rmc2_reason() -> Verdict:
    name = next(variant for variant in RMC if VARIANTS[variant][1] == "2" and VARIANTS[variant][2] == "2")
    why = f"rMC2 is {VARIANTS['rMC2']}: 3-D in groups 2 and 3; the reason describes {name}, {VARIANTS[name]}"
    return _told_by(VARIANTS["rMC2"][1] == "2", why)


def same_cost() -> Verdict:
    here, there = _of("R(2+1)D").macs, _of("R3D").macs
    why = f"{here / 1e9:.3f} against {there / 1e9:.3f} GMAC with 8 frames; see too what a clock says"
    return _told_by(abs(here / there - 1) < 0.05, why, here / there, "times")


def same_parameters() -> Verdict:
    counts = {_of("R(2+1)D", frames).parameters for frames in LENGTHS}
    return _told_by(len(counts) == 1, f"{max(counts):,} with every clip length from 8 to 48", len(counts), "counts")


def macs_32f_over_8f() -> Verdict:
    ratio = _of("R(2+1)D", 32).macs / _of("R(2+1)D", 8).macs
    hours = paper(3, "32", "hours") / paper(3, "8", "hours")
    return _told_by(
        round(ratio, 1) == 7.3, f"{ratio:.2f} times in FLOPs; Table 3's hours give {hours:.2f}", ratio, "times"
    )


def order_of_rows() -> Verdict:
    short, long = ([paper(2, variant, f"clip@1 {frames}f") for variant in TABLE_2] for frames in (8, 16))
    swapped = [
        f"{TABLE_2[i]} and {TABLE_2[j]}"
        for i in range(12)
        for j in range(i)
        if (short[i] - short[j]) * (long[i] - long[j]) < 0
    ]
    effect = spearman(np.array(short), np.array(long))
    why = f"clip@1, Spearman; of 66 pairs {len(swapped)} change places: {', '.join(swapped)}"
    return _told_by(effect > 0.8, why, effect, "correlation")


def mc_gain() -> Verdict:
    gaps = {(two, f): _table_2(MC, [two], f"clip@1 {f}f") for two in TWO_D for f in (8, 16)}
    told = ", ".join(f"{low}–{high} over {two} with {f} frames" for (two, f), (low, high) in gaps.items())
    right = all(round(low) >= 3 and round(high) <= 4 for low, high in gaps.values())
    return _told_by(right, f"Table 2's clip@1: {told}", min(low for low, _ in gaps.values()), "points, least")


def differences(table: int, *stated: tuple[str, str, str, float]) -> Verdict:
    """Whether a table gives the differences that the text states: row, row it is compared with, column, points."""
    given = [round(paper(table, row, column) - paper(table, other, column), 1) for row, other, column, _ in stated]
    rows = zip(stated, given, strict=True)
    told = "; ".join(
        f"{row} less {other}, {column}: {gap:+.1f}, said {said:+.1f}" for (row, other, column, said), gap in rows
    )
    return _told_by(given == [said for *_, said in stated], f"Table {table}: {told}", given[0], "points")


def hours_saved() -> Verdict:
    long, short = paper(3, "32", "hours"), paper(3, "8 finetuned at 32", "hours")
    return _told_by(long > 2 * short, f"Table 3: {short} hours against {long}", long / short, "times")


def best_of_table_4() -> Verdict:
    rows = {row: values["video@1"] for row, values in paper_table(4).items() if "video@1" in values}
    ours = max(value for row, value in rows.items() if row.startswith("R(2+1)D"))
    others = max(value for row, value in rows.items() if not row.startswith("R(2+1)D"))
    return _told_by(ours > others, f"video@1 {ours} against {others} at the most", ours - others, "points")


def best_but_i3d() -> Verdict:
    gaps = {}
    for column in ("UCF101", "HMDB51"):
        rows = {row: values[column] for row, values in paper_table(6).items() if column in values}
        others = [value for row, value in rows.items() if not row.startswith(("R(2+1)D", "I3D"))]
        gaps[column] = rows["R(2+1)D-TwoStream (Kinetics)"] - max(others)
    told = ", ".join(f"{gap:+.1f} on {column}" for column, gap in gaps.items())
    return _told_by(
        min(gaps.values()) > 0, f"both streams, pretrained on Kinetics: {told}", min(gaps.values()), "points"
    )


def beside_i3d() -> Verdict:
    gaps = {
        (stream, column): round(paper(6, f"R(2+1)D-{stream} (Kinetics)", column)
                                - paper(6, f"I3D-{stream} (ImageNet+Kinetics)", column), 1)
        for stream in ("RGB", "Flow") for column in ("UCF101", "HMDB51")
    }  # fmt: skip
    right = all(abs(gap) < 1.5 if stream == "RGB" else -1.5 < gap < 0 for (stream, _), gap in gaps.items())
    told = ", ".join(f"{stream} {column} {gap:+.1f}" for (stream, column), gap in gaps.items())
    return _told_by(right, f"R(2+1)D less I3D: {told}", min(gaps.values()), "points, least")


def kinetics_pretrains_better() -> Verdict:
    streams = ("RGB", "Flow", "TwoStream")
    gaps = [
        paper(6, f"R(2+1)D-{stream} (Kinetics)", column) - paper(6, f"R(2+1)D-{stream} (Sports1M)", column)
        for stream in streams
        for column in ("UCF101", "HMDB51")
    ]
    why = f"Table 6: {min(gaps):+.1f} to {max(gaps):+.1f} in six comparisons"
    return _told_by(min(gaps) > 0, why, min(gaps), "points, least")
