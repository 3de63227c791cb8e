"""Write docs/results.md: the results of the committed records, by the notebooks' own tables, as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis import outcome
from r21d_analysis.artifacts.clip_count import clip_count_table
from r21d_analysis.artifacts.clip_length import show_length_table
from r21d_analysis.artifacts.confirmatory import (
    FAMILIES,
    OTHER_SEVEN,
    PLANNED,
    SPEECH,
    WHY,
    complete_members,
    confirmatory_table,
    family_specs,
)
from r21d_analysis.artifacts.confirmatory_figures import (
    show_accuracies,
    show_confirmatory,
    show_length_gains,
    show_training_course,
)
from r21d_analysis.artifacts.curves import error_table
from r21d_analysis.artifacts.folds import GAP, fold_table, show_fold_table
from r21d_analysis.artifacts.measures import INTERVAL
from r21d_analysis.artifacts.networks import on_target
from r21d_analysis.artifacts.pretraining import show_rate_table
from r21d_analysis.artifacts.recipe import chosen_line, show_recipe_table
from r21d_analysis.artifacts.streams import pretraining_gain, show_stream_table, stream_gain
from r21d_analysis.artifacts.tables import comparison_table, family_table, protocol_line, show_variant_table
from r21d_analysis.claims.claims import CLAIMS
from r21d_analysis.claims.evaluate import evaluate_claim
from r21d_analysis.claims.table import format_effect
from r21d_analysis.claims.verdict import Verdict
from r21d_analysis.interpret.summary import INSIGHT, summarize_evidence, summarize_filters
from r21d_analysis.outcome import BEST, DATA, FOUR, LONG, ROOT
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.inference import format_interval
from r21d_analysis.style import SHORT, P, write_minus
from r21d_core.data.manifest import load_manifest
from r21d_core.runs.files import write_atomically
from r21d_core.runs.run import Run, find_runs, load_runs
from r21d_core.study.experiments import EXPERIMENTS, TABLE_2
from r21d_core.study.paper import paper, paper_table
from r21d_core.study.recipes import LR_DIVISORS, PAPER_DEVIATIONS, VAL_SUFFIX
from r21d_core.study.variants import NEIGHBORS

PLAIN: dict = {"frames": 8, "frame_stride": 1}
BUILTIN: dict = {"data": "builtin", "crop_area": 0.0, "brightness": 0.0, "clips_per_epoch": 400, **PLAIN}
HALVES: dict = {"data": "ucf101-7b-split1", "source": "ucf101-7a-split1"}
OMITTED = (*SHORT.values(), "video@5", "training clips/s", "inference clips/s", "training loss")
INTRODUCTION = """# Results
{answer}

`r21d report` writes this page from the records in [results/](../results), and a test compares the two. Accuracies are
in per cent, differences in points. Columns that begin with "paper" have the paper's numbers, which are of other videos:
Kinetics-400, Sports-1M, UCF101 and HMDB51. The videos here are of 14 classes of UCF101 or of half of these classes, and
come from few recordings. {recordings}. A row with one seed on one split has no information on the variation over
seeds. The paper's own recipe has not been run. [reports/](../reports) has the figures.

The [confirmatory study](#confirmatory-study) follows [protocol.md](protocol.md), which was written before its runs;
[speech](#speech-miracl-vc1-8-frames) and [why (2+1)D](#why-21d-miracl-vc1-8-frames) follow it too, but the first of
their seeds had been seen before, and each other was added after those before it had been seen; no p is corrected for
this. All else is exploratory. p-values are corrected within a table, not over the page."""


def write_results() -> Path:
    """Write docs/results.md; return its path."""
    write_atomically(path := ROOT / "docs" / "results.md", build_results())
    return path


def build_results(root: Path = ROOT) -> str:
    """The text of docs/results.md from `root`/results; raises R21DError if a run of its tables is missing there."""
    texts = []
    for name in (DATA, *(f"ucf101-7b-split{split}" for split in (1, 2, 3))):
        videos = load_manifest(root / "data_manifests" / f"{name}.csv").split("test")
        texts.append(f"`{name}` tests {len(videos)} videos of {len({(v.label, v.group) for v in videos})} recordings")
    verdicts, *answer = outcome.answer(root)
    # What the confirmatory study consists of, and what longer clips add, stand in its section.
    printed, here, *confirmed = answer[:4]
    paragraphs = "\n\n".join([f"**{verdicts}**", printed, here, *answer[4:]])
    introduction, confirmed = (
        INTRODUCTION.format(answer=paragraphs, recordings=", ".join(texts)),
        "\n\n".join(confirmed),
    )
    return write_minus("\n\n".join([introduction, *_sections(root, confirmed)])) + "\n"


def _sections(root: Path, confirmed: str) -> Iterator[str]:
    runs_of = partial(outcome.find_records, root=root)
    runs = [run for pack in ("actions", "recipe") for run in load_runs(root / "results" / f"{pack}.zip")]
    tables = [show_confirmatory(runs, families=PLANNED), *show_accuracies(runs)]
    tables += [show_training_course(runs), show_length_gains(runs)]
    yield _section("Confirmatory study", confirmed, *map(_texts, tables))
    speech = outcome.find_speech(SPEECH, root)
    tables = [show_confirmatory(runs, families=[OTHER_SEVEN]), *show_accuracies(runs, families=[OTHER_SEVEN])]
    yield _section("The other seven networks, 16 frames", _describe_other_seven(runs, speech), *map(_texts, tables))
    table = outcome.find_contrasts(root)
    for frames, stride in ((8, 1), (16, 1), (16, 2)):
        runs = runs_of("variant_comparison", frames=frames, frame_stride=stride)
        gap = paper_table(2)[BEST][f"video@1 {frames}f"] - paper_table(2)["R3D"][f"video@1 {frames}f"]
        fact = f"In the paper R(2+1)D is {gap:.1f} points above R3D."
        warning = outcome.warn_of_short_training(runs, table)
        fact += f" {warning.replace('confirmatory study', '[confirmatory study](#confirmatory-study)')}"
        yield _compare(f"Table 2, {frames} frames at stride {stride}", fact, runs)
    yield _speech(speech)
    reasons, title = outcome.find_speech(WHY, root), "Why (2+1)D? MIRACL-VC1, 8 frames"
    fact = outcome.describe_reasons(reasons) + outcome.describe_unseen(reasons)
    yield _section(title, fact, _texts(show_fold_table(reasons)))
    rate = "The label is the rate at which a clip is played: 1, 2, 4 or 8 times the original."
    again = " R3D trained three times with one seed differs by up to 1.8 points"
    again += " ([records](../results/README.md#small))."
    again += " By clip length: [report](../reports/temporal_probe-small-lengths.ipynb)."
    yield _compare("Playback rate", rate + again, runs_of("variant_comparison", task="speed"))
    runs = runs_of("why_2plus1d", task="speed", seeds=5)
    fact = outcome.describe_reasons(runs) + outcome.describe_added(runs, range(3))
    yield _section("Why (2+1)D? Playback rate, 8 frames", fact, _texts(show_fold_table(runs)))
    runs = runs_of("variant_comparison", **LONG)
    fact = outcome.compare_schedules(runs, runs_of("variant_comparison", variants=FOUR, frames=16, frame_stride=2))
    yield _compare("Table 2, longer training", fact, runs)
    yield _compare("Playback rate, longer training", rate, runs_of("variant_comparison", task="speed", **LONG))
    runs = runs_of("rate_pretraining")
    rate_frames, frames = ({run.spec.frames for run in runs if run.spec.task == task} for task in ("speed", "action"))
    fact = (
        "R(2+1)D from scratch, and for half of the clips on the playback rate first; as many clips in all, those of "
        f"the playback rate of {', '.join(map(str, rate_frames))} frames, those of the actions of "
        f"{', '.join(map(str, frames))}."
    )
    yield _section("Pretraining on the playback rate", fact, _texts(show_rate_table(runs)))

    table = _texts(show_length_table(runs := runs_of("clip_length")))
    loss = format_effect(_evaluate("test-longer-video", runs))
    printed = paper(3, "8", "video@1") - paper(3, "8 tested at 32", "video@1")
    fact = f"R(2+1)D trained on 8 frames, video@1 tested on 8 minus on 32: {loss}; in the paper {printed:+.1f}."
    yield _section("Clip length (Figure 5a, Table 3)", fact, table)
    table = _texts(clip_count_table(runs_of("clip_count", **PLAIN)))
    first, *_, last = (f"{row[3]} % with {row[2]}" for row in table.to_numpy())
    yield _section("Clip count (Figure 5b)", f"video@1 of R(2+1)D by clips per video: {first}, {last}.", table)
    table = _texts(error_table(runs_of("optimization_curves", **PLAIN)))
    fact = ", ".join(f"{row[3]} points with {row[0]}" for row in table[table["network"] == "R3D"].to_numpy())
    yield _section("Depth (Figure 3)", f"Training error of R3D minus that of R(2+1)D, last epoch: {fact}.", table)
    fact = f"The figures are in the reports on {_link_reports('filters')}."
    yield _section("Learned filters", fact, summarize_filters(root))
    fact = f"The maps, and what this shows and what not, are in the reports on {_link_reports('attributions')}."
    yield _section("Evidence in perturbed clips", fact, summarize_evidence(root))

    runs, rows = runs_of("sports1m", seeds=2), paper_table(4)
    others = _find_others("sports1m", root, data=DATA, seeds=(0, 1))
    gain = _texts(stream_gain([*others, *runs]))
    flow = gain.set_index("comparison").loc["Flow minus RGB"]
    printed = rows[f"{BEST}-RGB-8frame"]["video@1"] - rows[f"{BEST}-Flow-8frame"]["video@1"]
    alone = _evaluate("rgb-over-flow", load_runs(root / "results" / "small.zip"))
    fact = (
        f"RGB minus flow, R(2+1)D: {format_effect(alone)}; on Sports-1M {printed:+.1f}. By the ledger of claims, that "
        f"RGB is better is {alone.answer}. The second table has the same interval as flow minus RGB, with p "
        f"{flow['p, Holm']} after Holm's correction for all of its tests. Both take the seeds' variance of these two "
        "networks alone. "
    )
    fact += f"The paper's R3D and R(2+1)D have 34 layers, these 18.{_describe_others([*others, *runs])}"
    yield _section("Table 4", fact, _texts(show_stream_table([*others, *runs], 4)), gain)
    for number, experiment in ((5, "kinetics"), (6, "transfer")):
        runs = [*_find_others(experiment, root, **HALVES), *runs_of(experiment, **HALVES, seeds=1)]
        tables = _texts(show_stream_table(runs, number)), _texts(pretraining_gain(runs))
        fact = "Pretraining is on the seven other classes, with 18 layers; the paper has 34. Every row has one seed."
        if number == 6:
            fact = "As Table 5, on three splits: other classes to pretrain on, 18 layers, one seed."
        yield _section(f"Table {number}", fact + _describe_others(runs), *tables)
    runs = runs_of("recipe_trials", "recipe", seeds=1, data=DATA + VAL_SUFFIX, variants=("f-R2D", BEST))
    yield _section("Recipe", f"{chosen_line(runs).data} Every row has one seed.", _texts(show_recipe_table(runs)))
    runs = runs_of("recipe_trials", "recipe", seeds=2, data=DATA + VAL_SUFFIX, variants=FOUR, trials="schedules")
    yield _section("Recipe of the confirmatory study", f"{chosen_line(runs).data}", _texts(show_recipe_table(runs)))

    runs = runs_of("variant_comparison", "diagnostic", seeds=1, **BUILTIN)
    table = family_table(runs)
    table["text"] = [f"{r.accuracy:.1f} ({format_interval(r.low, r.high)})" for r in table.itertuples()]  # pyright: ignore
    cells = table.pivot(index="network", columns="family", values="text").loc[list(TABLE_2), table["family"].unique()]
    chance = ", ".join(f"{r.chance:.0f} % for {r.family}" for r in table.drop_duplicates("family").itertuples())
    fact = f"Full size, built-in videos, one seed; f-R2D ignores the order of frames. Chance: {chance}. The ten clips "
    fact += "do not start symmetrically in time, so in the last two families f-R2D need not be at chance."
    cells.attrs["caption"] = html.escape(protocol_line(runs), quote=False)
    yield _section("Diagnostic", fact, cells.reset_index())
    yield "## How the profile `paper` differs from the paper\n" + "".join(f"\n- {line}" for line in PAPER_DEVIATIONS)


def _link_reports(notebook: str) -> str:
    """Links to the executed copies of a notebook that reads records of `r21d insight`, by what the networks learned."""
    links = [f"[{data}](../reports/{notebook}-{suffix}.ipynb)" for _, data, suffix, _ in INSIGHT]
    return f"{', '.join(links[:-1])} and {links[-1]}"


def _find_others(experiment: str, root: Path, **options) -> list[Run]:
    """The runs of other papers' networks on RGB in Table 4, 5 or 6: of each the seeds whose runs are all finished."""
    specs = EXPERIMENTS[experiment]("small", variants=(*NEIGHBORS, BEST), **options)
    runs = find_runs([spec for spec in specs if spec.variant in NEIGHBORS], root / "results" / "small.zip")
    unfinished = {(run.spec.variant, run.spec.seed) for run in runs if not run.is_complete}
    return [run for run in runs if (run.spec.variant, run.spec.seed) not in unfinished]


def _describe_others(runs: Sequence[Run]) -> str:
    """How the other papers' networks among `runs` were trained, and their training errors: a sentence after a space."""
    found: dict[str, list[float]] = {}
    for run in on_target(runs):
        if run.spec.variant in NEIGHBORS and not run.spec.init_from:
            found.setdefault(run.spec.variant, []).append(100 * run.history[-1]["train_error"])
    chance = 100 - 100 / len(runs[-1].scores.classes)
    errors = {name: sum(values) / len(values) for name, values in found.items()}
    texts = [f"{name} {error:.1f} %{' (did not learn)' * (error > 0.9 * chance)}" for name, error in errors.items()]
    how = "Networks of other papers are trained alike, by a recipe that was not tuned for them"
    for name in found:
        if name in LR_DIVISORS:
            how += f"; {name}, which diverges at its learning rates, at 1/{LR_DIVISORS[name]} of them"
    return f" {how}; their training errors from scratch: {', '.join(texts)}." if texts else ""


def _describe_other_seven(runs: Sequence[Run], speech: Sequence[Run]) -> str:
    """The contrasts of OTHER_SEVEN, which have one seed; the same by all seeds of all networks, and on speech; and the
    paper's two claims on groups of networks with 16 frames: sentences.
    """
    specs = family_specs(OTHER_SEVEN)
    contrasts = confirmatory_table(runs, families=[OTHER_SEVEN]).dropna(subset=GAP)
    contrasts["verdict"] = [verdict.partition(": ")[2].partition(" (")[0] for verdict in contrasts["verdict"]]
    seven = [*contrasts["network"]]
    twelve = [run for run in complete_members(runs, FAMILIES) if run.spec.frames == specs[0].frames]
    all_seeds = fold_table(twelve).set_index("network")
    one_seed = fold_table([run for run in twelve if run.spec in specs]).set_index("network")
    lead = one_seed["video@1"][BEST] - all_seeds["video@1"][BEST]
    gaps = [f"{name} {outcome.describe_gap(row)}" for name, row in all_seeds.loc[seven].to_dict("index").items()]
    clear = ", ".join(name for name in seven if all_seeds[P][name] < 0.05)
    spoken = fold_table(speech).set_index("network").loc[seven]
    heard = [f"{name} {outcome.describe_gap(row)}" for name, row in spoken[spoken[P] < 0.05].to_dict("index").items()]
    text = (
        f"Exploratory, with {outcome.name_seeds({spec.seed for spec in specs})} alone, by the recipe and on the videos "
        f"of the confirmatory study. Points of video@1 minus {BEST}'s: {outcome.describe_contrasts(contrasts)}."
        f" This seed of {BEST} is {abs(lead):.1f} points {'above' if lead > 0 else 'below'} the mean of its "
        f"{all_seeds['seeds'][BEST]:.0f}. By all seeds of all networks, with the seed's variance of those that have "
        f"several, an analysis that was added after these results: {', '.join(gaps)}; p < 0.05 after Holm's correction "
        f"for {len(all_seeds) - 1} tests: {clear or 'none'}. On [speech](#speech-miracl-vc1-8-frames) these differ "
        f"significantly from {BEST}: {'; '.join(heard) or 'none'}."
    )
    for claim_id, what in (
        ("r21d-over-mixed-16", "R(2+1)D minus the mean of R3D and the mixed networks"),
        ("3d-over-2d-16", "That mean minus the 2-D networks'"),
    ):
        verdict = _evaluate(claim_id, runs)
        interval = format_interval(verdict.low, verdict.high, "+.1f")
        size = verdict.why.rpartition("; ")[2]  # the paper's, and whether it is inside the interval
        text += f" {what}, clip@1 by all seeds: {verdict.effect:+.1f} ({interval}); {size}."
    return f"{text} The ledger calls these two inconclusive, as seven of the networks have one seed."


def _speech(runs: Sequence[Run]) -> str:
    """The section of MIRACL-VC1, in which every class has every speaker."""
    table = fold_table(runs)
    best, by_name = table.to_dict("records")[0], table.set_index("network").to_dict("index")
    gap, still = by_name["R3D"], by_name["f-R2D"]
    fact = (
        "Words and phrases spoken by 15 people, in gray videos of their lips; every speaker says every class. f-R2D, "
        f"which ignores the order of frames, is {-still['minus R(2+1)D']:.1f} points below R(2+1)D "
        f"({format_interval(-still['gap high'], -still['gap low'])}). {best['network']} has the highest accuracy, "
        f"{best['minus R(2+1)D']:.1f} points above R(2+1)D ({format_interval(best['gap low'], best['gap high'])}); R3D "
        f"minus R(2+1)D is {outcome.describe_gap(gap)}. Chance is 5 %. "
        f"{outcome.describe_fit(table.set_index('network')['training error'])}{outcome.describe_unseen(runs)} "
        "Accuracy against cost: [report](../reports/variant_comparison-small-speech.ipynb)."
    )
    return _section("Speech, MIRACL-VC1, 8 frames", fact, _texts(show_fold_table(runs)))


def _compare(title: str, fact: str, runs: Sequence[Run]) -> str:
    """The section of Table 2 for `runs`: accuracies, differences to R(2+1)D, and which are significant."""
    table, differences = _texts(show_variant_table(runs)), _texts(comparison_table(runs))
    p = differences.filter(regex="^p").iloc[:, 0].str.extract(r"([\d.]+)$")[0].astype(float)  # also of "< 0.001"
    clear = differences[p < 0.05]
    names = ", ".join(f"{name} ({interval})" for name, interval in zip(clear["network"], clear[INTERVAL], strict=True))
    errors = table.set_index("network")["training error"].astype(float)
    ends = [f"{errors.min():.1f} % ({errors.idxmin()})", f"{errors.max():.1f} % ({errors.idxmax()})"]
    fact += f" Training errors of the last epoch: {' to '.join(ends)}."
    fact += f" Differences to R(2+1)D with p < 0.05 after Holm's correction: {names or 'none'}."
    return _section(title, fact, table, differences.drop(columns=["video@1 (%)", "videos", "seeds"]))


def _evaluate(claim_id: str, runs: Sequence[Run]) -> Verdict:
    """The ledger's Verdict on one claim, by `runs`."""
    return evaluate_claim(next(claim for claim in CLAIMS if claim.id == claim_id), group_by_seed(runs))


def _section(title: str, fact: str, *tables: pd.DataFrame) -> str:
    """A section of the page; each table stands above its caption."""
    texts = [f"## {title}", fact]
    for table in tables:
        rows = map(str, table), ["---"] * table.shape[1], *table.to_numpy()
        texts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        texts += [f"*{table.attrs['caption']}*"] if table.attrs["caption"] else []
    return "\n\n".join(texts)


def _texts(table: Styler | Markdown) -> pd.DataFrame:
    """The texts that `table` displays, without OMITTED columns."""
    assert isinstance(table, Styler), "Markdown stands for missing runs, which are an error before"
    text = _readable(table.to_string(delimiter="|", sparse_columns=False))
    lines = [line.split("|") for line in text.strip("\n").splitlines()]
    levels, name = table.columns.nlevels, table.index.name  # pyright: ignore[reportAttributeAccessIssue]
    heads = [": ".join(filter(None, head)) for head in zip(*lines[:levels], strict=True)]
    heads = [re.sub("^(here|recipe): ", "", head) for head in heads]
    heads[0] = str(name or heads[0])  # the name of the index has a line of its own
    frame = pd.DataFrame(lines[levels + bool(name) :], columns=heads)
    named = [heads[0], *filter(None, heads[1:])]  # a hidden last column leaves a cell without a heading
    frame = frame[[head for head in named if head.rpartition(": ")[2] not in OMITTED]]
    frame.attrs["caption"] = _readable(table.caption or "")  # pyright: ignore[reportAttributeAccessIssue]
    return frame


def _readable(text: str) -> str:
    """The text of HTML with its quotation marks, which only an attribute needs escaped."""
    return re.sub("&(#x27|#39|quot|#34);", lambda match: html.unescape(match[0]), text)
