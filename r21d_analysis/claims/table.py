"""The claim ledger: a row for each claim, with the verdict of arithmetic or of the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import mode

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from r21d_analysis.claims.claims import ARITHMETIC, CLAIMS, RUNS
from r21d_analysis.claims.evaluate import evaluate_claim
from r21d_analysis.claims.verdict import DIRECTION, INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.style import align_left, style_table
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

MARKS = {SUPPORTED: "✓", DIRECTION: "↗", REFUTED: "✗", INCONCLUSIVE: "?"}


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
        rows.append(row | asdict(verdict) | {"demonstration": verdict.protocol.get("profile") == "profile demo"})
    return pd.DataFrame(rows, index=pd.Index([claim.id for claim in CLAIMS], name="id"))


def count_answers(table: pd.DataFrame) -> str:
    """How many claims of a `ledger` have each answer, by arithmetic and by runs apart."""
    parts = []
    for kind in (ARITHMETIC, RUNS):
        answers = table["answer"][(table["by"] == ARITHMETIC) == (kind == ARITHMETIC)]
        counts = [f"{(answers == answer).sum()} {answer}" for answer in MARKS if (answers == answer).any()]
        parts.append(f"{kind}: {', '.join(counts)}")
    return "; ".join(parts)


def show_ledger(runs: Sequence[Run]) -> Styler:
    """`ledger` for a notebook; each answer has a mark and, once decided, is bold, so it does not depend on color."""
    table = ledger(runs)
    usual = _usual_protocol(table)
    stated = f" Where a row does not say otherwise: {', '.join(usual.values())}." if usual else ""
    one_seed = [": one seed" if p.get("seeds", "").startswith("1") else "" for p in table["protocol"]]
    demo = table["demonstration"].map({True: " (demonstration)", False: ""})
    columns = {
        "section": table["section"],
        "the paper says": table["claim"],
        "answer": table["answer"].map(MARKS) + " " + table["answer"] + one_seed + demo,
        "effect": [_format_effect(row) for row in table.itertuples()],
        "n": [str(n) if n else "–" for n in table["n"]],
        "comparison": table["comparison"],
        "by": table["by"],
        "setting": [_describe_setting(protocol, usual) for protocol in table["protocol"]],
        "why": table["why"],
        "other settings": table["other_settings"],
    }
    caption = f"{len(table)} claims. {count_answers(table).capitalize()}. Intervals are 95 %.{stated}"
    style = align_left(style_table(pd.DataFrame(columns), caption))
    weights = ["normal" if answer == INCONCLUSIVE else "bold" for answer in table["answer"]]
    return style.apply(lambda _: [f"font-weight: {w}; white-space: nowrap" for w in weights], subset=["answer"])


def _usual_protocol(table: pd.DataFrame) -> dict[str, str]:
    """The commonest text of each key of the rows' protocols, without the frames, which most comparisons name."""
    protocols = [protocol for protocol in table["protocol"] if protocol]
    keys = [key for key in (protocols or [{}])[0] if key != "frames"]
    return {key: mode(protocol[key] for protocol in protocols) for key in keys}


def _describe_setting(protocol: dict[str, str], usual: dict[str, str]) -> str:
    return ", ".join(text for key, text in protocol.items() if text != usual.get(key))


def _format_effect(row) -> str:
    if np.isnan(row.effect):
        return "–"
    if np.isnan(row.low):
        return f"{row.effect:.4g} {row.unit}"
    return f"{row.effect:+.2f} {row.unit} ({row.low:+.2f} to {row.high:+.2f})"
