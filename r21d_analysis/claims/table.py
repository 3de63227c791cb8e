"""The claim ledger: a row a claim, what the paper states and what arithmetic or the records say to it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from r21d_analysis.claims.claims import CLAIMS
from r21d_analysis.claims.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

MARKS = {SUPPORTED: "✓", REFUTED: "✗", INCONCLUSIVE: "?"}
WEIGHTS = {SUPPORTED: "bold", REFUTED: "bold", INCONCLUSIVE: "normal"}


def ledger(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a claim of CLAIMS, in the paper's order: what it states, the comparison, the answer by `runs`, and why.

    `effect`, `low` and `high` are in `unit`, mostly points of per cent; arithmetic has no interval. `n` counts videos,
    or runs where the number is a run's. A run that cannot be read leaves the claims it matters to undecided.
    """
    once: dict[Spec, Run] = {}
    for run in runs:  # a run kept in two folders is one witness
        if run.is_complete:
            once.setdefault(run.spec, run)
    networks, rows = group_by_seed(list(once.values())), []
    for claim in CLAIMS:
        try:
            verdict = claim.judge(networks)
        except R21DError as error:
            verdict = Verdict(INCONCLUSIVE, why=str(error))
        row = {"section": claim.section, "claim": claim.sentence, "comparison": claim.comparison, "by": claim.kind}
        row |= {f.name: getattr(verdict, f.name) for f in fields(Verdict)}
        row["demonstration"] = verdict.why.startswith("demonstration")
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index([claim.id for claim in CLAIMS], name="id"))


def show_ledger(runs: Sequence[Run]) -> Styler:
    """`ledger` for a notebook; each answer has a mark and is set bold once decided, so that it takes no colour."""
    table = ledger(runs)
    counts = table["answer"].value_counts()
    told = ", ".join(f"{counts.get(answer, 0)} {mark} {answer}" for answer, mark in MARKS.items())
    demo = table["demonstration"].map({True: " (demonstration)", False: ""})
    shown = pd.DataFrame(
        {
            "section": table["section"],
            "the paper says": table["claim"],
            "answer": table["answer"].map(MARKS) + " " + table["answer"] + demo,
            "effect": [_effect(row) for row in table.itertuples()],
            "n": [str(n) if n else "–" for n in table["n"]],
            "comparison": table["comparison"],
            "by": table["by"],
            "why": table["why"],
        }
    )
    bold = pd.DataFrame("", shown.index, shown.columns)
    bold["answer"] = [f"font-weight: {WEIGHTS[answer]}; white-space: nowrap" for answer in table["answer"]]
    return (
        shown.style.format(escape="html")
        .format_index(escape="html")
        .apply(lambda _: bold, axis=None)
        .set_properties(**{"text-align": "left", "vertical-align": "top"})
        .set_caption(html.escape(f"{len(table)} claims: {told}. Intervals are 95 %."))
        .set_table_styles([{"selector": "caption", "props": "text-align: left; font-style: italic"}])
    )


def _effect(row) -> str:
    if np.isnan(row.effect):
        return "–"
    if np.isnan(row.low):
        return f"{row.effect:.4g} {row.unit}"
    return f"{row.effect:+.2f} {row.unit} ({row.low:+.2f} to {row.high:+.2f})"
