"""Figures and tables of attribution records; neither a network nor torch is needed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFTBASE, CARETRIGHTBASE
from pandas.io.formats.style import Styler
from PIL import Image

from r21d_analysis.interpret.evidence import PERTURBATIONS, TILES, evidence_lost, tiles_lost
from r21d_analysis.interpret.filter_figures import legend_outside, variant_style
from r21d_analysis.interpret.html import image_html
from r21d_analysis.interpret.records import InsightRecord
from r21d_analysis.style import (
    GRAY,
    NO_RECORDS,
    PALETTE,
    figure_of_records,
    figure_style,
    isolate,
    note,
    panel_grid,
    style_table,
)

AXIS = (-60, 210)  # of the evidence lost, in percent
LINES = ("-", "--", ":", "-.")
SHUFFLED = ("fc", "+conv5_x", "+conv4_x", "+conv3_x", "+conv2_x", "+conv1")  # columns of `correlation`
MIN_POSITIONS = 25  # of a map: with fewer, ranks agree by chance, up to 0.5 in one of a hundred pairs of 25


def play_overlays(records: Sequence[InsightRecord], video: str) -> HTML | Markdown:
    """Return an animation of the video under each map, a row a network, a column a method.

    The stronger the color the larger the map: orange supports the class, blue opposes it.
    """
    rows = find_video(records, video)
    if not rows:
        return note(NO_RECORDS)
    record, index = rows[0]
    titles, images = _titles(rows), []
    with figure_style():
        size = (1.25 * len(titles), 1.3 * len(rows) + 0.35)
        figure, panels = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False, layout="constrained")
        for axes, title in zip(panels[0], titles, strict=True):
            axes.set_title(title.replace(" ", "\n", 1), size=7)
        for row, (network, number) in zip(panels, rows, strict=True):
            row[0].set_ylabel(f"{network.label}\n{_describe_prediction(network, number)}".replace(", ", "\n"), size=7)
            for axes, frames in zip(row, _overlays(network, number)[-len(titles) :], strict=True):
                axes.set(xticks=[], yticks=[])
                images.append((axes.imshow(frames[0]), frames))
    figure.canvas.draw()
    figure.set_layout_engine("none")  # lay out once, not for each frame
    pictures = []
    for number in range(len(images[0][1])):  # Matplotlib's own animations draw each frame three times
        for image, frames in images:
            image.set_data(frames[number])
        figure.savefig(pixels := io.BytesIO(), format="rgba", dpi=80)
        width, height = (int(side) for side in figure.get_size_inches() * 80)
        pictures.append(Image.frombytes("RGBA", (width, height), pixels.getvalue()))
    plt.close(figure)
    file = io.BytesIO()  # a quarter of a GIF's size, with all colors
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=250, loop=0)
    alt = f"{video}: maps of {', '.join(network.label for network, _ in rows)} for {record['target'][index]}"
    return HTML(image_html(file.getvalue(), "webp", alt))


@figure_of_records
def overlay_figure(records: Sequence[InsightRecord], video: str | None = None, frames: int = 4) -> Figure:
    """Show `frames` frames of the clip and of each map, a row a method, networks side by side.

    `video` is one of the names in the records; None is the first.
    """
    columns = find_video(records, str(records[0]["videos"][0]) if video is None else video)
    titles = _titles(columns)
    size = (0.85 * frames * len(columns) + 1.5, 0.85 * len(titles) + 0.7)
    figure = plt.figure(figsize=size, dpi=80, layout="constrained")
    widths = [0.85 * frames + 1.5, *[0.85 * frames] * (len(columns) - 1)]  # the first has the names of the methods
    subfigures = figure.subfigures(1, len(columns), squeeze=False, width_ratios=widths)[0]
    for subfigure, (record, index) in zip(subfigures, columns, strict=True):
        panels = subfigure.subplots(len(titles), frames, squeeze=False)
        subfigure.suptitle(f"{record.label}\n{_describe_prediction(record, index)}", size=9)
        for row, title, overlay in zip(panels, titles, _overlays(record, index)[-len(titles) :], strict=True):
            if subfigure is subfigures[0]:
                row[0].set_ylabel(title, size=9, rotation=0, ha="right", va="center")
            for axes, frame in zip(row, np.linspace(0, len(overlay) - 1, frames).round().astype(int), strict=True):
                axes.imshow(overlay[frame])
                axes.set(xticks=[], yticks=[])
                if title == titles[0]:
                    axes.set_title(f"frame {frame + 1}", size=8)
    if "clip" not in titles:
        figure.supxlabel("the clip is not shown: its frames are left out of the records", size=9)
    return figure


@figure_of_records
def completeness_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the mean completeness gap over videos by the number of integration steps; the legend has it for the maps."""
    figure, (axes,) = panel_grid(1, 8, 3.2)
    for record in records:
        used = np.argmin(np.abs(record["gap_steps"] - record.metadata["steps"]))
        names = f"integrated gradients, {record.metadata['steps']} steps", "DeepLift"
        for gaps, name, line in zip(100 * record["gaps"].mean(axis=2), names, "-:", strict=True):
            style = variant_style(record) | {"ms": 5, "label": f"{record.label}, {name}: {_gap_percent(gaps[used])}"}
            axes.plot(record["gap_steps"], np.maximum(gaps, 1e-5), line, **style)
    axes.set(xscale="log", yscale="log", xlabel="steps of integrated gradients", ylabel="completeness gap (%)")
    steps = np.unique(np.concatenate([record["gap_steps"] for record in records]))
    axes.set_xticks(steps, steps.astype(str))
    axes.minorticks_off()
    legend_outside(figure, axes, 2)
    return figure


@figure_of_records
def sanity_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the rank correlation of each method's maps with those of shuffled weights, from fc to all stages.

    Pale: maps with fewer than MIN_POSITIONS positions, which are not tested.
    """
    figure, panels = panel_grid(len(records), 4.7, 3.2, len(records))
    for axes, record in zip(panels, records, strict=True):
        for index, (method, correlation) in enumerate(zip(record["methods"], record["correlation"], strict=True)):
            color, untested = PALETTE[(0, 1, 2, 3, 4, 5, 9)[index]], bool(record["resolution"][index] < MIN_POSITIONS)
            style = {"color": color, "alpha": 0.3 if untested else 1, "marker": "o", "ms": 3}
            axes.plot([1, *correlation], LINES[index % 4], **style, label=f"{method}{', not tested' * untested}")
        axes.axhline(0, color=GRAY, lw=1)
        axes.axhspan(record.metadata["sanity_corr_max"], 1.03, color=GRAY, alpha=0.15, lw=0)
        axes.set_xticks(range(7), ("none", *SHUFFLED), rotation=45, size=8)
        axes.set(title=record.label, ylim=(-1, 1.03))
    panels[0].set_ylabel("rank correlation")
    figure.supxlabel("weights shuffled", size=10)
    legend_outside(figure, panels[0])
    return figure


def sanity_table(records: Sequence[InsightRecord]) -> Styler | Markdown:
    """Return the rank correlations of `sanity_figure`, and which methods fail, ignore the classifier or go untested."""
    rows = []
    for record in records:
        limit = record.metadata["sanity_corr_max"]
        verdicts = {
            f"not tested: fewer than {MIN_POSITIONS} positions": record["resolution"] < MIN_POSITIONS,
            "constant maps": np.isnan(record["correlation"][:, -1]),
            f"not valid: {limit:g} or more with all weights shuffled": record["correlation"][:, -1] >= limit,
            "insensitive to fc and conv5_x, so not specific to the class": record["correlation"][:, 1] >= 0.8,
        }
        texts = np.select(list(verdicts.values()), list(verdicts), "passed")
        rows += zip([record.label] * len(texts), record["methods"], *record["correlation"].T, texts, strict=True)
    table = pd.DataFrame(rows, columns=["network", "method", *SHUFFLED, "sanity check"])
    return style_table(table, formats=dict.fromkeys(SHUFFLED, 2)) if rows else note(NO_RECORDS)


@figure_of_records
def evidence_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the fraction of evidence lost in frozen, shuffled, reversed and occluded clips, for all classes and each.

    Bars are 95 % intervals over recordings; one recording has none. An arrowhead marks a point or bar that ends beyond
    the axis. A network has no point at a class for which the interval of its evidence reaches zero.
    """
    rows = ["all", *records[0]["classes"]]
    titles = {name: name for name in PERTURBATIONS} | {"occluded": "most important\nninth occluded"}
    figure, panels = panel_grid(len(titles), 2.63, 0.28 * len(rows) + 1.5)
    shifts = 0.7 * (np.arange(len(records)) - (len(records) - 1) / 2) / len(records)
    for axes, (perturbation, title) in zip(panels, titles.items(), strict=True):
        for record, shift in zip(records, shifts, strict=True):
            style = variant_style(record) | {"ms": 5, "lw": 1, "mec": "white", "ls": "none", "label": record.label}
            labels = (None, *range(len(rows) - 1))
            lost, low, high = 100 * np.transpose([evidence_lost(record, perturbation, label) for label in labels])
            errors = np.maximum([lost - low, high - lost], 0)
            places = np.arange(len(rows)) + shift
            axes.errorbar(lost, places, xerr=errors, **style)
            below, above = np.fmin(lost, low) < AXIS[0], np.fmax(lost, high) > AXIS[1]
            for edge, beyond, arrow in zip(AXIS, (below, above), (CARETLEFTBASE, CARETRIGHTBASE), strict=True):
                look = {"color": style["color"], "marker": arrow, "ls": "none", "clip_on": False}
                for place in places[beyond]:
                    axes.plot(edge, place, **look)
        axes.axvline(0, color=GRAY, lw=1)
        axes.axvline(100, color=GRAY, lw=1, ls=":")
        axes.set(title=title, xlim=AXIS, xlabel="evidence lost (%)")
        axes.axhline(0.5, color=GRAY, lw=0.5)
    panels[0].set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    legend_outside(figure, panels[0], 4)
    return figure


def evidence_table(records: Sequence[InsightRecord]) -> Styler | Markdown:
    """Return accuracy and evidence lost in percent, a row a network; networks with several seeds have a mean row.

    Accuracy is that of the record's clips, whole and frozen. Intervals are over recordings; the mean row has the range
    over seeds. The last column sums what each ninth of the image removes.
    """
    if not records:
        return note(NO_RECORDS)
    names = ["accuracy (%)", "accuracy, frozen (%)"]
    names += [f"lost: {name} (%)" for name in (*PERTURBATIONS, "middle ninth", "all ninths, summed")]
    values, rows = [], []
    for record in records:
        lost = 100 * np.array([evidence_lost(record, name) for name in PERTURBATIONS])
        tiles = tiles_lost(record)
        correct = [record["evidence_correct"], record["evidence_correct_frozen"]]
        values.append([*(100 * np.mean(x) for x in correct), *lost[:, 0], tiles[TILES**2 // 2], tiles.sum()])
        none = np.full((2, 2), np.nan)
        cells = map(_percent, values[-1], *np.concatenate([none, lost[:, 1:], none]).T)
        rows.append([record.label, len(record["evidence_original"]), *cells])
    networks = [r.label.replace(f", seed {r.metadata['spec']['seed']}", "") for r in records]
    for network, seeds in pd.DataFrame(values).groupby(networks, sort=False):
        if len(seeds) > 1:
            cells = map(_percent, seeds.mean(), seeds.min(), seeds.max())
            rows.append([f"{network}, mean of {len(seeds)} seeds (range)", "", *cells])
    return style_table(pd.DataFrame(rows, columns=["network", "clips", *names]))


@figure_of_records
def occlusion_figure(records: Sequence[InsightRecord]) -> Figure | str:
    """Plot the fraction of evidence lost when a ninth of the image is occluded in all frames, over all clips.

    The panel of a network is empty if the interval of its evidence reaches zero.
    """
    from seaborn import heatmap  # 0.1 s in the explorer, which draws none

    grids = [tiles_lost(record).reshape(TILES, TILES) for record in records]
    if np.isnan(grids).all():
        return "no network has clear evidence for the classes, of which a fraction could be lost"
    figure, panels = panel_grid(len(records), 2.5, 2.5, len(records))
    limit = np.nanmax(np.abs(grids))
    style = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, "fmt": ".0f", "square": True}
    for axes, record, grid in zip(panels, records, grids, strict=True):
        annot = grid.round() + 0  # -0 becomes 0
        heatmap(grid, annot=annot, ax=axes, cbar=False, xticklabels=False, yticklabels=False, **style)
        axes.set_title(record.label + "\nno clear evidence" * bool(np.isnan(grid).any()))
    figure.colorbar(panels[0].collections[0], ax=panels, label="evidence lost (%)", shrink=0.8)
    return figure


def find_video(records: Sequence[InsightRecord], video: str) -> list[tuple[InsightRecord, int]]:
    """Return the records with maps of the video, and its index in each."""
    return [(record, list(record["videos"]).index(video)) for record in records if video in record["videos"]]


def _titles(networks: Sequence[tuple[InsightRecord, int]]) -> list[str]:
    """Return what is shown of a video: the clip, unless a record has none of its frames, and the methods' maps."""
    return ["clip"] * all(record.has_frames for record, _ in networks) + list(networks[0][0]["methods"])


def _gap_percent(gap: float) -> str:
    return "below 0.01 %" if gap < 0.01 else f"{gap:,.0f} %" if gap >= 10 else f"{gap:.2g} %"


def _percent(value: float, low: float, high: float) -> str:
    ends = "" if np.isnan(low) else f" ({low:z.0f} to {high:z.0f})"
    return "–" if np.isnan(value) else f"{value:z.0f}{ends}"


def _describe_prediction(record: InsightRecord, index: int) -> str:
    """Return the prediction for a video and the probability of the class that the maps explain."""
    pred, target = (isolate(str(record[key][index])) for key in ("pred", "target"))
    percent = 100 * record["probability"][index]
    return f"predicts {pred}, {percent:.0f} %" if pred == target else f"predicts {pred}; {target}: {percent:.0f} %"


def _overlays(record: InsightRecord, index: int) -> list[np.ndarray]:
    """Return the clip, and for each method the grey clip under its map, (T, S, S, 3) from 0 to 1."""
    frames = record["frames"][index].astype(np.float32) / 255
    grey = frames.mean(axis=3, keepdims=True)
    overlays = [frames]
    for values in record["maps"][index].astype(np.float32):
        scale = np.quantile(np.abs(values), 0.99) or np.abs(values).max() or 1.0
        alpha = 0.8 * np.clip(np.abs(values) / scale, 0, 1)[..., None]  # the clip stays visible
        color = np.where(values[..., None] > 0, (1.0, 0.45, 0.0), (0.1, 0.4, 1.0))
        overlays.append(np.clip((1 - alpha) * (0.25 + 0.6 * grey) + alpha * color, 0, 1))
    return overlays
