"""Evaluates claims about rows of Tables 4 to 6: two streams, and finetuned networks, each against another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter

from r21d_analysis.artifacts import networks
from r21d_analysis.artifacts.networks import FLOW, FUSED, RGB, Network
from r21d_analysis.claims import select
from r21d_analysis.claims.evaluate import decide_all
from r21d_analysis.claims.select import R21D, Claim, describe_protocol
from r21d_analysis.claims.verdict import INCONCLUSIVE, Verdict
from r21d_analysis.statistics import inference
from r21d_analysis.statistics.aggregate import SeedGroup, accuracy_difference
from r21d_analysis.statistics.inference import Estimate, SeedVariance
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_neighbor

NetworkPair = tuple[Network, Network]  # the first is claimed to be above the second


def evaluate_rows(
    claim: Claim,
    groups: Sequence[SeedGroup],
    find_pairs: Callable[[list[Network]], list[list[NetworkPair]]],
    command: str,
) -> list[Verdict]:
    """For each setting whether every pair of rows of Tables 4 to 6 differs in video@1 by more than zero."""
    rows, verdicts = networks.collect_networks([run for group in groups for run in group.runs], groups)[0], []

    def members(pairs: list[NetworkPair]) -> list[SeedGroup]:
        return [group for pair in pairs for row in pair for group in row.splits.values()]

    settings = find_pairs(rows)
    for pairs in sorted(settings, key=lambda pairs: select.setting_rank(pairs[0][0].spec, members(pairs))):
        specs = {_without_variant(row.spec) for pair in pairs for row in pair}
        alike = [row for row in rows if _without_variant(row.spec) in specs]
        estimates = [(_row_difference(a, b, alike, rows), _describe_pair(a, b)) for a, b in pairs]
        verdict, name = decide_all(claim, estimates)
        why = "; ".join(filter(None, [verdict.why, "" if len(pairs) > 1 else name]))
        verdicts.append(replace(verdict, why=why, protocol=describe_protocol(members(pairs))))
    return verdicts or [Verdict(INCONCLUSIVE, why=f"missing; to make them: {command}")]


@lru_cache(maxsize=4096)  # of each row, for each claim
def _without_variant(spec: Spec) -> Spec:
    return spec.replace(variant=R21D[0])


def _row_difference(a: Network, b: Network, alike: Sequence[Network], rows: Sequence[Network]) -> Estimate:
    """The difference in video@1 on the splits that both have, with the seeds' variance of all `alike` in settings.

    Those on the same input count, as in `difference`. Where these have one seed, it is that of all `rows` on the same
    data. A stream and its fusion are the same weights, whose differences have a variance of their own; two streams have
    that of their own seeds, as in `difference`.
    """
    if {a.stream, b.stream} == {RGB, FLOW}:
        return networks.difference(a, b)
    if networks.same_weights(a, b):
        keys = attrgetter("data", "task", "profile")
        fusions = [[pair for pairs in both_over_each(some) for pair in pairs]
                   for some in (alike, [row for row in rows if keys(row.spec) == keys(a.spec)])]  # fmt: skip
        variances = [networks.fusion_variance(a, b, pairs) for pairs in fusions]
        return networks.difference(a, b, next((v for v in variances if v.df), SeedVariance()))
    single = [row for row in alike if row.stream == a.stream and not is_neighbor(row.spec.variant)]
    seeds = inference.seed_variance(group.outcomes for row in single for group in row.splits.values())
    splits, baselines = (list(row.splits.values()) for row in networks.on_shared_splits(a, b))
    return accuracy_difference(splits, baselines, seeds if seeds.df else None)  # of folds where there is one seed


def _describe_pair(a: Network, b: Network) -> str:
    splits = f", {'split ' if len(a.splits) == 1 else ''}{a.split}" if a.split else ""
    return " minus ".join(f"{row.spec.variant} {row.stream} {row.training}" for row in (a, b)) + splits


def both_over_each(rows: Sequence[Network]) -> list[list[NetworkPair]]:
    """For each setting both streams together and each alone; networks of other papers are no evidence."""
    by_spec = {(row.spec, row.stream): row for row in rows}
    fused = [row for row in rows if row.stream == FUSED and not is_neighbor(row.spec.variant)]
    return [[(row, by_spec[row.spec, stream]) for stream in (RGB, FLOW)] for row in fused]


def rgb_over_flow(rows: list[Network]) -> list[list[NetworkPair]]:
    """R(2+1)D's two streams, each from scratch."""
    pairs = [(rgb, flow) for (_, rgb), (_, flow) in both_over_each(rows)]
    return [[(rgb, flow)] for rgb, flow in pairs if rgb.spec.variant in R21D and not rgb.source]


def pretrained_over_scratch(rows: list[Network]) -> list[list[NetworkPair]]:
    """R(2+1)D on RGB, finetuned and from scratch."""
    pairs = networks.pretrained_pairs(rows)
    return [[(a, b)] for a, b in pairs if a.stream == RGB and a.spec.variant in R21D]


def kinetics_over_sports(rows: list[Network]) -> list[list[NetworkPair]]:
    """R(2+1)D on RGB finetuned alike, from runs that were trained alike on Kinetics and on Sports-1M."""
    by_source: dict[Spec, dict[str, Network]] = {}
    for row in rows:
        if row.stream == RGB and row.spec.parent_spec and row.spec.variant in R21D:
            changes = json.loads(row.spec.init_from)
            source = changes.pop("data", "")
            changes.pop("eval_clips", None)  # only how the source was evaluated
            setting = row.spec.replace(init_from=json.dumps({"data": ""} | changes))
            by_source.setdefault(setting, {})[source] = row
    return [
        [(sources[name], sources[select.SPORTS])]
        for sources in by_source.values()
        for name in sources
        if name.startswith("kinetics") and select.SPORTS in sources
    ]
