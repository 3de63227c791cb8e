"""The catalog: the paper's tables and figures, the notebook and the command of each, and the runs that exist."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler
from pandas.io.formats.style_render import CSSDict

from r21d_analysis.style import NO_MATH, TABLE_CSS, align_left
from r21d_core import R21DError
from r21d_core.data.dataset_cards import FOLDER
from r21d_core.runs.run import Run, read_spec, spec_files
from r21d_core.study.experiments import EXPERIMENTS, SPLIT, as_list
from r21d_core.study.spec import CHOICES, Spec


class Artifact(NamedTuple):
    """A row of the catalog; it has an experiment, or a command that trains nothing."""

    title: str
    notebook: str
    experiment: str  # a key of EXPERIMENTS, or "" if nothing is trained
    requires: str
    command: str = ""  # if nothing is trained
    tasks: tuple[str, ...] = CHOICES["task"]
    claim: str = ""  # the id of the claim whose verdict sums it up


RECORDS = "runs of the other notebooks"
CHECKPOINTS = f"{RECORDS}, with checkpoints"
# The notebooks that read runs come after those that train them.
ARTIFACTS = (
    Artifact("Table 1, Figures 1 and 2", "architectures", "", "nothing: arithmetic, seconds", "r21d variants",
             claim="relu-doubled"),
    Artifact("Table 2, Figure 4", "variant_comparison", "variant_comparison", "twelve networks of 18 layers",
             claim="r21d-best-16"),
    Artifact("The confirmatory study", "confirmatory", "", RECORDS, "none: it reads runs"),
    Artifact("Figure 3", "optimization_curves", "optimization_curves", "R3D and R(2+1)D with two depths",
             claim="train-error-34"),
    Artifact("Figure 5a, Table 3", "clip_length", "clip_length",
             "R(2+1)D for each clip length; one network tested and finetuned on longer clips",
             claim="test-longer-video"),
    Artifact("Figure 5b", "clip_count", "clip_count", "one network, evaluated once with many clips per video",
             claim="twenty-clips"),
    Artifact("Table 4", "sports1m", "sports1m", "Sports-1M; R(2+1)D-34 on RGB and on flow", claim="rgb-over-flow"),
    Artifact("Table 5", "kinetics", "kinetics", "Kinetics; R(2+1)D-34 on RGB and on flow, from scratch and pretrained",
             claim="pretraining-helps"),
    Artifact("Table 6", "transfer", "transfer", "UCF101 and HMDB51, three splits each; pretrained R(2+1)D-34",
             claim="kinetics-pretrains-better"),
    Artifact("The paper's question: does recognition require motion?", "temporal_probe", "temporal_probe",
             "any videos: the labels are playback rate or direction", tasks=("speed", "arrow")),
    Artifact("Does the playback rate teach actions?", "rate_pretraining", "rate_pretraining", "any videos with classes",
             tasks=("action",)),
    Artifact("Why (2+1)D? The paper's two reasons", "why_2plus1d", "why_2plus1d",
             "any videos: R(2+1)D, R3D and eight networks between them", tasks=("action", "speed")),
    Artifact("The choice of the recipe for real videos", "recipe", "recipe_trials",
             "a validation split, made by `r21d manifest validation`", tasks=("action",)),
    Artifact("Your own videos", "your_videos", "", "a folder of videos; without one, an example",
             "r21d manifest folder DIR"),
    Artifact("Learned filters", "filters", "", CHECKPOINTS, "r21d insight RUN"),
    Artifact("Attribution maps", "attributions", "", CHECKPOINTS, "r21d insight RUN"),
    Artifact("Classes, confusions and videos", "explorer", "", RECORDS, "none: it reads runs"),
    Artifact("Every claim of the paper", "claims", "", RECORDS, "none: it reads runs"),
)  # fmt: skip


def show_catalog(folders: Sequence[str] | str, notebooks: Path | str = ".") -> Styler:
    """Return the catalog, a line an artifact, with links into the folder `notebooks` and the runs of each experiment.

    `folders` are folders of runs, as a list or separated by commas. A run in several of them counts once. For each
    profile, and for each data set of the user's own, the runs of the experiment's default parameters are counted, for
    the existing data, tasks and seeds; the counts for each of these are under the pointer. The caption counts the
    finished runs of each folder.
    """
    complete: dict[Spec, bool] = {}
    finished = Counter()
    for folder in dict.fromkeys(parse_folders(folders)):
        for run in iter_runs(folder):
            if isinstance(run, Run):
                complete[run.spec] = run.is_complete or complete.get(run.spec, False)
                finished[folder.as_posix()] += run.is_complete
    known = "builtin", *(card.stem for card in FOLDER.glob("*.json"))
    rows = [
        (_link(Path(notebooks), a), _describe_runs(_count_runs(a, complete), known),
         a.command or f"r21d train {a.experiment}", a.requires)
        for a in ARTIFACTS
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["artifact", "runs", "command", "requires"])
    style = align_left(table.style.format(escape="html", subset=["command", "requires"]).hide(axis="index"))
    one_line: CSSDict = {"selector": "td:not(:last-child)", "props": "white-space: nowrap"}
    counts = ", ".join(f"{count} in {folder}" for folder, count in finished.items())
    caption = f"Finished runs: {counts or 'none'}; those with other settings than the defaults are in no row"
    style = style.set_caption(html.escape(caption))
    style = style.set_table_attributes(f'class="{NO_MATH}"')
    return style.set_table_styles([one_line, TABLE_CSS[0]], overwrite=False)


def parse_folders(folders: Sequence[str] | str) -> list[Path]:
    """Return the paths in `folders`, a list or a text with commas."""
    return [Path(name) for name in as_list(folders) if name]


def iter_runs(folder: Path) -> Iterator[Run | Path]:
    """Yield the runs under `folder`, and the path of each folder whose spec.json cannot be read."""
    for path in spec_files(folder):
        try:
            yield Run(read_spec(path), path.parent)
        except R21DError:
            yield path.parent


def _link(folder: Path, artifact: Artifact) -> str:
    path, title = folder / f"{artifact.notebook}.ipynb", html.escape(artifact.title)
    return f'<a href="{html.escape(path.as_posix())}">{title}</a>' if path.exists() else f"{title} (not found)"


def _describe_runs(counts: pd.DataFrame, known: tuple[str, ...]) -> str:
    """The counts of each profile as HTML, with those of each data set and task as its title.

    The data sets whose names begin with one of `known`, the built-in and the published ones, are counted together, a
    user's own each by itself.
    """
    if counts.empty:
        return "–"
    lines = [f"{r.data}, {r.task}: {r.complete} of {r.total}" for r in counts.itertuples()]
    data = ["" if name.startswith(known) else f" on {SPLIT.sub('', name)}" for name in counts["data"]]
    sums = counts.groupby(counts["profile"] + data, sort=False)[["complete", "total"]].sum()
    text = ", ".join(f"{name} {row['complete']} of {row['total']}" for name, row in sums.iterrows())
    return f'<span title="{html.escape("; ".join(lines))}">{html.escape(text)}</span>'


def _count_runs(artifact: Artifact, complete: Mapping[Spec, bool]) -> pd.DataFrame:
    """Return the runs of the artifact's experiment that are complete, and all of them, by profile, data and task."""
    rows = []
    for profile, data, task in dict.fromkeys((spec.profile, spec.data, spec.task) for spec in complete):
        seeds = {spec.seed for spec in complete if (spec.profile, spec.data, spec.task) == (profile, data, task)}
        if not artifact.experiment or task not in artifact.tasks:
            continue
        try:
            specs = set(EXPERIMENTS[artifact.experiment](profile, data, task=task, seeds=sorted(seeds)))
        except R21DError:  # the experiment does not support this profile or task
            continue
        seeds = {spec.seed for spec in specs if spec in complete}
        states = [complete.get(spec, False) for spec in specs if spec.seed in seeds]
        rows += [(profile, data, task, sum(states), len(states))] if states else []
    return pd.DataFrame(rows, columns=["profile", "data", "task", "complete", "total"])
