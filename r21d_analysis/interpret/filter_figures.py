"""Figures, tables and words of what filters look like, from kept records alone: no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from pandas.io.formats.style import Styler

from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.filters import FREQUENCIES, GROUPS, ORDERS, order_of
from r21d_analysis.style import GRAY, PALETTE, RC_PARAMS, VARIANT_STYLE

ORDER_COLOURS = dict(zip(ORDERS, (PALETTE[7], PALETTE[0], PALETTE[1]), strict=True))
NOTHING = Markdown("*Nothing to draw: of no run is there a record or a checkpoint.*")


def of_kept(draw: Callable[..., Figure | None]) -> Callable[..., Figure | Markdown]:
    """One style for all; the figure is returned and not kept open; where there is nothing to draw, a line says so."""

    @wraps(draw)
    def drawn(kept: Sequence[InsightRecord], *arguments, **options):
        if not kept:
            return NOTHING
        with plt.rc_context(RC_PARAMS):
            figure = draw(kept, *arguments, **options)
        if figure is None:
            return Markdown("*Nothing to draw: none of these networks has a filter along time.*")
        if any(one.metadata["spec"]["profile"] == "demo" for one in kept):
            figure.suptitle("demonstration: tiny networks", x=0.01, ha="left", color=GRAY, size=9)
        plt.close(figure)
        return figure

    return drawn


def name_of(one: InsightRecord) -> str:
    """Variant, depth and seed of the network, such as "R3D-18, seed 0"; of other people's weights their name."""
    if "name" in one.metadata:
        return one.metadata["name"]
    spec = one.metadata["spec"]
    return f"{spec['variant']}-{spec['depth']}, seed {spec['seed']}{', flow' * of_flow(one)}"


def of_flow(one: InsightRecord) -> bool:
    """Whether the network sees optical flow in the place of frames."""
    return one.metadata["spec"]["modality"] == "flow"


def look_of(one: InsightRecord) -> dict:
    """Colour and marker of the network's variant."""
    return VARIANT_STYLE[one.metadata["spec"]["variant"]]


@of_kept
def stem_figure(kept: Sequence[InsightRecord]) -> Figure:
    """A row a network: conv1's spatial filters as pictures, each in its own contrast, and its temporal ones as curves.

    Of a (2+1)D stem all its spatial filters, and of each output its strongest temporal filter; of a 3-D stem the first
    singular pair of each filter, time by space.
    """
    figure = plt.figure(figsize=(10, 2.3 * len(kept) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(kept), 4, width_ratios=(2.4, 1, 1, 1))
    for row, one in enumerate(kept):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(_mosaic(one["pictures"].astype(np.float32)), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{name_of(one)}: {len(one['pictures'])} spatial filters", size=10, loc="left")
        curves = one["curves"].astype(np.float32)
        if curves.shape[1] == 1:
            continue
        order = order_of(curves)
        for column, (name, colour) in enumerate(ORDER_COLOURS.items(), start=1):
            axes = figure.add_subplot(grid[row, column])
            chosen = curves[order == column - 1]
            axes.plot(np.arange(1, curves.shape[1] + 1), chosen.T, color=colour, alpha=0.5, lw=1)
            axes.set_title(f"{name}: {len(chosen)} of {len(curves)}", size=10)
            axes.set(ylim=(-1.05, 1.05), xlim=(0.8, curves.shape[1] + 0.2), xlabel="frame")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if column == 1:
                axes.set_ylabel("weight")
            else:
                axes.tick_params(labelleft=False)
    return figure


@of_kept
def spectrum_figure(kept: Sequence[InsightRecord]) -> Figure:
    """Power by frequency: of conv1 in space, and along time of each group, mean over its layers. Noise lies at 1."""
    figure, (space, *times) = plt.subplots(1, 6, figsize=(11, 2.7), layout="constrained")
    cycles = np.linspace(0, 0.5, FREQUENCIES)
    for one in kept:
        look = {"color": look_of(one)["color"], "lw": 1.8, "label": name_of(one)}
        space.plot(cycles, one["spatial_spectrum"], **look)
        for axes, group in zip(times, GROUPS, strict=True):
            of_group = one["spectrum"][rows_of(one, group)]
            if np.isfinite(of_group).any():
                axes.plot(cycles, np.nanmean(of_group, axis=0), **look)
    top = 1.05 * max(1, *(axes.get_ylim()[1] for axes in times))  # the dashed line stays in sight
    for axes, title in zip((space, *times), ("conv1, in space", *(f"{name}, in time" for name in GROUPS)), strict=True):
        axes.axhline(1, color=GRAY, ls="--", lw=1)
        axes.set_title(title, size=10)
        axes.set(xlabel="cycles/pixel" if axes is space else "cycles/frame", xticks=(0, 0.25, 0.5))
        axes.set_ylim(0, None if axes is space else top)
    space.set_ylabel("power (noise: 1)")
    handles, labels = space.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=4)
    return figure


@of_kept
def orders_figure(kept: Sequence[InsightRecord]) -> Figure | None:
    """Shares of temporal filters by order, a bar a layer from the first to the last; dashed: untrained weights."""
    kept = [one for one in kept if one["n_filters"].any()]
    if not kept:
        return None
    layers = max(len(one["layer"]) for one in kept)
    size = (max(4.4, 0.22 * layers + 2.4) * len(kept), 3)
    figure, panels = plt.subplots(1, len(kept), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, one in zip(panels[0], kept, strict=True):
        share = 100 * shares_of(one)
        below = np.zeros(len(share))
        for column, (name, colour) in enumerate(ORDER_COLOURS.items()):
            axes.bar(np.arange(len(share)), share[:, column], 0.86, below, color=colour, label=name, lw=0)
            below += share[:, column]
        for line in (100 / 3, 200 / 3):
            axes.axhline(line, color="black", ls="--", lw=0.8)
        _mark_groups(axes, one)
        axes.set_title(name_of(one), size=10)
        axes.set_ylim(0, 100)
        axes.grid(False)
    panels[0, 0].set_ylabel("temporal filters (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=3)
    return figure


def orders_table(kept: Sequence[InsightRecord]) -> Styler | Markdown:
    """By network and group: how many temporal filters there are, how many of each order, and the orders' energy."""
    rows = []
    for one in kept:
        for group in GROUPS:
            inside = rows_of(one, group) & (one["n_filters"] > 0)
            if not inside.any():
                continue
            counts, number = one["counts"][inside].sum(axis=0), one["n_filters"][inside]
            energy = np.average(one["energy"][inside], axis=0, weights=number)
            row = {"network": name_of(one), "group": group, "temporal filters": int(number.sum())}
            row |= {f"{name} (%)": 100 * count / number.sum() for name, count in zip(ORDERS, counts, strict=True)}
            rows.append(row | {f"energy, {name} (%)": 100 * e for name, e in zip(ORDERS, energy, strict=True)})
    if not rows:
        return NOTHING if not kept else Markdown("*None of these networks has a filter along time.*")
    return _styled(pd.DataFrame(rows), "{:.1f}")


@of_kept
def separability_figure(kept: Sequence[InsightRecord]) -> Figure | None:
    """The share of a kernel's energy that one spatial times one temporal filter holds, by layer.

    Lines: means; bands: from the lowest to the highest tenth. Dashed: untrained weights of the same shape. Right:
    the share of a layer's energy that the best (2+1)D pair of M_i planes could hold, of layers of full kernels.
    """
    kept = [one for one in kept if one["n_filters"].any()]
    if not kept:
        return None
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    titles = {
        "kernel_separability": "one kernel: one input channel",
        "filter_separability": "one filter: all input channels",
        "low_rank_energy": "a layer in a pair of $M_i$ planes",
    }
    longest = max(kept, key=lambda one: len(one["layer"]))
    for axes, (what, title) in zip(panels, titles.items(), strict=True):
        for one in kept:
            colour, at = look_of(one)["color"], np.arange(len(one["layer"]))
            if what == "low_rank_energy":
                full = np.where(one["midplanes"] == 0, one["low_rank_energy"], np.nan)
                axes.plot(at, 100 * full, color=colour, marker="o", ms=3)
            else:
                mean, low, high = 100 * one[what].T
                axes.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
                axes.plot(at, mean, color=colour, marker="o", ms=3, label=name_of(one))
            reference = one[f"random_{what}"]
            if what == "low_rank_energy":
                reference = np.where(one["midplanes"] == 0, reference, np.nan)
            axes.plot(at, 100 * reference, color=colour, ls="--", lw=1)
        axes.plot([], color=GRAY, ls="--", lw=1, label="untrained")
        _mark_groups(axes, longest)
        axes.set_title(title, size=10)
        axes.set_ylim(None, 101)
    panels[0].set_ylabel("energy held (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=4)
    return figure


def separability_table(kept: Sequence[InsightRecord]) -> Styler | Markdown:
    """The numbers behind `separability_figure`, in per cent, a row a layer."""
    columns, kept = {}, [one for one in kept if one["n_filters"].any()]
    names = {"kernel_separability": "one kernel", "filter_separability": "one filter", "low_rank_energy": "in a pair"}
    for one in kept:
        for what, title in names.items():
            full = one["midplanes"] == 0 if what == "low_rank_energy" else np.isfinite(one["filter_separability"][:, 0])
            mean = one[what] if what == "low_rank_energy" else one[what][:, 0]
            for column, values in ((title, mean), (f"{title}, untrained", one[f"random_{what}"])):
                values = pd.Series(np.where(full, 100 * values, np.nan), one["layer"])
                if values.notna().any():
                    columns[name_of(one), column] = values
    if not columns:
        return NOTHING
    table = pd.DataFrame(columns).reindex(max((one["layer"] for one in kept), key=len))
    return table.style.format("{:.1f}", na_rep="–", escape="html")


@of_kept
def excited_figure(kept: Sequence[InsightRecord]) -> Figure:
    """A row a filter: the test clips that drive it most, and at the right a clip made up to drive it.

    A ring marks where the response is largest, in the frame that is nearest to its time.
    """
    (one,) = kept
    strips, places = one["strips"], one["places"].astype(np.float32)
    filters, clips, frames, size = strips.shape[:4]
    figure, panels = plt.subplots(
        filters,
        clips + 1,
        figsize=(2.5 * (clips + 1), 0.62 * filters + 0.5),
        dpi=80,
        squeeze=False,
        layout="constrained",
    )
    for row in range(filters):
        for column in range(clips + 1):
            axes, made_up = panels[row, column], column == clips
            axes.imshow(np.hstack(one["optimized"][row] if made_up else strips[row, column]), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
            response = one["optimized_responses"][row] if made_up else one["responses"][row, column]
            what = "made up" if made_up else one["labels"][row, column]
            text = f"{what}: {response:,.{0 if response >= 100 else 1}f}"
            axes.set_title(text, size=7, pad=2, parse_math=False)
            for frame in range(1, frames):
                axes.axvline(frame * size - 0.5, color="white", lw=1)
            if not made_up:
                time, y, x = places[row, column]
                at = min(max(round(float(time) * frames - 0.5), 0), frames - 1)
                for width, colour in ((2, "black"), (1, "white")):
                    axes.add_patch(Circle(((at + x) * size, y * size), 0.12 * size, fill=False, ec=colour, lw=width))
        name = f"{one['stage'][row]}\nfilter {one['channel'][row]}"
        panels[row, 0].set_ylabel(name, size=7, rotation=0, ha="right", va="center")
    return figure


def group_of(layer: str) -> str:
    """The group of a layer: "conv2_x" of "conv2_x.0.conv1"."""
    return layer.split(".")[0]


def rows_of(one: InsightRecord, group: str) -> np.ndarray:
    """Which layers are of `group`, (layers,) bool."""
    return np.array([group_of(layer) == group for layer in one["layer"]])


def shares_of(one: InsightRecord) -> np.ndarray:
    """The share of each layer's temporal filters that is of each of ORDERS, (layers, 3)."""
    return one["counts"] / np.maximum(one["n_filters"], 1)[:, None]


def _mark_groups(axes, one: InsightRecord) -> None:
    """Ticks in the middle of each group's layers, lines between groups."""
    groups = [group_of(layer) for layer in one["layer"]]
    members = {name: [at for at, group in enumerate(groups) if group == name] for name in dict.fromkeys(groups)}
    axes.set_xticks([np.mean(at) for at in members.values()], [name.removesuffix("_x") for name in members], size=8)
    axes.tick_params(axis="x", length=0)
    for at in list(members.values())[1:]:
        axes.axvline(at[0] - 0.5, color="white" if axes.patches else "#e4e4e4", lw=2 if axes.patches else 1)
    axes.grid(False, axis="x")


def _mosaic(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, in, h, w) side by side, each between black and white about grey, (H, W, 3)."""
    n, channels, h, w = pictures.shape
    scale = np.abs(pictures).max(axis=(1, 2, 3), keepdims=True)
    shown = 0.5 + 0.5 * pictures / np.where(scale > 0, scale, 1)
    shown = np.repeat(shown[:, :1], 3, axis=1) if channels != 3 else shown
    columns = min(n, max(8, int(np.ceil(np.sqrt(2 * n)))))
    rows = -(-n // columns)
    canvas = np.ones((rows, columns, h + 1, w + 1, 3), np.float32)
    canvas.reshape(rows * columns, h + 1, w + 1, 3)[:n, :h, :w] = shown.transpose(0, 2, 3, 1)
    return canvas.swapaxes(1, 2).reshape(rows * (h + 1), columns * (w + 1), 3)[:-1, :-1]


def _styled(table: pd.DataFrame, numbers: str) -> Styler:
    floats = {name: numbers for name in table.columns if pd.api.types.is_float_dtype(table[name])}
    floats |= {name: "{:,}" for name in table.columns if pd.api.types.is_integer_dtype(table[name])}
    return table.style.format(floats, na_rep="–", escape="html").hide(axis="index")
