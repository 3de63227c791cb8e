"""What the figures show, in words, from the same kept records: also when it is not what one would expect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from IPython.display import Markdown

from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.attribution_figures import FEW, methods_of, share_lost
from r21d_analysis.interpret.bootstrap import PERTURBATIONS
from r21d_analysis.interpret.filter_figures import NOTHING, group_of, name_of, of_flow, rows_of, shares_of
from r21d_analysis.interpret.filters import GROUPS, ORDERS, order_of


def told_words(kept: Sequence[InsightRecord]) -> Markdown:
    """Of which network, data and weights each record is, and where and when it was made."""
    lines = []
    for one in kept:
        spec = one.metadata["spec"]
        demo = "DEMONSTRATION, a tiny network; " if spec["profile"] == "demo" else f"profile {spec['profile']}; "
        grey = "; **grey where frames of videos would be**, which are not passed on" * ("frames" in one.metadata)
        lines.append(
            f"- **{name_of(one)}**: {demo}data {_code(spec['data'])}, task {spec['task']}, middle clips of "
            f"{spec['frames']} {'fields of flow' if of_flow(one) else 'frames'} at step {spec['frame_stride']}, "
            f"{spec['crop']}×{spec['crop']} pixels; weights "
            f"`{one.metadata['weights'][:12]}`, looked into on {one.metadata['device']} in {one.metadata['seconds']:.0f} s{grey}"
        )
    return Markdown("\n".join(lines)) if lines else NOTHING


def stem_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `stem_figure` shows, in words."""
    lines = []
    for one in kept:
        curves, line = one["curves"].astype(np.float32), f"- **{name_of(one)}**: "
        if curves.shape[1] == 1:
            lines.append(f"{line}conv1 sees one frame, so that its filters are pictures and nothing else.")
            continue
        count = np.bincount(order_of(curves), minlength=3)
        which = "strongest temporal filter" if one["midplanes"][0] else "main temporal profile"
        lines.append(
            f"{line}the {which} is an average for {count[0]} of {len(curves)} outputs, a difference for {count[1]} "
            f"and of higher order for {count[2]}; by chance it would be an average for "
            f"{len(curves) / curves.shape[1]:.0f}."
        )
    return Markdown("\n".join(lines)) if lines else NOTHING


def spectrum_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `spectrum_figure` shows, in words."""
    lines = []
    for one in kept:
        space = one["spatial_spectrum"]
        line = (
            f"- **{name_of(one)}**: in space conv1 has {space[0]:.1f} times noise's power at rest, {space[-1]:.1f} at "
        )
        line += "half a cycle a pixel."
        parts = []
        for group in GROUPS:
            power = one["spectrum"][rows_of(one, group)]
            if np.isfinite(power).any():
                low, high = np.nanmean(power, axis=0)[[0, -1]]
                kind = "low-pass" if low > 1.25 * high else "high-pass" if high > 1.25 * low else "flat"
                parts.append(f"{group} {kind} ({low:.1f} at rest, {high:.1f} at half a cycle)")
        lines.append(line + (f" In time: {'; '.join(parts)}." if parts else " In time it filters nothing."))
    return Markdown("\n".join(lines)) if lines else NOTHING


def excited_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `excited_figure` shows of each network, in words."""
    lines = []
    for one in kept:
        pure = [len(set(labels)) == 1 for labels in one["labels"]]
        by_group = {g: sum(p for p, of in zip(pure, one["stage"], strict=True) if of == g) for g in GROUPS}
        deep = [f"{group} {count}" for group, count in by_group.items()]
        ratio = np.median(one["optimized_responses"] / np.maximum(one["responses"][:, 0], 1e-6))
        lines.append(
            f"- **{name_of(one)}**: for {sum(pure)} of {len(pure)} filters the strongest clips are all of one class "
            f"({', '.join(deep)} of {len(pure) // len(GROUPS)} each). The made-up clips drive their filter to "
            f"{ratio:.1f} times what the best of {one.metadata['clips']:,} test clips does (median)"
            + (", far outside of what videos hold: read them as directions, not as pictures." if ratio > 2 else ".")
        )
    return Markdown("\n".join(lines)) if lines else NOTHING


def orders_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `orders_figure` shows, in words."""
    lines = []
    for one in kept:
        if not one["n_filters"].any():
            lines.append(f"- **{name_of(one)}** has no filter along time.")
            continue
        share, has = 100 * shares_of(one), one["n_filters"] > 0
        first, last = share[has][0], share[has][-1]
        ends = (one["layer"][has][0], first), (one["layer"][has][-1], last)
        told = " ".join(f"{group_of(layer)}: {_three(values)}." for layer, values in ends)
        far = np.abs(share[has] - 100 / 3).max(axis=1)
        near = [group_of(layer) for layer, much in zip(one["layer"][has], far, strict=True) if much < 3]
        rest = "every layer is more than 3 points from what untrained weights have, a third of each"
        if near:
            rest = (
                f"{len(near)} of {has.sum()} layers ({', '.join(dict.fromkeys(near))}) are within 3 points of a third "
                "of each, as untrained weights are: by this count training has hardly touched their sense of time"
            )
        lines.append(f"- **{name_of(one)}**: {told} And {rest}.")
    return Markdown("\n".join(lines)) if lines else NOTHING


def separability_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `separability_figure` shows, in words."""
    lines = []
    for one in (one for one in kept if one["n_filters"].any()):
        has = np.isfinite(one["filter_separability"][:, 0])
        excess = 100 * (one["filter_separability"][:, 0] - one["random_filter_separability"])[has]
        names = one["layer"][has]
        kind = "kernels composed of its pairs" if one["midplanes"].any() else "full kernels"
        line = (
            f"- **{name_of(one)}**, {kind}: one spatial times one temporal filter holds "
            f"{100 * one['filter_separability'][has, 0].min():.0f} to {100 * one['filter_separability'][has, 0].max():.0f} % of a filter's "
            f"energy; that is {excess.max():+.0f} points against untrained weights in {names[excess.argmax()]}, "
            f"{excess.min():+.0f} in {names[excess.argmin()]}."
        )
        full = has & (one["midplanes"] == 0)
        if full.any():
            gain = 100 * (one["low_rank_energy"] - one["random_low_rank_energy"])[full]
            line += (
                f" Pairs of M_i planes without their ReLU could hold {100 * one['low_rank_energy'][full].min():.1f} to "
                f"{100 * one['low_rank_energy'][full].max():.1f} % of these layers, {gain.mean():+.1f} points on average against "
                "untrained weights."
            )
        lines.append(line)
    return Markdown("\n".join(lines)) if lines else NOTHING


def _three(values: np.ndarray) -> str:
    return ", ".join(f"{value:.0f} % {name}" for name, value in zip(ORDERS, values, strict=True))


def overlay_words(kept: Sequence[InsightRecord], video: str) -> Markdown:
    """How much the networks' maps of a video agree, and what each network says of it, in words."""
    there = [(one, list(one["videos"]).index(video)) for one in kept if video in one["videos"]]
    if not there:
        return NOTHING
    lines = []
    for one, number in there:
        maps = one["maps"][number].astype(np.float32)
        in_time = dict(zip(methods_of(one), _over_time(maps), strict=True))
        asked, right = one["target"][number], one["target"][number] == one["pred"][number]
        lines.append(
            f"- **{name_of(one)}** says {_code(one['pred'][number])}{' as asked' * bool(right)}; "
            f"it gives {_code(asked)} {100 * one['probability'][number]:.0f} %. Of the weight of its maps the busiest "
            f"quarter of the frames has {100 * in_time['integrated gradients']:.0f} % by integrated gradients and "
            f"{100 * in_time['Grad-CAM']:.0f} % by Grad-CAM; 25 % is no preference."
        )
    return Markdown("\n".join(lines))


def gap_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `gap_figure` shows, in words."""
    lines = []
    for one in kept:
        gradients, deeplift = 100 * one["gaps"].mean(axis=2)
        used = one.metadata["steps"]
        at = int(np.argmin(np.abs(one["gap_steps"] - used)))
        verdict = "close enough to be read" if gradients[at] < 5 else "too far to be read as shares: take more steps"
        lines.append(
            f"- **{name_of(one)}**: with the {used} steps used here integrated gradients miss what they explain by "
            f"{gradients[at]:.1f} %, {verdict}; DeepLift by {deeplift[0]:.2g} %."
        )
    return Markdown("\n".join(lines)) if lines else NOTHING


def sanity_words(kept: Sequence[InsightRecord]) -> Markdown:
    """Which maps are worthless by `sanity_figure`, and which hardly hear what the classifier says, in words."""
    lines = []
    for one in kept:
        limit = one.metadata["sanity_corr_max"]
        told = zip(methods_of(one), one["correlation"], one["resolution"], strict=True)
        judged = {method: line for method, line, values in told if values >= FEW}
        worthless = [name for name, line in judged.items() if line[-1] >= limit]
        deaf = [name for name, line in judged.items() if name not in worthless and line[1] >= 0.8]
        empty = [name for name, line in judged.items() if np.isnan(line[-1])]
        line = f"- **{name_of(one)}**: "
        line += (
            f"**worthless here: {', '.join(worthless)}**, whose maps keep a rank correlation of {limit:g} or more when "
            "no weight is where it was: they show the video, not the network. "
            if worthless
            else f"with all weights shuffled no method keeps a rank correlation of {limit:g}. "
        )
        if deaf:
            line += f"Hardly changed by losing fc and conv5_x: {', '.join(deaf)}; do not ask these about the class. "
        if empty:
            line += f"Without a map to compare, as it has one value everywhere: {', '.join(empty)}. "
        if len(judged) < len(one["methods"]):
            few = [method for method in methods_of(one) if method not in judged]
            line += f"Not judged, as fewer than {FEW} places agree by luck: {', '.join(few)}."
        lines.append(line)
    return Markdown("\n".join(lines)) if lines else NOTHING


def lost_words(kept: Sequence[InsightRecord]) -> Markdown:
    """The shares of appearance and of motion in each network's evidence, and the classes that lean on motion most."""
    lines = []
    for one in kept:
        frozen, shuffled, backwards = (share_lost(one, change) for change in PERTURBATIONS)
        if np.isnan(frozen[0]):
            lines.append(f"- **{name_of(one)}** has no evidence for the right classes to share out.")
            continue
        kept, went = ("the motion of a moment", "its change") if of_flow(one) else ("its appearance", "motion")
        line = (
            f"- **{name_of(one)}** ({len(one['evidence_original'])} clips, right on "
            f"{100 * one['evidence_correct'].mean():.0f} %): frozen clips keep {100 * (1 - frozen[0]):.0f} % of the "
            f"evidence, {kept}; {_percent(frozen)} goes with {went}, {_percent(shuffled)} with the "
            f"order of frames and {_percent(backwards)} with their direction."
        )
        by_class = {str(name): share_lost(one, "frozen", number)[0] for number, name in enumerate(one["classes"])}
        known = {name: share for name, share in by_class.items() if np.isfinite(share)}
        if len(known) > 1 and max(map(abs, shuffled)) > 1e-3:
            most, least = max(known, key=known.get), min(known, key=known.get)
            line += f" {went.capitalize()} counts most for {_code(most)} ({100 * known[most]:.0f} %), "
            line += f"least for {_code(least)} ({100 * known[least]:.0f} %)."
        if max(map(abs, (*shuffled, *backwards))) < 1e-3:
            line += " The order of frames is nothing to it, as must be for a network that averages over single frames."
        lines.append(line)
    return Markdown("\n".join(lines)) if lines else NOTHING


def tiles_words(kept: Sequence[InsightRecord]) -> Markdown:
    """What `tiles_figure` shows, in words."""
    lines = []
    for one in kept:
        if np.isnan(share_lost(one, "occluded")[0]):
            lines.append(f"- **{name_of(one)}** has no evidence for the right classes: its picture means nothing.")
            continue
        grid = 100 * (1 - one["evidence_occluded"].mean(axis=0) / one["evidence_original"].mean())
        middle = len(grid) // 2
        lines.append(
            f"- **{name_of(one)}**: hiding the middle ninth costs {grid[middle]:.0f} % of the evidence, another one "
            f"{np.delete(grid, middle).mean():.0f} % on average; together they cost {grid.sum():.0f} %, where 100 "
            "would be each place adding its own part."
        )
    return Markdown("\n".join(lines)) if lines else NOTHING


def _percent(share: tuple[float, float, float]) -> str:
    value, low, high = 100 * np.array(share)
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"


def _code(name: str) -> str:
    return f"`{str(name).replace('`', chr(39))}`"


def _over_time(maps: np.ndarray) -> np.ndarray:
    """The share of each map's absolute weight in its busiest quarter of frames, (methods,)."""
    weight = np.abs(maps).sum(axis=(2, 3))
    busiest = np.sort(weight, axis=1)[:, -max(1, weight.shape[1] // 4) :].sum(axis=1)
    return busiest / np.maximum(weight.sum(axis=1), 1e-12)
