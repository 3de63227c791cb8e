"""The first part of the page of reports: sentences, figures, a card for each artifact, and what was not done."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from r21d_analysis.artifacts import figures
from r21d_analysis.artifacts.catalog import ARTIFACTS
from r21d_analysis.artifacts.confirmatory import (
    CHECK,
    PLANNED,
    WHY,
    confirmatory_table,
    describe_seen,
    describe_verdicts,
)
from r21d_analysis.artifacts.confirmatory_figures import contrasts_figure
from r21d_analysis.artifacts.folds import GAP as CONTRAST
from r21d_analysis.artifacts.folds import fold_table
from r21d_analysis.artifacts.pretraining import GAP, rate_table
from r21d_analysis.artifacts.tables import PAPER, compare
from r21d_analysis.claims.claims import ARITHMETIC, NOT_YET
from r21d_analysis.claims.table import MARKS, count_answers, format_effect, ledger
from r21d_analysis.interpret.summary import describe_evidence, describe_filters
from r21d_analysis.outcome import (
    BEST,
    CLAIMS_PACKS,
    DATA,
    FOUR,
    LONG,
    ROOT,
    TRAINING,
    answer,
    compare_schedules,
    describe_contrasts,
    describe_gap,
    find_contrasts,
    find_records,
    find_speech,
    warn_of_short_training,
)
from r21d_analysis.statistics.inference import format_interval
from r21d_analysis.style import GRAY, write_minus
from r21d_core.runs.run import Run, load_runs

WHOLE_SET = re.compile(r"kinetics-400|sports1m|(ucf101|hmdb51)-split\d")  # as the paper has them


def describe_outcome() -> dict[str, Any]:
    """Return what the committed records answer, for page.html: sentences, figures, cards, and what was not done.

    The page has the contrasts as a table, in place of their sentence.
    """
    packs = {path.stem: load_runs(path) for path in sorted((ROOT / "results").glob("*.zip"))}
    actions = packs["actions"]
    drawn = [("Confirmatory differences to R(2+1)D", contrasts_figure(actions, families=PLANNED))]
    drawn += [(f"Difference to R(2+1)D with {n} frames", figure) for n, figure in _exploratory_figures().items()]
    claims = ledger([run for name in CLAIMS_PACKS for run in packs[name]])
    verdicts, printed, _, study, gains, *exploratory = map(_typeset, answer())
    return {
        "lead": [verdicts, printed],
        "contrasts": _contrast_rows(find_contrasts()),
        "study": [study, gains],
        "exploratory": exploratory,
        "figures": [(label, _svg(figure, label)) for label, figure in drawn],
        "captions": (  # of the first figure, and of the others
            "The confirmatory contrasts: video@1 minus R(2+1)D's, with 95 % intervals by recording and seed. Tall "
            "ticks are the paper's, on Kinetics-400; the band is 3 points wide in either direction.",
            f"Exploratory, on {DATA}: the same networks and all others of Table 2, by the recipe of fewer epochs, "
            "which does not train them to the end.",
        ),
        "cards": _cards(claims, packs["miracl"] + actions),
        "not_done": _list_not_done([run for runs in packs.values() for run in runs], claims),
    }


def _exploratory_figures() -> dict[int, Figure | Markdown]:
    """The differences to R(2+1)D by clip length, on one scale, as they stand side by side."""
    drawn = {n: figures.differences(find_records("variant_comparison", frames=n, frame_stride=1)) for n in (16, 8)}
    panels = [figure.axes[0] for figure in drawn.values() if isinstance(figure, Figure)]
    limits = [end for axes in panels for end in axes.get_xlim()]
    for axes in panels:
        axes.set_xlim(min(limits), max(limits))
    return drawn


def _contrast_rows(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Network, frames, difference here and in the paper, and verdict, of the rows of `find_contrasts`, as texts."""
    return [
        tuple(map(_typeset, (row["network"], f"{row['frames']}", here, f"{row[PAPER]:+.1f}", row["verdict"])))
        for row in table[table["verdict"] != CHECK].to_dict("records")
        for here in [describe_gap(row, CONTRAST, "low", "high")]
    ]


def _cards(claims: pd.DataFrame, planned: Sequence[Run]) -> list[dict[str, str]]:
    """What the paper says, what the records say and the verdict, for each artifact."""
    rate = compare(find_records("variant_comparison", task="speed")).set_index("network")["estimate"]["f-R2D"]
    runs = claims["by"] != ARITHMETIC
    long = find_records("variant_comparison", **LONG)
    why = find_speech(WHY)
    reasons = fold_table(why).set_index("network").to_dict("index")
    interval = format_interval(rate.low, rate.high, "+.1f")
    pretrained = rate_table(find_records("rate_pretraining")).iloc[-1]
    seen = describe_seen(WHY, {run.spec.seed for run in why})
    speech = [
        f"{label}: training error {describe_gap(row, *TRAINING)}, video@1 {describe_gap(row)}"
        for label, row in (("R3D", reasons["R3D"]), ("R3D+ReLU", reasons["R3D+ReLU"]))
    ]
    confirmed = confirmatory_table(planned)
    contrasts = confirmed[confirmed["family"].isin([family.name for family in PLANNED])].dropna(subset=CONTRAST)
    short = warn_of_short_training(find_records("variant_comparison", frames=16, frame_stride=1), contrasts)
    here = {
        "temporal_probe": f"f-R2D minus R(2+1)D on the playback rate: {rate.value:+.1f} points ({interval}); "
        "on actions see the confirmatory study",
        "rate_pretraining": f"Gain of R(2+1)D: {pretrained[GAP]:+.1f} points ({pretrained['its interval']})",
        "recipe": compare_schedules(long, find_records("variant_comparison", variants=FOUR, frames=16, frame_stride=2)),
        "why_2plus1d": f"Minus R(2+1)D on speech, {seen}: {'; '.join(speech)}",
        "filters": describe_filters(ROOT),
        "attributions": describe_evidence(ROOT),
        "confirmatory": f"Minus R(2+1)D: {describe_contrasts(contrasts)}; {describe_verdicts(confirmed)}",
        "claims": f"from runs {count_answers(claims[runs])}; by arithmetic {count_answers(claims[~runs])}",
    }
    cards = []
    for artifact in ARTIFACTS:
        card = {"title": artifact.title, "notebook": artifact.notebook, "paper": "", "answer": "", "mark": ""}
        card["here"] = here.get(artifact.notebook, "figures without a verdict")
        if artifact.claim:
            row = subtract_best(claims.loc[artifact.claim])
            card |= {"paper": row["claim"], "here": "no runs"}
            if effect := format_effect(row):
                data, compared = row["protocol"].get("data", ""), row["compared"]
                card["here"] = f"{row['metric']} {effect}".lstrip() + f", {compared}," * bool(compared)
                card["here"] += f" on {data}" * bool(data) + f"; {row['comparison']}"
                card["here"] += f". {short}" * (artifact.notebook == "variant_comparison")
                card |= {"answer": row["answer"], "mark": MARKS[str(row["answer"])]}
        cards.append(card | {"here": _typeset(str(card["here"]))})
    return cards


def subtract_best(row: Any) -> Any:
    """A row of the `ledger` that states R(2+1)D minus others, as others minus R(2+1)D; any other as it is.

    So is the one of them whose effect it is.
    """
    stated = re.fullmatch(rf"(.*): {re.escape(BEST)} minus (.*), (each )?above 0", row["comparison"])
    if not stated:
        return row
    metric, others, each = stated.groups("")
    row = row.copy()
    row["comparison"] = f"{metric}: {others} minus {BEST}, {each}below 0"
    row[["effect", "low", "high"]] = [-row["effect"], -row["high"], -row["low"]]
    row["compared"] = " minus ".join(reversed(row["compared"].split(" minus ")))
    return row


def _list_not_done(runs: Sequence[Run], claims: pd.DataFrame) -> list[str]:
    """What the paper did and these records do not have, a line each."""
    whole = sorted({run.spec.data for run in runs if WHOLE_SET.fullmatch(run.spec.data)})
    data = sorted({re.sub("-split.*", "", run.spec.data) for run in runs})
    recipes = sum(run.spec.profile == "paper" for run in runs)
    lines = [
        f"The recipe of the paper: {recipes or 'none'} of the {len(runs)} runs has the profile paper.",
        f"The data of the paper: {', '.join(whole) or 'none'} of Kinetics-400, Sports-1M, UCF101 and HMDB51 was used "
        f"whole; the runs are of {', '.join(data)}.",
    ]
    lacks = {
        "Several seeds": claims["why"].str.contains("one seed"),
        "Runs": claims["why"].str.contains("missing:|missing;"),
        "Evidence that this suite cannot make": claims["by"] == NOT_YET,
    }
    return lines + [f"{name} for: {' '.join(claims['claim'][rows])}" for name, rows in lacks.items() if rows.any()]


def _typeset(text: str) -> str:
    """`text` with minus signs, and with intervals that no line breaks."""
    text = re.sub(r"\(([^() ]+) to ([^() ]+)\)", "(\\1\u00a0to\u00a0\\2)", text)
    return write_minus(text)


def _svg(figure: Figure | Markdown, salt: str) -> str:
    """The figure, whose text has the color of the page."""
    file = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        assert isinstance(figure, Figure), "Markdown stands for missing runs"
        figure.savefig(file, format="svg", metadata={"Date": None})  # pyright: ignore
    svg = re.sub('<g id="[^"]*"', "<g", file.getvalue())  # the ids of two figures are the same
    return svg[svg.index("<svg") :].replace(GRAY, "currentColor")
