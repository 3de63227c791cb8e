"""The judge of claims about rows of Tables 4 to 6: two streams and pretraining (Section 4.4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from r21d_analysis.artifacts.streams import FLOW, FUSED, RGB, Network, difference, pretrained_pairs
from r21d_analysis.artifacts.streams import networks as networks_of
from r21d_analysis.claims.select import R21D, SPORTS, Selection, tell_protocol
from r21d_analysis.claims.verdict import ABOVE, INCONCLUSIVE, REFUTED, SUPPORTED, Verdict, decide_bonferroni
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_core.study.spec import Spec

Rows = tuple[Network, Network]  # the first is claimed to be above the second


def judge_rows(
    networks: Sequence[SeedGroup], *, candidates: Callable[[list[Network]], list[list[Rows]]], command: str
) -> Verdict:
    """Whether every pair of rows of Tables 4 to 6 differs in video@1 by more than zero, as `judge` does of runs.

    Of the settings in the records, that of the profile nearest the paper's answers, then that of the most videos.
    """
    found = candidates(networks_of([run for one in networks for run in one.runs], sources=True)[0])
    if not found:
        return Verdict(INCONCLUSIVE, why=f"missing; to make them: {command}")
    best = max(found, key=_rank_rows)
    members = [one for pair in best for row in pair for one in row.splits.values()]
    why = tell_protocol(Selection(members[0].spec, dict(enumerate(members)), [], len(found) - 1))
    verdicts = []
    for one, other in best:
        result = difference(one, other)
        effect, low, high = (100 * result[key] for key in ("difference", "low", "high"))
        told = f"{_row(one)} less {_row(other)}"
        verdicts.append(
            (
                decide_bonferroni(effect, low, high, ABOVE, len(best)),
                Verdict("", effect, low, high, result["videos"]),
                told,
            )
        )
    answer, verdict, told = min(
        verdicts, key=lambda one: ((REFUTED, INCONCLUSIVE, SUPPORTED).index(one[0]), one[1].low)
    )
    return replace(verdict, answer=answer, why=f"{why}; told is {told}")


def _rank_rows(pairs: list[Rows]) -> tuple:
    one, _ = pairs[0]
    videos = sum(len(split.scores[0].videos) for split in one.splits.values())
    return ("demo", "small", "paper").index(one.key.profile), one.key.variant in R21D, videos


def _row(one: Network) -> str:
    split = f", split {one.split}" if len(one.splits) == 1 and one.split else f", {one.split}" if one.split else ""
    return f"{one.key.variant} {one.stream} {one.how}{split}"


def both_over_each(rows: list[Network]) -> list[list[Rows]]:
    """Of each setting both streams together and each alone."""
    named = {(one.key, one.stream): one for one in rows}
    return [[(one, named[one.key, RGB]), (one, named[one.key, FLOW])] for one in rows if one.stream == FUSED]


def rgb_over_flow(rows: list[Network]) -> list[list[Rows]]:
    """R(2+1)D's two streams, each from scratch."""
    pairs = [(rgb, flow) for (_, rgb), (_, flow) in both_over_each(rows)]
    return [[(rgb, flow)] for rgb, flow in pairs if rgb.key.variant in R21D and not rgb.source]


def pretrained_over_scratch(rows: list[Network]) -> list[list[Rows]]:
    """R(2+1)D on RGB, finetuned and from scratch."""
    return [[pair] for pair in pretrained_pairs(rows) if pair[0].stream == RGB and pair[0].key.variant in R21D]


def kinetics_over_sports(rows: list[Network]) -> list[list[Rows]]:
    """Networks finetuned alike, whose starts were trained alike on other data."""
    by_source: dict[Spec, dict[str, Network]] = {}
    for one in (one for one in rows if one.stream == RGB and one.key.parent_spec):
        changed = json.loads(one.key.init_from)
        name = changed.pop("data", "")
        changed.pop("eval_clips", None)  # which it was evaluated with
        by_source.setdefault(one.key.replace(init_from=json.dumps({"data": ""} | changed)), {})[name] = one
    return [
        [(sources[kinetics], sources[SPORTS])]
        for sources in by_source.values()
        for kinetics in sources
        if kinetics.startswith("kinetics") and SPORTS in sources
    ]
