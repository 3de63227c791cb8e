"""The claim ledger: a row for each claim, with the verdict of arithmetic or of the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from r21d_analysis.claims.claims import CLAIMS
from r21d_analysis.claims.evaluate import evaluate_claim
from r21d_analysis.claims.verdict import INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.style import align_left, style_table
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

MARKS = {SUPPORTED: "✓", REFUTED: "✗", INCONCLUSIVE: "?"}
WEIGHTS = {SUPPORTED: "bold", REFUTED: "bold", INCONCLUSIVE: "normal"}


def ledger(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each of CLAIMS, in the paper's order: section, claim, comparison, kind and the fields of its Verdict.

    `effect`, `low` and `high` are in `unit`, mostly points of per cent; arithmetic has no interval. A run that cannot
    be read makes the claims that need it inconclusive.
    """
    unique: dict[Spec, Run] = {}
    for run in runs:  # a run that is in two folders counts once
        if run.is_complete:
            unique.setdefault(run.spec, run)
    groups, rows = group_by_seed(list(unique.values())), []
    for claim in CLAIMS:
        try:
            verdict = evaluate_claim(claim, groups)
        except R21DError as error:
            verdict = Verdict(INCONCLUSIVE, why=str(error))
        row = {"section": claim.section, "claim": claim.sentence, "comparison": claim.comparison, "by": claim.kind}
        rows.append(row | asdict(verdict) | {"demonstration": verdict.why.startswith("demonstration")})
    return pd.DataFrame(rows, index=pd.Index([claim.id for claim in CLAIMS], name="id"))


def show_ledger(runs: Sequence[Run]) -> Styler:
    """`ledger` for a notebook; each answer has a mark and, once decided, is bold, so it does not depend on color."""
    table = ledger(runs)
    counts = table["answer"].value_counts()
    totals = ", ".join(f"{counts.get(answer, 0)} {mark} {answer}" for answer, mark in MARKS.items())
    demo = table["demonstration"].map({True: " (demonstration)", False: ""})
    columns = {
        "section": table["section"],
        "the paper says": table["claim"],
        "answer": table["answer"].map(MARKS) + " " + table["answer"] + demo,
        "effect": [_format_effect(row) for row in table.itertuples()],
        "n": [str(n) if n else "–" for n in table["n"]],
        "comparison": table["comparison"],
        "by": table["by"],
        "why": table["why"],
    }
    style = align_left(style_table(pd.DataFrame(columns), f"{len(table)} claims: {totals}. Intervals are 95 %."))
    weights = [f"font-weight: {WEIGHTS[answer]}; white-space: nowrap" for answer in table["answer"]]
    return style.apply(lambda _: weights, subset=["answer"])


def _format_effect(row) -> str:
    if np.isnan(row.effect):
        return "–"
    if np.isnan(row.low):
        return f"{row.effect:.4g} {row.unit}"
    return f"{row.effect:+.2f} {row.unit} ({row.low:+.2f} to {row.high:+.2f})"
