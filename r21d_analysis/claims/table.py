"""The claim ledger: a row for each claim, with the verdict of arithmetic or of the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mode
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from r21d_analysis.artifacts.confirmatory import CLOSE, counted_runs
from r21d_analysis.claims.claims import ARITHMETIC, CLAIMS
from r21d_analysis.claims.evaluate import evaluate_claim
from r21d_analysis.claims.verdict import DIRECTION, INCONCLUSIVE, REFUTED, SUPPORTED, UNTESTED, Verdict
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.inference import format_interval
from r21d_analysis.style import render, write_minus
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

MARKS = {SUPPORTED: "✓", DIRECTION: "↗", REFUTED: "✗", CLOSE: "≈", INCONCLUSIVE: "?", UNTESTED: "–"}
OF_ROWS = ("data", "task", "seeds")  # keys of a protocol that a row of evidence has in columns of their own


def ledger(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each of CLAIMS, in the paper's order: section, claim, comparison, kind and the fields of its Verdict.

    Runs that docs/protocol.md does not count are left out (`counted_runs`). `metric` is "" for arithmetic.
    `effect`, `low` and `high` are in `unit`, mostly points of per cent; arithmetic has no interval. Claims that compare
    networks of different test videos are inconclusive, those without runs UNTESTED. Raises R21DError for a run that
    cannot be read.
    """
    unique: dict[Spec, Run] = {}
    for run in counted_runs(runs):  # a run that is in two folders counts once
        if run.is_complete:
            unique.setdefault(run.spec, run)
    groups, rows = group_by_seed(list(unique.values())), []
    for claim in CLAIMS:
        try:
            verdict = evaluate_claim(claim, groups)
        except R21DError as error:
            verdict = Verdict(INCONCLUSIVE, why=str(error))
        row = {"section": claim.section, "claim": claim.sentence, "comparison": claim.comparison, "by": claim.kind}
        row["metric"] = claim.metric if claim.kind != ARITHMETIC else ""
        rows.append(row | asdict(verdict) | {"demonstration": verdict.protocol.get("profile") == "profile demo"})
    return pd.DataFrame(rows, index=pd.Index([claim.id for claim in CLAIMS], name="id"))


def count_answers(table: pd.DataFrame) -> str:
    """How many claims of a `ledger` have each answer."""
    return ", ".join(f"{n} {answer}" for answer in MARKS if (n := (table["answer"] == answer).sum()))


def show_ledger(runs: Sequence[Run]) -> HTML:
    """`ledger` of `runs` for a notebook (`draw_ledger`)."""
    return draw_ledger(ledger(runs))


def draw_ledger(table: pd.DataFrame) -> HTML:
    """A `ledger` to read: the claims by evidence and section, those about runs first, to filter by answer.

    A claim about runs has a row of evidence for each data set and task; the first is its answer. Each answer has a
    mark, so it does not depend on color. The usual protocol is stated once.
    """
    table = table.copy()
    usual = _usual_protocol(table)
    rows = [[_describe_evidence(verdict, usual) for verdict in verdicts] for verdicts in table["evidence"]]
    table["evidence"] = pd.Series(rows, index=table.index)
    table["difference"] = [write_minus(_describe_effect(row)) for row in table.itertuples()]
    # A line names its data, unless they are those of most claims.
    sources = [rows[0]["source"] if rows else "" for rows in table["evidence"]]
    commonest = mode([source for source in sources if source] or [""])
    table["source"] = [source if source != commonest else "" for source in sources]
    for column in ("comparison", "why", "other_settings"):
        table[column] = table[column].map(write_minus)
    by_arithmetic = table["by"] == ARITHMETIC
    groups = {"Evaluated from runs": table[~by_arithmetic], "Evaluated by arithmetic": table[by_arithmetic]}
    parts = [(title, count_answers(rows), _count_further(rows), rows.to_dict("records"))
             for title, rows in groups.items()]  # fmt: skip
    answers = {"answers": [*table["answer"]], "of_runs": [*table["answer"][~by_arithmetic]]}
    texts = {"usual": [*usual.values()], "parts": parts, "commonest": commonest}
    return HTML(render("claims.html", marks=MARKS, **answers, **texts))


def _count_further(table: pd.DataFrame) -> str:
    """How many claims have each answer by a data set or task that is not their first; "" for none."""
    further = pd.DataFrame([
        {"source": row["source"], "answer": row["answer"]} for rows in table["evidence"] for row in rows[1:]
    ])  # fmt: skip
    texts = [f"{name}: {count_answers(rows)}" for name, rows in further.groupby("source")] if len(further) else []
    return "; ".join(texts)


def format_effect(row) -> str:
    """The effect of a row of the `ledger` with its interval, such as `+4.7 points (-0.1 to +9.5)`; "" for none."""
    if np.isnan(row.effect):
        return ""
    if np.isnan(row.low):
        form = {"times": "#.3g", "points": ".1f"}.get(row.unit.partition(",")[0], ".3g")
        return f"{row.effect:{form}} {row.unit}"
    spec = "+.1f" if row.unit == "points" else "+.2f"
    return f"{row.effect:{spec}} {row.unit} ({format_interval(row.low, row.high, spec)})"


def _describe_effect(row) -> str:
    """`format_effect`, whether the interval excludes the paper's size, and that there is nothing to explain."""
    return "; ".join(filter(None, [format_effect(row), row.paper_size, row.premise]))


def _describe_evidence(verdict: Mapping[str, Any], usual: Mapping[str, str]) -> dict[str, str]:
    """The texts of a row of evidence: what it answers, by what sample, and in what the setting is not the usual one."""
    row = Verdict(**verdict)
    differing = [text for key, text in row.protocol.items() if text != usual.get(key) and key not in OF_ROWS]
    return {
        "data": row.protocol["data"] + row.question, "source": row.source, "answer": row.answer,
        "name": row.protocol["data"].partition(",")[0] + row.question,
        "effect": write_minus(_describe_effect(row)),
        "sample": f"{row.n:,} {row.of}, {row.protocol['seeds']}" if row.n else row.protocol["seeds"],
        "status": row.status, "setting": ", ".join(differing), "why": write_minus(row.why),
    }  # fmt: skip


def _usual_protocol(table: pd.DataFrame) -> dict[str, str]:
    """The commonest text of each key of the rows' protocols, without the frames, which most comparisons name, and the
    data and seeds, which each row of evidence has.
    """
    protocols = [protocol for protocol in table["protocol"] if protocol]
    keys = [key for key in (protocols or [{}])[0] if key not in ("frames", "data", "seeds")]
    return {key: mode(protocol[key] for protocol in protocols) for key in keys}
