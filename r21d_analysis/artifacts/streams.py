"""Tables 4, 5 and 6 and their figures: two streams, pretraining and what each gains, from the scores of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import draw_legend
from r21d_analysis.artifacts.measures import INTERVAL
from r21d_analysis.artifacts.networks import (
    FLOW,
    FUSED,
    RGB,
    STREAMS,
    Network,
    collect_networks,
    difference,
    fusion_variance,
    on_shared_splits,
    on_target,
    pretrained_pairs,
    same_weights,
)
from r21d_analysis.artifacts.tables import (
    comparison_caption,
    difference_columns,
    name_owners,
    protocol_line,
    show_table,
)
from r21d_analysis.statistics.inference import format_interval
from r21d_analysis.style import ERROR_BAR, GRAY, NO_RUNS, PALETTE, figure_of_runs, note, panel_grid, style_table
from r21d_core import R21DError, count_noun
from r21d_core.runs.run import Run
from r21d_core.study.paper import paper_table
from r21d_core.study.recipes import LR_DIVISORS
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_neighbor

STREAM_STYLE = {
    stream: ERROR_BAR | {"color": color, "marker": marker, "ls": "none", "label": stream}
    for stream, color, marker in zip(STREAMS, ("#5555ff", "#c2185b", "#8a8a00"), "osD", strict=True)  # of no network
}
TRAINING_STYLE = {
    label: ERROR_BAR | {"color": color, "marker": marker, "ls": "none", "label": label}
    for label, color, marker in (("from scratch", GRAY, "o"), ("pretrained", PALETTE[3], "^"))
}
MAX_CLASSES = 24
# The paper's columns in a table: above them, the name of its row, and here and in the paper the name of each column.
PAPER_COLUMNS = {
    4: [("paper, Sports-1M", "{0}-{1}-{2}frame", {name: name for name in ("clip@1", "video@1", "video@5")})],
    5: [("paper, Kinetics-400", "{0}-{1} ({3})", {"video@1": "top1", "video@5": "top5"})],
    6: [
        ("paper, from Sports-1M", "{0}-{4} (Sports1M)", {name: name for name in ("UCF101", "HMDB51")}),
        ("paper, from Kinetics", "{0}-{4} (Kinetics)", {name: name for name in ("UCF101", "HMDB51")}),
    ],
}
QUOTED = {  # what the rows of the paper's tables are
    4: "Sports-1M; R3D and R(2+1)D have 34 layers, 2D Resnet-152 and P3D 152, both rows from Qiu et al. (2017)",
    5: "Kinetics-400; R(2+1)D has 34 layers; brackets: the data of the pretraining",
    6: "averages over three splits; R(2+1)D has 34 layers; brackets: the data of the pretraining",
}


def stream_table(runs: Sequence[Run], table: int) -> pd.DataFrame:
    """Table 4, 5 or 6: a row for each network, input and split, the paper's columns for `table` beside those of `runs`.

    The paper's numbers stand beside its own networks and C3D: in Table 4 at 8 or 32 frames, 8 for any other clip
    length; in Table 6, averages over three splits of pretrained networks, on the last row of each network. Accuracies
    in per cent; `videos` are those evaluated of those listed, in all splits of the row.
    """
    rows = []
    for network in collect_networks(runs)[0]:
        for row in network.rows:
            classes = len(next(iter(row.splits.values())).scores[0].classes)
            setting = {"network": row.spec.network, "frames": str(row.spec.frames), "weights": row.training,
                       "input": row.stream, "split": row.split}  # fmt: skip
            here = {
                "clip@1": row.clip_at_1, "video@1": row.video_at(1),
                INTERVAL: format_interval(row.accuracy.low, row.accuracy.high),
                "video@5": row.video_at(5) if classes > 5 else np.nan,
                "videos": _format_videos(row), "seeds": _format_seeds(row),
            }  # fmt: skip
            cells = {("", name): value for name, value in setting.items()}
            cells |= paper_cells(table, row, last=len(row.splits) == len(network.splits))
            rows.append(cells | {("here", name): value for name, value in here.items()})
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0])) if rows else pd.DataFrame()


def show_stream_table(runs: Sequence[Run], table: int) -> Styler | Markdown:
    """`stream_table` for a notebook; the caption gives the protocol and the streams that could not be fused."""
    frame = stream_table(runs, table)
    if frame.empty:
        return note(NO_RUNS)
    constant = [("", name) for name in ("frames", "weights", "split") if frame["", name].nunique() == 1]
    empty = [column for column in frame.columns if column[0] == "here" and frame[column].isna().all()]
    unfused = [f"not fused: {line}" for line in collect_networks(runs)[1]]
    return show_table(frame.drop(columns=constant + empty), on_target(runs), None, *unfused)


def quoted_table(table: int) -> Styler:
    """The paper's Table 4, 5 or 6 as printed, with the methods that it compares itself with, for a notebook."""
    names = {printed: here for _, _, columns in PAPER_COLUMNS[table] for here, printed in columns.items()}
    rows = pd.DataFrame.from_dict(paper_table(table), orient="index").rename(columns=names)
    return style_table(rows.rename_axis("in the paper").reset_index(), f"As printed, in per cent; {QUOTED[table]}")


def stream_gain(runs: Sequence[Run]) -> Styler | Markdown:
    """Differences on the same videos, over all splits: both streams minus each, flow minus RGB, others minus R(2+1)D.

    A row for each comparison, for a notebook.
    """
    by_spec, pairs = {(network.spec, network.stream): network for network in collect_networks(runs)[0]}, []
    for (spec, stream), network in by_spec.items():
        baselines = {FUSED: (RGB, FLOW), FLOW: (RGB,), RGB: ()}[stream]
        pairs += [(network, by_spec[spec, name]) for name in baselines if (spec, name) in by_spec]
        alike = spec.replace(variant="R(2+1)D"), _undivided(spec)
        best = next((by_spec[other, stream] for other in alike if (other, stream) in by_spec), network)
        pairs += [(network, best)] if best is not network else []
    return _differences(runs, pairs, "a comparison needs two streams, or two networks on one stream, both finished")


def _undivided(spec: Spec) -> Spec:
    """The Spec of R(2+1)D by the recipe of a network that takes a part of its learning rates (LR_DIVISORS)."""
    parent, divisor = spec.parent_spec, LR_DIVISORS.get(spec.variant, 1)
    if not parent:
        return spec.replace(variant="R(2+1)D", lr=spec.lr * divisor)
    changes = spec.changes_from(parent) | {"lr": spec.lr * divisor}
    del changes["init_from"]
    return parent.replace(variant="R(2+1)D", lr=parent.lr * divisor).finetune_spec(**changes)


def pretraining_gain(runs: Sequence[Run]) -> Styler | Markdown:
    """Each pretrained network minus the same from scratch on the same videos, for each split and over all of them."""
    pairs = [
        pair
        for pretrained, scratch in pretrained_pairs(collect_networks(runs)[0])
        for pair in zip(*(network.rows for network in on_shared_splits(pretrained, scratch)), strict=True)
    ]
    return _differences(runs, pairs, "a comparison needs a pretrained network and one from scratch, both finished")


def _differences(runs: Sequence[Run], pairs: Sequence[tuple[Network, Network]], needed: str) -> Styler | Markdown:
    estimates, problems = [], []
    for a, b in pairs:
        try:
            pooled = fusion_variance(a, b, pairs) if same_weights(a, b) else None
            estimates.append((a, b, on_shared_splits(a, b)[0].split, difference(a, b, pooled)))
        except R21DError as error:
            problems.append(f"{a.spec.variant}, {a.training}, {a.stream}: {error}")
    if not estimates:
        return note("; ".join([needed, *problems]))
    several, differences = len({a.spec.frames for a, *_ in estimates}) > 1, [estimate for *_, estimate in estimates]
    labels = pd.DataFrame({
        "of": [", ".join(_aspects(a, b, several, shared=True)) for a, b, *_ in estimates],
        "comparison": [f"{', '.join(_aspects(a, b, several))} minus {', '.join(_aspects(b, a, several))}"
                       for a, b, *_ in estimates],
        "split": [split for _, _, split, _ in estimates],
    })  # fmt: skip
    columns = difference_columns(differences).assign(videos=[str(estimate.items) for estimate in differences])
    table = pd.concat({"": labels, "here": columns}, axis=1)
    table = table if table["", "split"].any() else table.drop(columns=[("", "split")])
    tested = [(a, b) for a, b, _, estimate in estimates if estimate.tested]
    alone = ["flow minus RGB"] * any({a.stream, b.stream} == {RGB, FLOW} for a, b in tested)
    whose = name_owners({network.spec.variant for pair in tested for network in pair})
    alone += [f"differences of networks of {whose}"] * bool(whose)
    problems = [f"{' and '.join(alone)} with the seeds' variance of the two networks alone"] * bool(alone) + problems
    return style_table(table, "; ".join([protocol_line(on_target(runs)), comparison_caption(differences), *problems]))


def _aspects(a: Network, b: Network, several: bool, shared: bool = False) -> list[str]:
    """What two Networks have in common, or, if not `shared`, what the first is that the second is not."""
    pair = [[n.spec.variant, *[count_noun(n.spec.frames, "frame")] * several, n.training, n.stream] for n in (a, b)]
    return [own for own, other in zip(*pair, strict=True) if (own == other) == shared]


def paper_cells(table: int, network: Network, last: bool = True) -> dict[tuple[str, str], float | str]:
    """The paper's cells of a row of `table`; NaN where it printed none."""
    spec, stream, pretrained = network.spec, network.stream, bool(network.source)
    frames = spec.frames if spec.frames in (8, 32) else 8
    keys = spec.variant, stream, frames, "Sports-1M" if pretrained else "none", stream.replace("-", "")
    cells = {}
    for side, name, columns in PAPER_COLUMNS[table]:
        row = paper_table(table).get(name.format(*keys), {}) if table < 6 or (pretrained and last) else {}
        cells |= {(side, "frames"): str(frames) if row else "–"} if table == 4 else {}
        row = row or (paper_table(table).get(spec.variant, {}) if stream == RGB else {})  # C3D, of no stated length
        cells |= {(side, column): row.get(printed, np.nan) for column, printed in columns.items()}
    return cells


def _format_videos(network: Network) -> str:
    protocols = [group.scores[0].protocol for group in network.splits.values()]
    evaluated, listed = (sum(p[key] for p in protocols) for key in ("videos_evaluated", "videos_listed"))
    return f"{evaluated:,} of {listed:,}"


def _format_seeds(network: Network) -> str:
    """The number of seeds and, of one split with several, the range of their video@1."""
    counts = sorted({len(group.scores) for group in network.splits.values()})
    if counts == [1]:
        return "1 seed"
    if len(network.splits) > 1:
        return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    (group,) = network.splits.values()
    return f"{counts[0]} ({format_interval(*group.seed_range)})"


@figure_of_runs
def stream_figure(runs: Sequence[Run], *, table: int) -> Figure | None:
    """video@1 of RGB, flow and both, a line for each network: the paper's panel of `table` (4 or 5) beside ours, whose
    bars are 95 % intervals.
    """
    rows = collect_networks(runs)[0]
    if not rows:
        return None
    specs, printed = list(dict.fromkeys(network.spec for network in rows)), {}
    size = (9.5, 0.62 * len(specs) + 1.9)
    figure, (papers, ours) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    streams = {spec: [network.stream for network in rows if network.spec == spec] for spec in specs}
    for network in rows:
        own = streams[network.spec]  # one alone stands beside its name
        place = specs.index(network.spec) + 0.2 * (own.index(network.stream) - (len(own) - 1) / 2)
        look = STREAM_STYLE[network.stream]
        ours.errorbar(network.video_at(1), place, xerr=network.accuracy.error_bar, **look)
        cells = {name: cell for (_, name), cell in paper_cells(table, network).items() if name != "frames"}
        papers.plot(cells["video@1"], place, color=GRAY, marker=look["marker"], ls="none", ms=7, mec="white")
        printed[network.spec] = printed.get(network.spec, set()) | {name for name in cells if not np.isnan(cells[name])}
    for place, spec in enumerate(specs):
        if "video@1" not in printed[spec]:
            text = "no video@1 printed" if printed[spec] else f"not in the paper's Table {table}"
            papers.annotate(text, (0.03, place), xycoords=("axes fraction", "data"), color=GRAY, size=8, va="center")
    depths = {spec.depth: None for spec in specs if not is_neighbor(spec.variant)}
    layers = "".join(f", ResNets of {depth} layers" for depth in depths)
    papers.set(title=f"paper: {'Sports-1M' if table == 4 else 'Kinetics'}, ResNets of 34 layers", xlabel="video@1 (%)")
    ours.set(title=f"here: {specs[0].data}{layers}", xlabel="video@1 (%)")
    papers.title.set_size(10)
    ours.title.set_size(10)
    papers.set_yticks(range(len(specs)), [_name(spec, specs) for spec in specs])
    papers.set_ylim(len(specs) - 0.5, -0.5)
    for axes in (papers, ours):
        axes.grid(axis="y", visible=False)
    draw_legend(figure)
    return figure


@figure_of_runs
def split_figure(runs: Sequence[Run]) -> Figure | None:
    """video@1 from scratch and pretrained, for each split and the mean of those that both have; 95 % intervals.

    A panel for each network and input.
    """
    rows = collect_networks(runs)[0]
    if not rows:
        return None
    pairs = list(dict.fromkeys((network.spec.variant, network.stream) for network in rows))
    several = len({variant for variant, _ in pairs}) > 1
    names = sorted({name for network in rows for name in network.splits})
    labels = [f"split {name}" if name.isdigit() else name for name in names] + ["mean"] * (len(names) > 1)
    figure, panels = panel_grid(len(pairs), 2.9, 2.9)
    for (variant, stream), axes in zip(pairs, panels, strict=True):
        members = [network for network in rows if (network.spec.variant, network.stream) == (variant, stream)]
        common = [name for name in names if all(name in network.splits for network in members)]
        for network in members:
            points = {names.index(name): [name] for name in network.splits}
            points |= {len(names): common} if len(common) > 1 else {}
            for place, splits in points.items():
                point = replace(network, splits={name: network.splits[name] for name in splits})
                shift, look = (0.09, "pretrained") if network.source else (-0.09, "from scratch")
                axes.errorbar(place + shift, point.video_at(1), point.accuracy.error_bar, **TRAINING_STYLE[look])
        if 1 < len(common) < len(names):
            place = {"transform": axes.get_xaxis_transform(), "ha": "center", "size": 8, "color": GRAY}
            axes.text(len(names), 0.02, f"of {', '.join(common)}", **place)
        axes.set(xlim=(-0.5, len(labels) - 0.5))
        axes.set_title(f"{variant}, {stream}" if several else stream, size=10)
        axes.set_xticks(range(len(labels)), labels)
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("video@1 (%)")
        axes.grid(axis="x", visible=False)
        if len(names) > 1:
            axes.axvline(len(names) - 0.5, color=GRAY, lw=0.8)
    draw_legend(figure)
    return figure


def class_accuracy(a: Network, b: Network) -> pd.DataFrame:
    """A row for each class: its video@1 in per cent by each Network, their difference in points, and its videos.

    Over all videos of the splits that both have, each the mean of its seeds; the classes with the largest gain of `b`
    come first.
    """
    table = pd.DataFrame()
    for network in on_shared_splits(a, b):
        splits = [(group.scores[0], group.outcomes.values.mean(axis=0)) for group in network.splits.values()]
        classes = np.concatenate([np.array(scores.classes)[scores.labels] for scores, _ in splits])
        order = pd.Categorical(classes, list(dict.fromkeys(name for scores, _ in splits for name in scores.classes)))
        correct = pd.Series(np.concatenate([share for _, share in splits]))
        by_class = correct.groupby(pd.Series(order), observed=True)
        table[network.stream], table["videos"] = by_class.mean(), by_class.size()
    table["difference"] = table[b.stream] - table[a.stream]
    return table.sort_values("difference", ascending=False, kind="stable")


@figure_of_runs
def class_figure(runs: Sequence[Run]) -> Figure | str:
    """video@1 of each class on RGB and on flow, a panel for each network, the classes with the largest gain by flow
    first; of many classes those at both ends.
    """
    rows = collect_networks(runs)[0]
    flow = {network.spec: network for network in rows if network.stream == FLOW}
    pairs = [(network, flow[network.spec]) for network in rows if network.stream == RGB and network.spec in flow]
    pairs, half = [pair for pair in pairs if on_shared_splits(*pair)[0].splits], MAX_CLASSES // 2
    if not pairs:
        return "accuracy by class needs a network on RGB and on flow, both finished"
    tables = [class_accuracy(*pair) for pair in pairs]
    tables = [pd.concat([t.head(half), t.tail(half)]) if len(t) > MAX_CLASSES else t for t in tables]
    size = (4.6 * len(pairs) + 0.8, 0.26 * max(map(len, tables)) + 1.5)
    figure, panels = plt.subplots(1, len(pairs), figsize=size, squeeze=False, layout="constrained")
    for axes, table, (rgb, _) in zip(panels[0], tables, pairs, strict=True):
        places = np.arange(len(table))
        axes.hlines(places, table[RGB], table[FLOW], color=GRAY, lw=1.2, zorder=1)
        for stream, shift in ((RGB, -0.12), (FLOW, 0.12)):  # keeps equal ones apart
            axes.errorbar(table[stream], places + shift, **STREAM_STYLE[stream])
        labels = [f"{name} ({videos})" for name, videos in table["videos"].items()]
        axes.set_yticks(places, labels, size=8)
        axes.set(xlim=(-4, 104), ylim=(len(table) - 0.5, -0.5), xlabel="video@1 of the class (%)")
        axes.set_title(_name(rgb.spec, [rgb.spec for rgb, _ in pairs]), size=10)
    draw_legend(figure)
    return figure


def _name(spec: Spec, specs: Sequence[Spec]) -> str:
    """The variant, with clip length and training where `specs` differ in them."""
    frames = f", {count_noun(spec.frames, 'frame')}" * (len({other.frames for other in specs}) > 1)
    training = f", {'pretrained' if spec.init_from else 'from scratch'}" * any(other.init_from for other in specs)
    return spec.variant + frames + training
