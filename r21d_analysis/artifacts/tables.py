"""Tables for a notebook, drawn from run folders alone; the paper's numbers stand in grey, apart from those measured."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, cost_here, group_all, group_by_seed
from r21d_analysis.statistics.inference import bootstrap_ci, compare, holm, per_video, required_sample_size
from r21d_core.runs.metrics import family_correct
from r21d_core.runs.run import Run
from r21d_core.study.paper import paper
from r21d_core.study.spec import Spec, run_labels

GREY = "color: #767676"
HERE = ("parameters (M)", "GMAC/clip", "clip@1", "video@1", "95 % interval", "video@5", "videos", "seeds",
        "training clips/s", "inference clips/s")  # fmt: skip


def variant_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Table 2: a row a network, the paper's columns under "paper", what was measured under "here".

    Accuracies in per cent, speeds in clips a second. The paper trained 18 layers on 8 or 16 frames of Kinetics: where
    a run has another clip length, its row shows the paper's numbers for 8. Of a network of which no run is finished,
    while others' are, the row has what arithmetic knows and NaN.
    """
    networks, rows = group_all(runs), []
    for spec, one in networks:
        frames = spec.frames if spec.frames in (8, 16) else 8
        rows.append(
            {
                ("paper, Kinetics-400", "parameters (M)"): paper(2, spec.variant, "parameters (M)"),
                ("paper, Kinetics-400", f"clip@1, {frames} frames"): paper(2, spec.variant, f"clip@1 {frames}f"),
                ("paper, Kinetics-400", f"video@1, {frames} frames"): paper(2, spec.variant, f"video@1 {frames}f"),
                **{("here", name): value for name, value in _here(spec, one, networks).items()},
            }
        )
    if not rows:
        return pd.DataFrame()
    variants = pd.Index([spec.variant for spec, _ in networks], name="network")
    table = pd.DataFrame([list(row.values()) for row in rows], variants, pd.MultiIndex.from_tuples(rows[0]))
    return table.astype({("here", "videos"): "Int64"})


def _here(spec: Spec, one: SeedGroup | None, networks: Sequence[tuple[Spec, SeedGroup | None]]) -> dict:
    if one is None:
        cost = cost_here(spec, networks)
        known = {"parameters (M)": cost.parameters / 1e6, "GMAC/clip": cost.macs / 1e9, "seeds": NOT_RUN}
        return {name: known.get(name, np.nan) for name in HERE}
    low, high = one.interval
    values = (
        one.mean("parameters") / 1e6,
        one.mean("macs") / 1e9,
        one.clip_at_1,
        one.video_at(1),
        f"{low:.1f} to {high:.1f}",
        one.video_at(5) if len(one.scores[0].classes) > 5 else np.nan,
        len(np.unique(one.scores[0].videos)),
        _seeds(one),
        one.mean("train_clips_per_second"),
        one.mean("inference_clips_per_second"),
    )
    return dict(zip(HERE, values, strict=True))


def show_variant_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`variant_table` for a notebook, its protocol above it, the best of the measured accuracies in bold."""
    table = variant_table(runs)
    if table.empty:
        return Markdown("*No run is finished, so there is nothing to show yet.*")
    table = table.dropna(axis="columns", how="all")
    best = [column for column in table.columns if column[0] == "here" and "@" in column[1]]
    digits = {"parameters (M)": 3, "GMAC/clip": 3, "training clips/s": 0, "inference clips/s": 0}
    return style_table(table, protocol_line(runs), digits).highlight_max(best, props="font-weight: bold")


def style_table(table: pd.DataFrame, caption: str, digits: dict[str, int]) -> Styler:
    """A table with the paper's columns in grey, its caption above, numbers with one digit or as `digits` say of ours.

    Columns are pairs of a side ("here", something of "paper", or "") and a name.
    """
    formats = {
        (side, name): f"{{:,.{1 if side.startswith('paper') else digits.get(name, 1)}f}}"
        for side, name in table.columns
        if pd.api.types.is_float_dtype(table[side, name])
    }
    return (
        table.style.format(formats, na_rep="–", escape="html")
        .map(lambda _: GREY, subset=[column for column in table.columns if column[0].startswith("paper")])
        .set_caption(html.escape(caption))
        .set_table_styles([{"selector": "caption", "props": "text-align: left; font-style: italic"}])
    )


def protocol_line(runs: Sequence[Run]) -> str:
    """How the numbers of these runs came to be: data, clips, crop, frame rate, profile, device, seeds.

    Where runs differ in one of these, all of its values are named.
    """
    parts: dict[str, list[str]] = {}
    for one in group_by_seed(runs):
        told = one.scores[0].protocol
        of_task = {
            "action": "",
            "speed": ", each at 1, 2, 4 and 8 times its rate",
            "arrow": ", each in both directions",
        }
        trained = f"{one.spec.epochs * one.spec.clips_per_epoch:,} clips"
        values = {
            "profile": "DEMONSTRATION, tiny networks, compares with nothing in the paper"
            if told["profile"] == "demo"
            else f"profile {told['profile']}",
            "data": f"{told['data']} {told['split']}, {told['videos_evaluated']} of {told['videos_listed']} videos"
            + of_task[told["task"]],
            "network": f"{one.spec.depth} layers from width {one.spec.width}",
            "training": f"{'finetuned' if one.spec.init_from else 'trained from scratch'} on {trained}"
            if one.spec.epochs
            else "trained as another clip length or clip count",
            "clips": f"{told['clips']} clips of {told['frames']} frames at step {told['frame_stride']}, {told['crop']}",
            "averaging": told["averaging"],
            "frame rate": told["frame_rate"],
            "device": f"on {', '.join(sorted({run.summary['device'] for run in one.runs}))}",
        }
        for key, value in values.items():
            if value not in parts.setdefault(key, []):
                parts[key].append(value)
    return "; ".join(" / ".join(values) for values in parts.values())


def comparison_table(runs: Sequence[Run], against: str = "R(2+1)D") -> Styler | Markdown:
    """Each network against the variant `against` on the same videos, for a notebook; p is Holm's for all rows."""
    base = next((one for one in group_by_seed(runs) if one.spec.variant == against), None)
    rows = [(spec, one) for spec, one in group_all(runs) if base and spec != base.spec.replace(seed=0)]
    places = [place for place, (_, one) in enumerate(rows) if one]
    others = [rows[place][1] for place in places]
    if not others:
        return Markdown(f"*A comparison takes {against} and one other network, both finished.*")
    results = [compare(one.scores, base.scores) for one in others]
    table = pd.DataFrame(
        {
            "video@1 (%)": [one.video_at(1) for one in others],
            f"less {against}'s (points)": [100 * result["difference"] for result in results],
            "95 % interval": [f"{100 * result['low']:+.1f} to {100 * result['high']:+.1f}" for result in results],
            "p over videos, Holm": holm([result["p"] for result in results]),
            "videos": [result["videos"] for result in results],
            "videos needed": [required_sample_size(one.scores, base.scores) for one in others],
            "seeds": [_seeds(one) for one in others],
        },
        index=places,
    ).reindex(range(len(rows)))
    table = table.fillna({"95 % interval": "–", "seeds": NOT_RUN}).astype({"videos": "Int64"})
    table.index = pd.Index([spec.variant for spec, _ in rows], name="network")
    return table.style.format(
        {
            "video@1 (%)": "{:.1f}",
            f"less {against}'s (points)": "{:+.1f}",
            "p over videos, Holm": format_p,
            "videos needed": "{:,.0f}",
        },
        na_rep="–",
        escape="html",
    )


def family_table(runs: Sequence[Run]) -> pd.DataFrame:
    """For each network and family of classes: accuracy, interval and chance in per cent, and the number of videos.

    Accuracy is among the family's own classes, as in `family_correct`. Empty where the data has no families.
    """
    rows = []
    for one in group_by_seed(runs):
        each = [family_correct(scores) for scores in one.scores]
        for family, names in one.scores[0].protocol["families"].items():
            members = [one.scores[0].classes.index(name) for name in names]
            videos = one.scores[0].videos[np.isin(one.scores[0].labels, members)]
            values = np.array([per_video(seed[family], videos) for seed in each])
            low, high = bootstrap_ci(values)
            rows.append(
                {
                    "network": one.spec.variant,
                    "family": family,
                    "accuracy": 100 * values.mean(),
                    "low": 100 * low,
                    "high": 100 * high,
                    "chance": 100 / len(names),
                    "videos": values.shape[1],
                }
            )
    return pd.DataFrame(rows, columns=["network", "family", "accuracy", "low", "high", "chance", "videos"])


def missing_line(runs: Sequence[Run], command: str, settings: Mapping[str, object] | None = None) -> str:
    """How many of `runs` are there, and the command that makes the rest where they were looked for, with `settings`.

    It is for the folder that notebooks/ is in, from where the notebooks see `runs` one level up.
    """
    missing = [run for run in runs if not run.is_complete]
    if not missing:
        return f"{len(runs)} of {len(runs)} runs are there."
    names = ", ".join(
        name for run, name in zip(runs, run_labels([run.spec for run in runs]), strict=True) if not run.is_complete
    )
    command += "".join(f" --set {shlex.quote(f'{key}={value}')}" for key, value in (settings or {}).items())
    folder = missing[0].folder.parent
    folder = str(folder if folder.is_absolute() else os.path.relpath(folder, ".."))
    command += f" --runs {shlex.quote(folder)}" if folder != "runs" else ""
    return f"{len(runs) - len(missing)} of {len(runs)} runs are there; missing: {names}\nto make them: {command}"


def deviations_from_paper(specs: Sequence[Spec]) -> HTML:
    """Every setting of `specs` that is not the paper's, for a notebook; variant and seed aside."""
    papers = Spec()
    rows = []
    for field in fields(Spec):
        values = sorted({getattr(spec, field.name) for spec in specs}, key=str)
        if field.name not in ("variant", "seed", "profile", "init_from") and values != [getattr(papers, field.name)]:
            rows.append((field.name, getattr(papers, field.name), ", ".join(map(str, values))))
    if not rows:
        return HTML("<p>Nothing: every setting is the paper's.</p>")
    table = pd.DataFrame(rows, columns=["setting", "paper", "here"])
    return HTML(table.to_html(index=False, escape=True, border=0))


def format_p(p: float) -> str:
    """A p-value as people write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _seeds(one: SeedGroup) -> str:
    low, high = one.seed_range
    return one.seeds if len(one.runs) == 1 else f"{one.seeds} ({low:.1f} to {high:.1f})"
