"""Verdicts on runs made to support each claim, to refute it, and to leave it inconclusive."""

import re
import shlex
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from r21d_analysis.artifacts.confirmatory import (
    FAMILIES,
    PLANNED,
    SPEECH,
    WHY,
    confirmatory_table,
    counted_runs,
    counted_seeds,
    families_of,
    family_networks,
    family_specs,
)
from r21d_analysis.artifacts.confirmatory_figures import length_gains
from r21d_analysis.artifacts.folds import GAP, fold_table
from r21d_analysis.artifacts.networks import (
    FLOW,
    FUSED,
    RGB,
    collect_networks,
    difference,
    fusion_variance,
    pretrained_pairs,
    stream_differences,
)
from r21d_analysis.claims.claims import ARITHMETIC, CLAIMS, NOT_YET, RUNS
from r21d_analysis.claims.evaluate import evaluate_claim
from r21d_analysis.claims.select import Arm, rank_settings, setting_rank
from r21d_analysis.claims.table import count_answers, draw_ledger, ledger, show_ledger
from r21d_analysis.claims.verdict import (
    ABOUT,
    CLOSE,
    DIRECTION,
    INCONCLUSIVE,
    NOTHING,
    REFUTED,
    SUPPORTED,
    UNTESTED,
    decide,
    decide_size,
)
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.clips import clips_correct
from r21d_analysis.statistics.inference import (
    correct_by_seed,
    estimate_difference,
    estimate_mean,
    fold_variance,
    seed_variance,
)
from r21d_analysis.style import write_minus
from r21d_core.cli import build_parser
from r21d_core.runs.run import find_run, find_runs, load_runs
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import EXPERIMENTS, TABLE_2, kinetics, sports1m, transfer, why_2plus1d
from r21d_core.study.recipes import get_recipe
from r21d_core.study.variants import ABLATIONS
from tests.listings import DATA
from tests.runs import NASTY, finish

RESULTS = Path(__file__).parents[3] / "results"
VIDEOS, CLASSES, SPREAD = 100, 5, np.linspace(0, 100, 20).round().astype(int)
BY_ID = {claim.id: claim for claim in CLAIMS}
OF_RUNS = [claim.id for claim in CLAIMS if claim.kind == RUNS]
BASE = get_recipe("small").replace(data="set")

# A world says of a spec which share of videos is right, and of their clips all or two in three; in the paper's world
# everything is as the paper has it, in the other nothing is. Shares are by kind of network with 8 and with 16 frames.
PAPERS = {"R2D": (20, 10), "f-R2D": (20, 20), "R3D": (36, 40), "rMC": (30, 40), "MC": (40, 48), "R(2+1)D": (50, 78)}
OTHERS = {"R2D": (60, 95), "f-R2D": (80, 80), "R3D": (60, 60), "rMC": (65, 65), "MC": (50, 50), "R(2+1)D": (40, 20)}
PAPERS, OTHERS = PAPERS | dict.fromkeys(ABLATIONS, (43, 55)), OTHERS | dict.fromkeys(ABLATIONS, (50, 40))
LENGTHS = {
    "paper": {24: (85, 0), 32: (95, 0), 40: (88, 0.5), 48: (82, 1), "tested": (30, 0), "finetuned": (95, 0)},
    "other": {24: (12, 0), 32: (2, 0), 40: (1, 0), 48: (0, 0), "tested": (70, 0), "finetuned": (20, 0)},
}
# The same of runs that Tables 4 to 6 take, by what they start from: from which video to which they are right, and how
# sure of what is right and of what is wrong, on which hangs what both streams make of a video that one alone has right.
TABLES_4_TO_6 = {
    "paper": {"rgb": (0, 50), "flow": (64, 90), "set2": (0, 95), "kinetics-400": (0, 80), "sports1m": (0, 60)},
    "other": {"rgb": (0, 40), "flow": (20, 80), "set2": (0, 20), "kinetics-400": (0, 20), "sports1m": (0, 30)},
}
SURE = {"paper": (12, 0.5), "other": (0.5, 12)}
TRAIN_ERROR = {"paper": {"R3D": (30, 40), "R(2+1)D": (20, 15)}, "other": {"R3D": (20, 20), "R(2+1)D": (30, 60)}}
for errors in TRAIN_ERROR.values():
    errors |= dict.fromkeys(ABLATIONS, (25, 25))


STREAMS_SETTING = {"task": "action", "frames": 16, "frame_stride": 2, "epochs": 30, "init_from": ""}


def kind(variant):
    return variant if variant in PAPERS else variant.rstrip("2345")


def correct_clips(world, spec, clips, random):
    """Which clips are right, (VIDEOS, clips)."""
    if world == "open":
        return random.random((VIDEOS, clips)) < 0.5
    how = spec.frames if not spec.init_from else "finetuned" if spec.epochs else "tested"
    if spec.eval_clips > 100:
        right = np.ones((VIDEOS, clips), bool)
        right[:40, SPREAD] = world == "paper"
        return right
    share, all_clips = LENGTHS[world].get(how, (0, 0))
    if spec.frames in (8, 16):
        share, all_clips = (PAPERS if world == "paper" else OTHERS)[kind(spec.variant)][spec.frames == 16], 0
    right = np.tile(np.arange(VIDEOS)[:, None] < share, clips)
    right[round(share * all_clips) :, 0] = False
    return right


def start_of(spec):
    """What a run of Tables 4 to 6 starts from, as TABLES_4_TO_6 names it; "" for a run of another table."""
    before = spec.parent_spec
    if before and before.data != spec.data:
        return before.data if before.data in TABLES_4_TO_6["paper"] else "set2"
    return spec.modality if spec.modality == "flow" or spec.data.startswith(("set-split", "ucf101", "kinetics")) else ""


def make(world, specs, folder):
    """Finished runs of `specs` in `folder`, as `world` has them."""
    for number, spec in enumerate(specs):
        random = np.random.default_rng(number)
        run, clips = find_run(folder, spec), 101 if spec.eval_clips > 100 else 3
        labels = np.arange(VIDEOS) % CLASSES
        right, sure = correct_clips(world, spec, clips, random), (9, 9)
        if world == "open":
            sure = random.uniform(8, 10, (2, VIDEOS, clips))  # or ties of two streams would go to the earlier class
        elif name := start_of(spec):
            number, (low, high) = np.arange(VIDEOS)[:, None], TABLES_4_TO_6[world][name]
            right, sure = np.tile((low <= number) & (number < high), clips), SURE[world]
        taken = np.where(right, labels[:, None], (labels[:, None] + 1) % CLASSES)
        logits = np.where(right, *sure)[:, :, None] * np.eye(CLASSES)[taken]
        videos = np.array([f"v{n:03}" for n in range(VIDEOS)])
        scores = Scores(logits, labels, videos, videos, tuple("abcde"), {"data": spec.data, "modality": spec.modality})
        error = TRAIN_ERROR.get(world, {}).get(spec.variant, (30, 30))[spec.depth == 34]
        jitter = 20.0 * random.random() if world == "open" else 0.1 * spec.seed
        history = [{"epoch": 1, "train_error": 0.95}, {"epoch": 2, "train_error": (error + jitter) / 100}]
        finish(run, scores, history, device="TestGPU", train_clips_per_second=100.0)
    return find_runs(specs, folder)


def everything():
    """A run for every claim, two seeds each."""
    r21d = BASE.replace(variant="R(2+1)D")
    specs = [BASE.replace(variant=variant, frames=frames) for variant in TABLE_2 for frames in (8, 16)]
    specs += [r21d.replace(frames=frames) for frames in (24, 32, 40, 48)]
    specs += [BASE.replace(variant=variant, depth=34) for variant in ("R3D", "R(2+1)D")]
    longer = {"epochs": 0}, {"epochs": 8, "lr": 0.002}
    specs += [r21d.replace(frames=8).finetune_spec(frames=32, **changes) for changes in longer]
    specs += [r21d.finetune_spec(eval_clips=101, epochs=0), *sports1m("paper", "sports1m")]
    for split in "12":
        specs += kinetics("small", f"set-split{split}", source=f"set2-split{split}")
    for source in ("kinetics-400", "sports1m"):
        specs += transfer("paper", "ucf101-split1", source=source)
    specs += [BASE.replace(variant=variant, frames=8) for variant in ABLATIONS]
    return list(dict.fromkeys(spec.replace(seed=seed) for spec in specs for seed in (0, 1)))


def two_networks(base=BASE, seeds=(0, 1), **changes):
    return [base.replace(variant=v, seed=seed, **changes) for v in ("R3D", "R(2+1)D") for seed in seeds]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    runs_by_world = {world: make(world, everything(), folder / world) for world in ("paper", "other", "open")}
    return {world: group_by_seed(runs) for world, runs in runs_by_world.items()}


@pytest.mark.parametrize("name", [name for name in OF_RUNS if name != "ranking"])
@pytest.mark.parametrize(("world", "answer"), [("paper", SUPPORTED), ("other", REFUTED), ("open", INCONCLUSIVE)])
def test_claim_follows_its_records(worlds, name, world, answer):
    verdict = evaluate_claim(BY_ID[name], worlds[world])
    size = BY_ID[name].size  # effects of the paper's world are larger than the paper's
    expected = decide_size(answer, verdict.low, verdict.high, size)
    alike = "if effect is 0, the test's world gives both arms the same accuracy: give them one in PAPERS and OTHERS"
    assert verdict.answer == expected and (expected == answer or size), f"{verdict}; {alike}"
    assert verdict.low <= verdict.effect <= verdict.high and verdict.n and "missing" not in verdict.why
    names = f"{verdict.protocol['profile']}, {verdict.protocol['data']}"
    assert re.match("profile (small, set|paper, (sports1m|ucf101|kinetics-400))", names)


def test_networks_of_other_papers_change_no_verdict(worlds, tmp_path):
    """C3D has every run of Tables 4 to 6, on both streams, and answers no claim of Section 4.4 by itself."""
    settings = {"variants": ("C3D",), "seeds": (0, 1)}
    specs = sports1m("paper", "sports1m", **settings)
    for source in ("kinetics-400", "sports1m"):
        specs += transfer("paper", "ucf101-split1", source=source, **settings)
    for split in "12":
        specs += kinetics("small", f"set-split{split}", source=f"set2-split{split}", **settings)
    others = make("open", list(dict.fromkeys(specs)), tmp_path)
    runs = [run for group in worlds["paper"] for run in group.runs]
    alone, together = group_by_seed(others), group_by_seed([*runs, *others])
    for claim in (claim for claim in CLAIMS if claim.id in OF_RUNS and claim.section == "4.4"):
        own = repr(evaluate_claim(claim, worlds["paper"]))
        assert repr(evaluate_claim(claim, together)) == own and "missing" in evaluate_claim(claim, alone).why, claim.id


def test_ranking_follows_its_records(worlds, tmp_path):
    assert evaluate_claim(BY_ID["ranking"], worlds["paper"]).answer == SUPPORTED
    verdict = evaluate_claim(BY_ID["ranking"], worlds["open"])  # a random order
    assert verdict.answer == INCONCLUSIVE and verdict.effect < 0.8
    networks = [first for first in worlds["paper"] if first.spec.variant != "MC4" or first.spec.frames != 16]
    verdict = evaluate_claim(BY_ID["ranking"], networks)
    assert verdict.answer == INCONCLUSIVE and "missing: MC4 (16 frames)" in verdict.why


@pytest.mark.parametrize("name", OF_RUNS)
def test_missing_runs_can_be_made_by_the_commands(name, tmp_path):
    verdict = evaluate_claim(BY_ID[name], [])
    assert verdict.answer == UNTESTED and np.isnan(verdict.effect)
    specs = []
    for command in re.findall(r"r21d (train .*?)(?:; |$)", verdict.why):
        options = build_parser().parse_args(shlex.split(command))
        settings = dict(setting.split("=") for setting in options.set)
        settings |= {"task": options.task} if options.task else {}
        settings |= {"variants": options.variants, "seeds": options.seeds}
        specs += EXPERIMENTS[options.experiment](options.profile, options.manifest.stem, **settings)
    runs = make("paper", list(dict.fromkeys(specs)), tmp_path)
    assert evaluate_claim(BY_ID[name], group_by_seed(runs)).answer in (SUPPORTED, DIRECTION)


@pytest.mark.parametrize("change", [{"data": "set-val"}, {"modality": "flow"}])
def test_runs_on_a_validation_cut_or_flow_do_not_count(change, tmp_path):
    runs = make("paper", two_networks(frames=8, **change), tmp_path)
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(runs))
    assert verdict.answer == UNTESTED and "missing: R(2+1)D, R3D" in verdict.why


def test_claims_that_no_run_can_answer_say_why():
    rows = [claim for claim in CLAIMS if claim.kind == NOT_YET]
    verdicts = [evaluate_claim(claim, []) for claim in rows]
    assert rows and all(verdict.answer == UNTESTED and "cannot be made" in verdict.why for verdict in verdicts)


def test_ids_are_unique_and_in_the_papers_order():
    assert len(BY_ID) == len(CLAIMS) >= 30
    sections = [claim.section for claim in CLAIMS]
    assert sections == sorted(sections)


@pytest.mark.parametrize(
    "change", [{"data": "another"}, {"profile": "demo"}, {"weight_decay": 0.5}, {"frame_stride": 4}]
)
def test_runs_with_other_settings_are_not_compared(change, tmp_path):
    runs = make("paper", two_networks()[:2] + two_networks(**change)[2:], tmp_path)
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-16"], group_by_seed(runs))
    assert verdict.answer == INCONCLUSIVE and "missing" in verdict.why and np.isnan(verdict.effect)


def test_real_setting_precedes_demonstration(tmp_path):
    demo = make("other", two_networks(get_recipe("demo").replace(data="set")), tmp_path / "demo")
    table = ledger(demo)
    assert table.loc["r21d-over-r3d-8", "demonstration"] and table.loc["r21d-over-r3d-8", "answer"] == REFUTED
    assert "refuted (demonstration)" in show_ledger(demo).data
    small = make("paper", two_networks(frames=8, frame_stride=4), tmp_path / "small")
    row = ledger(demo + small).loc["r21d-over-r3d-8"]
    assert (row["answer"], row["demonstration"], row["other_settings"]) == (DIRECTION, False, "")


def chosen(settings, arms=BY_ID["r21d-over-r3d-8"].contrasts[0]):
    """The setting chosen among those of runs of two networks; the order of the runs does not matter."""
    groups = group_by_seed(settings)
    first, again = (rank_settings(order, [*arms[0], *arms[1]])[0].setting for order in (groups, groups[::-1]))
    assert first == again
    return first


@pytest.mark.parametrize(
    ("near", "far", "seeds"),
    [
        ({"frame_stride": 1}, {"frame_stride": 2}, 2),
        ({"frame_stride": 1, "width": 32, "data": "builtin"}, {"frame_stride": 2}, 2),  # consecutive frames come first
        ({"data": "builtin"}, {"width": 32}, 2),
        ({}, {"data": "builtin"}, 2),
        ({"data": "kinetics-400"}, {"epochs": 45}, 2),
        ({"epochs": 45}, {"epochs": 30}, 2),  # the paper's
        ({"data": "a"}, {"data": "b"}, 2),  # a tie, to the first name
        ({"data": "b"}, {"data": "a"}, 3),  # a tie, to more seeds
    ],
)
def test_setting_nearest_the_paper_is_chosen(near, far, seeds, tmp_path):
    near, far = ({"frames": 8, "frame_stride": 1} | changes for changes in (near, far))
    runs = make("other", two_networks(**far) + two_networks(seeds=(2, 3), **far)[:2], tmp_path / "far")
    setting = chosen(runs + make("paper", two_networks(seeds=range(seeds), **near), tmp_path / "near"))
    assert all(getattr(setting, key) == value for key, value in near.items())


def test_demonstration_that_cannot_hold_a_network_is_left_out(tmp_path):
    """Its videos are too short for 32 frames, so the claim waits for runs on real videos."""
    specs = two_networks(get_recipe("demo").replace(data="set"), frames=8)
    groups, arms = group_by_seed(make("other", specs, tmp_path)), {n: Arm(("R(2+1)D",), n) for n in (8, 16, 32)}
    assert rank_settings(groups, [arms[8], arms[16]])[0].setting.profile == "demo"
    assert rank_settings(groups, [arms[8], arms[32]])[0].setting.profile == "small"


@pytest.mark.parametrize("most", [8, 16])
def test_the_matching_network_with_the_most_runs_counts(most, tmp_path):
    specs = [BASE.replace(variant="R3D", frames=n, seed=s) for n in (8, 16) for s in range(3 if n == most else 2)]
    groups = group_by_seed(make("other", [BASE.replace(variant="R(2+1)D", frames=8), *specs], tmp_path))
    arms = Arm(("R(2+1)D",), 8), Arm(("R3D",))
    (selection,) = rank_settings(groups, arms)
    assert selection.splits[0][arms[1], "R3D"].spec.frames == most


def test_whole_confirmatory_runs_come_first(tmp_path):
    near = make("paper", two_networks(frames=16, frame_stride=1, data="kinetics-400"), tmp_path / "near")
    runs = make("other", family_specs(FAMILIES[0]), tmp_path / "confirmatory")
    row, unfinished = (ledger(near + some).loc["r21d-over-r3d-16"] for some in (runs, runs[1:]))
    assert row["protocol"]["data"] == "ucf101-14, splits 1, 2, 3"
    assert [verdict["protocol"]["data"] for verdict in row["evidence"]] == [row["protocol"]["data"], "kinetics-400"]
    assert [verdict["status"] for verdict in row["evidence"]] == ["confirmatory", "exploratory"]
    assert (unfinished["protocol"]["data"], len(unfinished["evidence"])) == ("kinetics-400", 1)


@pytest.mark.parametrize("near", ["ucf101-14-split1", "hmdb51-split1"])
def test_data_of_the_paper_come_before_others_with_more_seeds(near, tmp_path):
    """All else alike, and most seeds where the order has it last."""
    order = ["kinetics-400", near, "miracl-vc1-split1", "builtin"]
    setting = BASE.replace(frame_stride=1, frames=8)
    ranks = []
    for count, data in enumerate(order, start=2):
        specs = [setting.replace(data=data, seed=seed) for seed in range(count)]
        ranks.append(setting_rank(specs[0], group_by_seed(make("paper", specs, tmp_path / data))))
    assert sorted(ranks) == ranks


def test_setting_with_a_network_out_of_plan_is_not_confirmatory(tmp_path):
    planned = family_specs(FAMILIES[0])[0]
    groups = group_by_seed(make("other", [planned, planned.replace(variant="MC2")], tmp_path))
    ranks = [setting_rank(planned, some) for some in (groups[:1], groups)]
    assert groups[0].spec == planned and [rank[0] for rank in ranks] == [False, True]


def test_other_settings_are_shown_beside_the_chosen(tmp_path):
    runs = make("paper", two_networks(frames=8, frame_stride=1), tmp_path / "near")
    runs += make("other", two_networks(frames=8), tmp_path / "far")
    runs += make("other", [BASE.replace(variant="R3D", frames=8, epochs=30)], tmp_path / "incomplete")
    row = ledger(runs).loc["r21d-over-r3d-8"]
    assert row["answer"] == DIRECTION and row["protocol"]["frame_stride"] == "stride 1"
    assert re.fullmatch(r"stride 2: refuted, -20\.0 \(-2.*\)", row["other_settings"])


def test_other_settings_of_a_further_data_set_name_it(tmp_path):
    runs = make("paper", two_networks(frames=8, frame_stride=1), tmp_path / "first")
    for stride in (1, 2):
        runs += make("other", two_networks(frames=8, frame_stride=stride, data="third-split1"), tmp_path / f"{stride}")
    row = ledger(runs).loc["r21d-over-r3d-8"]
    assert [verdict["protocol"]["data"] for verdict in row["evidence"]] == ["set", "third-split1"]
    assert row["other_settings"].startswith("third-split1, stride 2: refuted, ")


def test_one_split_is_of_the_data_set_of_several(tmp_path):
    runs = on_splits(["R3D", "R(2+1)D"], "12", tmp_path / "both")
    runs += make("open", two_networks(frames=8, data="set-split1", epochs=45), tmp_path / "nearer")
    row = ledger(runs).loc["r21d-over-r3d-8"]
    assert [verdict["protocol"]["data"] for verdict in row["evidence"]] == ["set-split1"]
    assert row["other_settings"].startswith("set, splits 1, 2, ")


def test_one_recording_is_in_the_singular(tmp_path):
    runs = make("paper", two_networks(frames=8), tmp_path)
    for run in runs:
        finish(run, replace(run.scores, groups=np.full(VIDEOS, "one")))
    (evidence,) = ledger(runs).loc["r21d-over-r3d-8", "evidence"]
    assert (evidence["n"], evidence["of"]) == (1, "recording")


def test_equal_training_errors_have_no_verdict(tmp_path):
    runs = make("paper", two_networks(depth=18), tmp_path)
    for run in runs:
        finish(run, history=[{"epoch": 1, "train_error": 0.1 if run.spec.variant == "R3D" else 0.2}])
    verdict = evaluate_claim(BY_ID["train-error-18"], group_by_seed(runs))
    assert verdict.answer == INCONCLUSIVE and np.isnan(verdict.low) and "all runs have the same result" in verdict.why


def test_runs_of_another_task_leave_the_claims_on_streams(worlds, tmp_path):
    speed = make("paper", [BASE.replace(variant="R3D", task="speed")], tmp_path)
    for name in ("rgb-over-flow", "pretraining-helps"):
        verdict = evaluate_claim(BY_ID[name], worlds["paper"] + group_by_seed(speed))
        assert verdict == evaluate_claim(BY_ID[name], worlds["paper"])


@pytest.mark.parametrize("change", [{"data": "set2"}, {"task": "speed"}, {"frames": 32, "epochs": 0}])
def test_networks_finetuned_to_others_leave_the_variance(change, tmp_path):
    """And the same weights on longer clips, whose seeds are in it already."""
    runs = make("open", two_networks(frames=8), tmp_path / "runs")
    others = make("open", [run.spec.finetune_spec(**{"epochs": 8} | change) for run in runs], tmp_path / "others")
    alone, beside = (evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(some)) for some in (runs, runs + others))
    assert alone == beside and np.isfinite(alone.low)


@pytest.mark.parametrize("name", ["r21d-over-r3d-8", "rgb-over-flow"])
def test_networks_of_other_papers_say_nothing_of_the_seeds(name, tmp_path):
    r21d = BASE.replace(variant="R(2+1)D", frames=8)
    specs = [*two_networks(frames=8), *(r21d.replace(modality="flow", seed=seed) for seed in (0, 1))]
    runs = make("open", [*specs, *(r21d.replace(variant="s3d", seed=seed) for seed in range(5))], tmp_path)
    alone, beside = (evaluate_claim(BY_ID[name], group_by_seed(some)) for some in (runs[: len(specs)], runs))
    assert alone == beside and np.isfinite(alone.low)


def versus_r3d(variant):
    """A claim about a network without depth and width, as one's own notebook may have it."""
    contrast = (Arm((variant,)),), (Arm(("R3D",)),)
    return replace(BY_ID["r21d-over-r3d-8"], contrasts=(contrast,), metric="video@1", size=None)


@pytest.mark.parametrize("base", [get_recipe("demo").replace(data="set"), BASE.replace(width=32), BASE])
@pytest.mark.parametrize("variant", ["s3d", "my_nets:build"])
def test_networks_without_width_stand_beside_those_of_any(variant, base, tmp_path, monkeypatch):
    """Compared by their own seeds, as in other tables; without R3D its command is that of the recipe."""
    monkeypatch.setitem(PAPERS, variant, (50, 50))
    claim, specs = versus_r3d(variant), [base.replace(variant=v, seed=s) for v in ("R3D", variant) for s in (0, 1)]
    others = [base.replace(variant="MC2", seed=seed) for seed in range(4)]  # their seeds say nothing about `variant`
    runs = make("open", [*specs, *others], tmp_path)
    verdict = evaluate_claim(claim, group_by_seed(runs))
    r3d, other = (group for group in group_by_seed(runs) if group.spec.variant in ("R3D", variant))
    expected = estimate_difference([other.outcomes], [r3d.outcomes])
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert "missing" not in verdict.why and verdict.protocol["width"] == f"width {base.width}"
    for kept, missing in ((runs[:2], variant), (runs[2:4], "R3D")):
        why = evaluate_claim(claim, group_by_seed(kept)).why
        assert why.endswith(f'--manifest data/set.csv --variants "{missing}" --seeds 0,1,2'), why


def test_networks_from_files_are_not_from_scratch(tmp_path):
    runs = make("paper", two_networks(frames=8, init_from="mine.pt"), tmp_path)
    assert "missing: R(2+1)D, R3D" in evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(runs)).why


def test_sizes_are_of_the_compared_means():
    """Of clip@1 in Table 2 by hand, as the contrasts are; the sentences have the range over single networks."""
    mixed, flat = np.mean([49.4, 50.2, 50.7, 50.5, 50.3, 49.8, 49.8, 49.9, 49.4]), np.mean([46.7, 48.1])
    sizes = {"3d-over-2d-8": mixed - flat, "r21d-over-mixed-8": 52.8 - mixed, "r21d-over-2d-8": 52.8 - flat}
    assert {name: BY_ID[name].size for name in sizes} == pytest.approx(sizes)
    assert {BY_ID[name].metric for name in sizes} == {"clip@1"}
    for claim in CLAIMS:
        if claim.size:
            stated = [float(number) for number in re.search(r"([\d.–]+) points", claim.sentence)[1].split("–")]
            assert min(stated) <= claim.size <= max(stated), claim.id
    for name, bound in (("ranking", 0), ("twenty-clips", 1)):
        assert BY_ID[name].comparison.endswith(f" {BY_ID[name].region[bound]:g}")


def test_papers_difference_is_inside_or_outside_the_interval(worlds):
    """Its tables' own, in the claim's metric; those of 34 layers are on other data."""
    gaps = {"r21d-over-r3d-8": "+3.0", "r21d-gap-grows": "+0.8", "test-longer-video": "+5.8", "finetune-gains": "+7.0"}
    places = set()
    for name, world in product(gaps, ("paper", "open")):
        verdict = evaluate_claim(BY_ID[name], worlds[world])
        places.add(place := "inside" if verdict.low <= float(gaps[name]) <= verdict.high else "outside")
        assert f"the paper's tables give {gaps[name]} for it, {place} the interval" in verdict.why
    assert places == {"inside", "outside"}
    assert "the paper's tables" not in evaluate_claim(BY_ID["sports-r21d-over-r3d"], worlds["paper"]).why


def test_match_is_met_by_better_networks_too():
    """Table 2's mixed networks are more than a point above R3D, which "similar" would not allow."""
    claim, gap = BY_ID["mc-like-r3d"], np.mean([50.2, 50.7, 50.5, 50.3]) - 49.4
    assert (decide(gap, gap, claim.region), decide(gap, gap, ABOUT)) == (SUPPORTED, REFUTED)
    assert claim.comparison.endswith("above -1, which a better network meets too")
    notebook = (RESULTS.parent / "notebooks" / "claims.ipynb").read_text()
    assert f"{gap:.1f} points above R3D on average, so a better network matches too" in notebook


def test_one_seed_is_inconclusive(tmp_path):
    runs = make("paper", two_networks(frames=8, seeds=[0]), tmp_path)
    row = ledger(runs).loc["r21d-over-r3d-8"]
    assert row["answer"] == INCONCLUSIVE and "one seed" in row["why"] and row["low"] > 0 and row["paper_size"] == ""
    assert "inconclusive: one seed" in show_ledger(runs).data


def test_interval_is_of_recordings_and_pooled_seeds(tmp_path):
    groups = group_by_seed(make("open", two_networks(frames=8, seeds=range(3)), tmp_path))
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-8"], groups)
    a, b = (correct_by_seed(group.scores) for group in groups)
    estimate = estimate_difference([b], [a], seed_variance([a, b]))
    assert (verdict.effect, verdict.low, verdict.high) == (estimate.value, estimate.low, estimate.high)
    assert verdict.n == VIDEOS


def test_same_weights_are_compared_run_by_run(tmp_path):
    runs = [BASE.replace(variant="R(2+1)D", frames=8, seed=seed) for seed in (0, 1)]
    tested = [run.finetune_spec(frames=32, epochs=0) for run in runs]
    groups = group_by_seed(make("open", runs + tested, tmp_path))
    verdict = evaluate_claim(BY_ID["test-longer-video"], groups)
    a, b = (correct_by_seed(group.scores) for group in groups)
    assert (verdict.low, verdict.high) == pytest.approx([(e := estimate_mean([a - b])).low, e.high])


def on_splits(variants, splits, folder, seeds=(0, 1), world="open"):
    """Runs with 8 frames of each variant on each split of a set."""
    specs = [BASE.replace(variant=variant, frames=8, data=f"set-split{split}", seed=seed)
             for variant in variants for split in splits for seed in seeds]  # fmt: skip
    return make(world, specs, folder)


def by_network(runs):
    """The groups by variant and split."""
    return {(group.spec.variant, group.spec.data[-1]): group for group in group_by_seed(runs)}


def test_splits_that_all_networks_have_are_pooled(tmp_path):
    runs = on_splits(["R3D", "R(2+1)D"], "12", tmp_path / "both")
    lacking = on_splits(["MC3", "R2D"], "1", tmp_path / "lacking", seeds=range(4)) + on_splits(["R3D"], "3", tmp_path)
    for run in runs:  # so that recordings hold several videos, and the splits share some of them only
        names = np.array([f"{'both' if v < 30 else run.spec.data} {v // 4}" for v in range(VIDEOS)])
        finish(run, replace(run.scores, groups=names))
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(lacking + runs))
    right = {key: correct_by_seed(group.scores) for key, group in by_network(runs).items()}
    gaps = [right["R(2+1)D", split].values.mean() - right["R3D", split].values.mean() for split in "12"]
    assert verdict.effect == pytest.approx(np.mean(gaps)) and gaps[0] != gaps[1]
    sides = ([right[variant, split] for split in "12"] for variant in ("R(2+1)D", "R3D"))
    estimate = estimate_difference(*sides, seed_variance(right.values()))  # not of the networks that lack a split
    assert (verdict.low, verdict.high) == pytest.approx((estimate.low, estimate.high), rel=1e-12)
    assert verdict.n == len({name for outcomes in right.values() for name in outcomes.groups}) == 44
    assert verdict.protocol["data"] == "set, splits 1, 2" and verdict.protocol["seeds"] == "2 seeds"
    alone = evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed([r for r in runs if r.spec.data == "set-split1"]))
    assert alone.effect == pytest.approx(gaps[0]) and alone.protocol["data"] == "set-split1"


def test_families_and_training_errors_are_means_over_splits(tmp_path):
    groups = by_network(on_splits(["R3D", "R(2+1)D", "MC2", "MC3", "MC4", "MC5"], "12", tmp_path))
    verdict = evaluate_claim(BY_ID["mc-like-r3d"], [*groups.values()])
    means = {key: 100 * np.mean([clips_correct(scores) for scores in group.scores]) for key, group in groups.items()}
    families = [np.mean([means[f"MC{n}", split] for n in range(2, 6)]) - means["R3D", split] for split in "12"]
    assert verdict.effect == pytest.approx(np.mean(families))
    lacking = evaluate_claim(BY_ID["mc-like-r3d"], [groups[key] for key in groups if key[0] != "MC2"])
    others = np.mean([means[f"MC{n}", "1"] for n in (3, 4, 5)])
    assert lacking.effect == pytest.approx(others - means["R3D", "1"]) and lacking.answer == INCONCLUSIVE
    verdict = evaluate_claim(BY_ID["train-error-18"], [*groups.values()])
    errors = np.array([[[100 * run.history[-1]["train_error"] for run in groups[variant, split].runs] for split in "12"]
                       for variant in ("R3D", "R(2+1)D")])  # fmt: skip
    assert verdict.effect == pytest.approx(errors[0].mean() - errors[1].mean()) and verdict.n == errors.size == 8
    parts = errors.mean(axis=1).var(axis=1, ddof=1) / 2  # of a mean of two seeds, each the mean of its splits
    half = np.sqrt(parts.sum()) * stats.t.ppf(0.975, parts.sum() ** 2 / (parts**2).sum())
    assert (verdict.low, verdict.high) == pytest.approx((verdict.effect - half, verdict.effect + half))


def test_both_streams_have_the_variance_of_the_table(tmp_path):
    """That of the seeds, of both streams minus each, pooled over all networks alike, as in `stream_gain`."""
    specs = sports1m("small", "set", variants=("R3D",), seeds=(0, 1))
    runs = make("open", [*specs, *(spec.replace(variant="R(2+1)D") for spec in specs)], tmp_path)
    verdict = evaluate_claim(BY_ID["two-streams"], group_by_seed(runs))
    rows = {(network.spec.variant, network.stream): network for network in collect_networks(runs)[0]}
    pairs = [(rows[variant, FUSED], rows[variant, stream]) for variant in ("R3D", "R(2+1)D") for stream in (RGB, FLOW)]
    pooled = fusion_variance(*pairs[0], pairs)
    assert replace(pooled, df=4) == seed_variance(outcomes for pair in pairs for outcomes in stream_differences(*pair))
    estimates = [estimate_mean(stream_differences(*pair), pooled) for pair in pairs]
    assert 2 <= pooled.df < 4 and (verdict.low, verdict.high) in [
        (estimate.low, estimate.high) for estimate in estimates
    ]


def test_both_streams_with_one_seed_have_the_variance_of_folds(tmp_path):
    """Over the folds of the pretrained and of the other, whose settings differ."""
    runs = make("open", transfer("small", "set-split1", source="large-split1", seeds=(0,)), tmp_path)
    runs = [run for run in runs if run.spec.data.startswith("set")]
    verdict = evaluate_claim(BY_ID["two-streams"], group_by_seed(runs))
    rows = {(network.training, network.stream): network for network in collect_networks(runs)[0]}
    trainings, estimates = sorted({training for training, _ in rows}), []
    for stream in (RGB, FLOW):
        differences = [stream_differences(rows[name, FUSED], rows[name, stream]) for name in trainings]
        estimates += [estimate_mean(own, fold_variance(differences)) for own in differences]
    assert len(estimates) == 4 and all(estimate.tested for estimate in estimates)
    assert (verdict.low, verdict.high) in [(estimate.low, estimate.high) for estimate in estimates]


def test_same_weights_are_compared_by_seed_on_each_split(tmp_path):
    runs = on_splits(["R(2+1)D"], "12", tmp_path / "runs")
    longer = [run.spec.finetune_spec(frames=32, epochs=0) for run in runs]
    clips = [run.spec.finetune_spec(eval_clips=101, epochs=0) for run in runs]
    groups = group_by_seed(runs + make("open", longer, tmp_path / "longer"))
    verdict = evaluate_claim(BY_ID["test-longer-video"], groups)
    a, b = ([correct_by_seed(group.scores) for group in some] for some in (groups[:2], groups[2:]))
    estimate = estimate_mean([x - y for x, y in zip(a, b, strict=True)])
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx((estimate.value, estimate.low, estimate.high))
    groups = group_by_seed(make("open", clips, tmp_path / "clips"))
    verdict = evaluate_claim(BY_ID["twenty-clips"], groups)
    few = [[replace(scores, logits=scores.logits[:, SPREAD]) for scores in group.scores] for group in groups]
    fewer = [correct_by_seed(group.scores) - correct_by_seed(s) for group, s in zip(groups, few, strict=True)]
    assert verdict.effect == pytest.approx(np.mean([outcomes.values for outcomes in fewer]))
    assert verdict.protocol["data"] == "set, splits 1, 2"
    runs = [finish(run, replace(run.scores, logits=run.scores.logits[:, :100])) for g in groups for run in g.runs]
    assert evaluate_claim(BY_ID["twenty-clips"], group_by_seed(runs)).why == "20 clips spread over 100 stored"


def test_networks_without_a_split_in_common_are_missing(tmp_path):
    runs = on_splits(["R3D"], "1", tmp_path) + on_splits(["R(2+1)D"], "23", tmp_path)
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(runs))
    assert verdict.answer == INCONCLUSIVE and np.isnan(verdict.effect)
    assert "missing: R(2+1)D (8 frames)" in verdict.why and "data/set-split1.csv" in verdict.why


def test_set_beside_its_splits_is_none_of_them(tmp_path):
    runs = on_splits(["R3D", "R(2+1)D"], "12", tmp_path) + make("paper", two_networks(frames=8), tmp_path / "whole")
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(runs))
    assert verdict.protocol["data"] == "set" and verdict.other_settings.startswith("set, splits 1, 2: ")


def test_ranking_is_of_each_split(tmp_path):
    specs = [BASE.replace(variant=variant, frames=frames, data=f"many-split{split}", seed=seed)
             for variant in TABLE_2 for frames in (8, 16) for split in (1, 2) for seed in (0, 1)]  # fmt: skip
    verdict = evaluate_claim(BY_ID["ranking"], group_by_seed(make("paper", specs, tmp_path)))
    assert verdict.answer == SUPPORTED and verdict.protocol["data"] == "many-split1"
    assert verdict.other_settings.startswith("many-split2: supported")


def test_other_videos_on_the_second_split_are_inconclusive(tmp_path):
    runs = on_splits(["R3D", "R(2+1)D"], "12", tmp_path)
    for run in runs[-2:]:
        finish(run, replace(run.scores, videos=np.char.add(run.scores.videos, "x")))
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(runs))
    assert "different videos" in verdict.why and verdict.answer == INCONCLUSIVE and np.isnan(verdict.effect)


def test_primary_contrast_is_that_of_the_confirmatory_table():
    """Also beside the other networks of the study, over which another claim would pool the seeds' variance."""
    runs = [run for run in load_runs(RESULTS / "actions.zip") if run.spec.frames == 16]
    (row,) = [row for row in confirmatory_table(runs).to_dict("records") if row["family"] == "primary"]
    verdict = evaluate_claim(BY_ID["r21d-over-r3d-16"], group_by_seed(runs))
    assert verdict.answer == CLOSE == row["verdict"] and verdict.paper_size == "3.8 excluded"
    assert re.search(r"\d\); 3.8 excluded</span>", show_ledger(runs).data)
    gap = row[GAP], row["high"], row["low"]
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx([-number for number in gap])
    assert verdict.n == 294 and verdict.protocol["data"] == "ucf101-14, splits 1, 2, 3"


def test_answers_of_runs_and_arithmetic_are_counted_apart(worlds):
    counts = re.findall(r"<h3>Evaluated (.*)</h3>\s*<p>(.*?)\.", show_ledger([]).data)
    by_arithmetic = Counter(evaluate_claim(claim, []).answer for claim in CLAIMS if claim.kind == ARITHMETIC)
    right, wrong, of_runs = by_arithmetic[SUPPORTED], by_arithmetic[REFUTED], len(CLAIMS) - by_arithmetic.total()
    of_arithmetic = f"{right} supported, {wrong} refuted"
    assert counts == [("from runs", f"{of_runs} not tested"), ("by arithmetic", of_arithmetic)]
    labels = f"✓ supported {right} (0 from runs)", f"– not tested {of_runs} ({of_runs} from runs)"
    html = show_ledger([]).data
    assert all(f" {label}</label>" in html for label in (f"all {len(CLAIMS)} ({of_runs} from runs)", *labels))
    table = ledger([run for group in worlds["paper"] for run in group.runs])
    sized, not_yet = sum(bool(claim.size) for claim in CLAIMS), sum(claim.kind == NOT_YET for claim in CLAIMS)
    right += of_runs - sized - not_yet  # effects of the paper's world are larger than the paper's
    expected = f"{right} supported, {sized} direction only, {wrong} refuted, {not_yet} not tested"
    assert count_answers(table) == expected


def test_quoted_words_stand_in_the_paper():
    quotes = re.findall("“(.*?)”", " ".join(claim.sentence + claim.comparison for claim in CLAIMS))
    assert len(quotes) >= 6
    if not (paper := DATA.parent / "paper.txt").is_file():
        pytest.skip("the paper's text is not here")
    text = re.sub("-\n|[ _\n]", "", paper.read_text())
    assert [quote for quote in quotes if re.sub("[ _]", "", quote) not in text] == []


def test_training_error_needs_two_seeds_and_a_copy_is_none(tmp_path):
    specs = two_networks(seeds=[0])
    runs = make("paper", specs, tmp_path / "one") + make("paper", specs, tmp_path / "copy")
    row = ledger(runs).loc["train-error-18"]
    assert (row["answer"], row["n"], row["effect"]) == (INCONCLUSIVE, 2, pytest.approx(10)) and "one seed" in row["why"]


def test_other_videos_are_inconclusive(tmp_path):
    runs = make("paper", two_networks(), tmp_path)
    for run in runs[:2]:
        finish(run, replace(run.scores, videos=np.char.add(run.scores.videos, "x")))
    row = ledger(runs).loc["r21d-over-r3d-16"]
    assert "different videos" in row["why"] and row["answer"] == INCONCLUSIVE


def test_ledger_is_escaped_and_needs_no_runs(tmp_path):
    html = show_ledger(make("paper", two_networks(data=NASTY), tmp_path)).data
    assert NASTY not in html and "&lt;script&gt;" in html
    for label in ("✓ supported", "✗ refuted", "? inconclusive"):
        assert label in show_ledger([]).data


def test_one_seed_on_splits_has_the_interval_of_its_table():
    runs = [run for run in load_runs(RESULTS / "small.zip") if run.spec.data.startswith("ucf101-7b")]
    verdict = evaluate_claim(BY_ID["pretraining-helps"], group_by_seed(runs))
    rows = [row for row in collect_networks(runs)[0] if (row.stream, row.spec.variant) == (RGB, "R(2+1)D")]
    ((pretrained, scratch),) = pretrained_pairs(rows)
    estimate = difference(pretrained, scratch)
    assert (verdict.low, verdict.high) == (estimate.low, estimate.high) and verdict.answer == INCONCLUSIVE
    assert estimate.seed_part > 0, "the pretrained network gains on one split and loses on the others"


def test_pretrained_and_scratch_count_in_the_seeds_variance(tmp_path):
    """Seeds from scratch that differ widen the interval, as in Table 5, though the pretrained ones are alike.

    Those on flow, which are alike too, say nothing of it.
    """
    specs = [spec for spec in kinetics("small", "set", source="set2", seeds=range(3)) if spec.data == "set"]
    runs = make("paper", specs, tmp_path)
    for run in runs:
        if not run.spec.init_from and run.spec.modality == "rgb":
            wrong = np.arange(VIDEOS) % 10 < 1 + 3 * run.spec.seed  # more with each seed
            logits = np.where(wrong[:, None, None], np.roll(run.scores.logits, 1, axis=2), run.scores.logits)
            finish(run, replace(run.scores, logits=logits.astype(np.float32)))
    verdict = evaluate_claim(BY_ID["pretraining-helps"], group_by_seed(runs))
    ((pretrained, scratch),) = pretrained_pairs([row for row in collect_networks(runs)[0] if row.stream == RGB])
    estimate = difference(pretrained, scratch)
    assert verdict.other_settings == "", "flow is none of them"
    assert estimate.seed_part > 0 and (verdict.low, verdict.high) == pytest.approx((estimate.low, estimate.high))


def test_rgb_minus_flow_is_the_row_of_its_table():
    """With the seeds of these two networks alone: R3D, f-R2D and MC3 on RGB would say that seeds hardly matter."""
    runs = [run for run in load_runs(RESULTS / "small.zip") if run.spec.data == "ucf101-14-split1"]
    verdict = evaluate_claim(BY_ID["rgb-over-flow"], group_by_seed(runs))
    rows = collect_networks([run for run in runs if run.spec == replace(run.spec, **STREAMS_SETTING)])[0]
    by_name = {(network.spec.variant, network.stream): network for network in rows}
    assert len(by_name) > 6, "other networks stand beside them"
    rgb, flow = (by_name["R(2+1)D", stream] for stream in (RGB, FLOW))
    estimate = difference(flow, rgb)
    assert (verdict.effect, verdict.low, verdict.high) == (-estimate.value, -estimate.high, -estimate.low)
    both = [correct_by_seed(group.scores) for row in (rgb, flow) for group in row.splits.values()]
    assert estimate.seed_part == pytest.approx(seed_variance(both).value)
    assert verdict.answer == INCONCLUSIVE and verdict.low < -40 and verdict.high > 0


def test_less_than_3_points_apart_is_counted_and_explained():
    runs = load_runs(RESULTS / "actions.zip")
    html = draw_ledger(table := ledger(runs)).data
    answers = table["answer"]
    assert {"r21d-over-r3d-8", "r21d-over-r3d-16"} <= {*answers.index[answers == CLOSE]}
    assert answers["r21d-gap-grows"] == INCONCLUSIVE, "the paper's +0.8 is in the interval"
    assert f"{(answers == CLOSE).sum()} {CLOSE}" in count_answers(table) and f"≈ {CLOSE}" in html
    notebook = (RESULTS.parent / "notebooks" / "claims.ipynb").read_text()
    assert f"*{CLOSE.capitalize()}*" in notebook


def test_training_errors_are_not_called_close():
    """Both are near zero there, where 3 points are no small difference."""
    runs = [run for run in load_runs(RESULTS / "actions.zip") if run.spec.frames == 8]
    verdict = evaluate_claim(BY_ID["train-error-18"], group_by_seed(runs))
    assert -3 < verdict.low <= 0 <= verdict.high < 3 and verdict.answer == INCONCLUSIVE


@pytest.fixture(scope="module")
def close(tmp_path_factory):
    """Two seeds of each network with 8 frames, each wrong on one video, so any two are less than 3 points apart."""
    specs = [BASE.replace(variant=variant, frames=8, seed=seed) for variant in TABLE_2 for seed in (0, 1)]
    runs = make("paper", specs, tmp_path_factory.mktemp("close"))
    for run in runs:
        taken = run.scores.labels.copy()
        taken[TABLE_2.index(run.spec.variant)] += 1
        finish(run, replace(run.scores, logits=np.tile(9.0 * np.eye(CLASSES)[taken % CLASSES][:, None], (1, 3, 1))))
    return runs


@pytest.mark.parametrize(
    ("changes", "seeds", "answer"),
    [
        ({}, 2, CLOSE),
        ({}, 1, INCONCLUSIVE),
        ({"region": (-1, 1)}, 2, INCONCLUSIVE),
        ({"size": 1.0}, 2, INCONCLUSIVE),
        ({"size": 3.5}, 2, CLOSE),
        ({"contrasts": BY_ID["r21d-best-8"].contrasts}, 2, INCONCLUSIVE),
    ],
    ids=["two networks", "one seed", "about equal", "size inside", "size outside", "each of eleven"],
)
def test_close_is_a_lead_over_one_network_with_two_seeds(close, changes, seeds, answer):
    claim = replace(BY_ID["r21d-over-r3d-8"], **changes)
    verdict = evaluate_claim(claim, group_by_seed([run for run in close if run.spec.seed < seeds]))
    assert verdict.answer == answer and -3 < verdict.low <= 0 <= verdict.high < 3
    assert "training errors" not in verdict.why


@pytest.fixture(scope="module")
def speech():
    """The records of MIRACL-VC1, to which seeds may be added: the tests below pin none of their numbers."""
    return load_runs(RESULTS / "miracl.zip")


@pytest.fixture(scope="module")
def of_both(speech):
    """The ledger of speech and actions."""
    return ledger(speech + load_runs(RESULTS / "actions.zip"))


def test_speech_is_evidence_with_the_numbers_of_its_tables(speech, of_both):
    """By speaker over the pooled folds and with the counted seeds; of training errors the seed is the unit."""
    table = of_both
    seeds = counted_seeds(family_networks(SPEECH), {run.spec for run in speech})
    members = {*family_specs(SPEECH, seeds)}
    row = fold_table([run for run in speech if run.spec in members]).set_index("network").loc["R3D"]
    planned = confirmatory_table(speech, families=[SPEECH]).set_index("network").loc["R3D"]
    own, (_, spoken) = (table.loc["test-error-18"]["evidence"][0], table.loc["test-error-18"]["evidence"])
    assert own["protocol"]["data"].startswith("ucf101-14") and own["of"] == "recordings"
    assert spoken["protocol"]["data"] == "miracl-vc1, splits 1, 2, 3, 4, 5"
    assert (spoken["n"], spoken["of"], spoken["protocol"]["seeds"]) == (15, "speakers", f"{len(seeds)} seeds")
    gap = [spoken[key] for key in ("effect", "low", "high")]
    assert gap == pytest.approx([-row["minus R(2+1)D"], -row["gap high"], -row["gap low"]])
    assert planned["verdict"].startswith(f"{spoken['status']}: ")
    assert (spoken["answer"] == CLOSE) == planned["verdict"].endswith(CLOSE)
    _, errors = table.loc["train-error-18"]["evidence"]
    assert [errors[key] for key in ("effect", "low", "high")] == pytest.approx(
        [row["training gap"], row["training low"], row["training high"]]
    )
    assert (errors["n"], errors["of"]) == (2 * 5 * len(seeds), "runs")
    assert f"R3D (18 layers) {row['training error']:.1f} %" in errors["why"]
    assert errors["status"] == f"exploratory, {spoken['status']}" and "seen before" in errors["status"]
    html = show_ledger(speech).data
    assert f"<td>{errors['status']}</td>" in html and f"<small>{errors['status']}</small>" in html


REASONS = [claim for claim in CLAIMS if len(claim.tasks) > 1]


@pytest.fixture(scope="module")
def rate():
    """The runs whose label is the playback rate, with all networks of the two reasons for (2+1)D."""
    specs = why_2plus1d("small", "ucf101-14-split1", task="speed", seeds=(0, 1, 2))
    return find_runs(specs, RESULTS / "small.zip")


def test_reasons_are_evaluated_on_speech_and_on_the_rate(speech, rate, of_both):
    """With the seeds that all networks of the family have: R(2+1)D has more of them, for another family."""
    table = ledger(rate + speech)
    seeds = counted_seeds(family_networks(WHY), {run.spec for run in speech})
    extra = [replace(run, spec=run.spec.replace(seed=9)) for run in speech if run.spec in family_networks(SPEECH)]
    members = {*family_specs(WHY, seeds)}
    rows = fold_table([run for run in speech if run.spec in members]).set_index("network")
    planned = confirmatory_table(speech, families=[WHY]).set_index("network")
    assert len(REASONS) >= 7
    for row in (table.loc[claim.id] for claim in REASONS):
        spoken, played = row["evidence"]
        sources = [f"{evidence['protocol']['data']}, {evidence['protocol']['task']}" for evidence in (spoken, played)]
        assert sources == ["miracl-vc1, splits 1, 2, 3, 4, 5, action", "ucf101-14-split1, speed"]
        assert spoken["protocol"]["seeds"] == f"{len(seeds)} seeds" and "seen before" in spoken["status"]
        assert row["answer"] == spoken["answer"]
    for name, network, columns in (
        ("relu-helps", "R(2+1)D-noReLU", ["minus R(2+1)D", "gap low", "gap high"]),
        ("factorization-helps", "R3D+ReLU", ["minus R(2+1)D", "gap low", "gap high"]),
        ("relu-fits", "R(2+1)D-noReLU", ["training gap", "training low", "training high"]),
    ):
        spoken, gap = table.loc[name, "evidence"][0], rows.loc[network, columns].tolist()
        is_error = columns[0] == "training gap"
        expected = gap if is_error else [-gap[0], -gap[2], -gap[1]]
        assert [spoken[key] for key in ("effect", "low", "high")] == pytest.approx(expected)
        status = planned.loc[network, "verdict"].partition(":")[0]
        assert spoken["status"] == (f"exploratory, {status}" if is_error else status)
    linear = table.loc["linear-factorization-fits", "evidence"][0]
    errors = rows["training error"]
    assert linear["effect"] == pytest.approx(errors["R3D"] - errors["R(2+1)D-noBN-noReLU"])
    assert {run.spec.seed for run in extra} == {9} and ledger(speech + extra).loc["relu-helps", "evidence"] == (
        table.loc["relu-helps", "evidence"][:1]
    )
    html = draw_ledger(table).data
    assert "<td>ucf101-14-split1, playback rate</td>" in html and "<div>" in html
    assert re.search("By other data sets: .*ucf101-14, playback rate: ", html)
    html = draw_ledger(of_both).data
    assert "A line that names no data is of ucf101-14. " in html
    assert len(re.findall('"effect">miracl-vc1: ', html)) >= len(REASONS), "beside claims that have actions"


def test_reasons_tell_where_there_is_nothing_to_explain(worlds, speech, rate):
    """The advantage in accuracy and in training error apart, each by the runs of its row."""
    for claim in REASONS:
        for world, text in (("paper", ""), ("other", NOTHING if claim.explains else "")):
            verdict = evaluate_claim(claim, worlds[world])
            assert verdict.premise == text
            assert ("what it would explain, " in verdict.why) == bool(claim.explains)
    runs = [run for group in worlds["other"] for run in group.runs]
    assert f"); {NOTHING}</span>" in show_ledger(runs).data
    assert f"); {NOTHING}" not in show_ledger([run for group in worlds["paper"] for run in group.runs]).data
    rows = fold_table(rate).set_index("network").loc["R3D"]
    assert -rows["gap high"] < 0, "R(2+1)D is not above R3D on the rate"
    assert ledger(rate).loc["relu-helps", "premise"] == NOTHING


def test_reasons_need_a_complete_family(speech, tmp_path):
    lost = [run for run in speech if run.spec.variant == "R(1+2)D" and run.spec.data.endswith("split1")]
    table = ledger([run for run in speech if run not in lost])
    for name in ("relu-helps", "relu-fits", "factorization-fits"):
        row = table.loc[name]
        assert row["answer"] == INCONCLUSIVE and "no seed has all runs of the family why (2+1)D" in row["why"]


def test_rate_is_evidence_of_reasons_alone_after_actions(tmp_path):
    names = "R3D", "R(2+1)D", "R(2+1)D-noReLU"
    played = [BASE.replace(variant=name, frames=8, frame_stride=1, task="speed", seed=seed)
              for name in names for seed in range(3)]  # fmt: skip
    acted = [spec.replace(task="action", frame_stride=2) for spec in played if spec.seed < 2]
    runs = make("paper", played, tmp_path / "rate") + make("other", acted, tmp_path / "actions")
    table = ledger(runs)
    assert [row["protocol"]["task"] for row in table.loc["relu-helps", "evidence"]] == ["action", "speed"]
    assert [row["answer"] for row in table.loc["relu-helps", "evidence"]] == [REFUTED, SUPPORTED]
    assert [row["protocol"]["task"] for row in table.loc["test-error-18", "evidence"]] == ["action"]
    (verdict,) = {ledger(make("paper", played[:6], tmp_path / "some")).loc["relu-helps", "why"]}
    assert "missing: R(2+1)D-noReLU" in verdict and " --task speed " in verdict


def test_seeds_that_lack_networks_of_speech_do_not_count(speech):
    ablations = [spec for spec in family_networks(WHY) if spec.variant == "R(1+2)D"]
    kept = {run.spec for run in counted_runs(speech)}
    assert {spec.seed for spec in kept if spec.variant == "R3D"} == {
        *counted_seeds(family_networks(SPEECH), {run.spec for run in speech})
    }
    assert any(run.spec.seed == 1 for run in speech) and not any(spec.seed == 1 for spec in kept)
    assert len(ablations) == 5 and kept >= {*ablations}
    extra = [replace(run, spec=run.spec.replace(seed=9)) for run in speech if run.spec in family_networks(WHY)]
    kept = [run.spec for run in counted_runs([*speech, *extra]) if run.spec.seed == 9]
    assert len(extra) == 50 and len(kept) == 40, "R3D and R(2+1)D are of the family speech too, which lacks the seed"
    assert not {"R3D", "R(2+1)D"} & {spec.variant for spec in kept}
    lacking = [run for run in speech if run.spec.seed in (0, 2) and run.spec.variant in ("R3D", "R(2+1)D")]
    verdict = ledger(lacking).loc["r21d-over-r3d-8"]
    assert (verdict["protocol"]["seeds"], verdict["n"]) == ("2 seeds", 15) and -3 < verdict["low"] < 0 < verdict["high"]
    assert verdict["answer"] == INCONCLUSIVE and "no seed has all runs of the family speech" in verdict["why"]


def test_unfinished_seed_of_speech_does_not_count(speech, tmp_path):
    last = max(run.spec.seed for run in counted_runs(speech))
    (lost,) = [run for run in speech if (run.spec.variant, run.spec.data[-1], run.spec.seed) == ("rMC5", "1", last)]
    runs = [replace(run, folder=tmp_path / "none") if run is lost else run for run in speech]
    assert {run.spec.seed for run in counted_runs(runs) if run.spec.variant == "MC2"} == {
        run.spec.seed for run in counted_runs(speech) if run.spec.variant == "MC2"
    } - {last}


def test_seed_beyond_the_fixed_number_does_not_count():
    planned = {*family_specs(FAMILIES[0]), *family_specs(FAMILIES[1])}
    runs = [run for run in load_runs(RESULTS / "actions.zip") if run.spec in planned and run.spec.frames == 16]
    extra = [replace(run, spec=run.spec.replace(seed=5)) for run in runs if run.spec.seed == 4]
    assert counted_runs([*runs, *extra]) == runs and len(extra) == 15


def test_unseen_seeds_of_speech_are_confirmatory(speech):
    """With the variance of the seeds that count, whichever is the first, over all networks of the family."""
    unseen = [run for run in speech if run.spec.seed > 1 and run.spec.variant in TABLE_2]
    row = fold_table(unseen).set_index("network").loc["R3D"]
    verdict = ledger(unseen).loc["r21d-over-r3d-8"]
    gap = -row["minus R(2+1)D"], -row["gap high"], -row["gap low"]
    assert tuple(verdict[["effect", "low", "high"]]) == pytest.approx(gap) and verdict["status"] == "confirmatory"
    table = ledger([run for run in speech if run.spec.seed == 0])
    assert {*table.loc[["r21d-over-r3d-8", "train-error-18", "r2d-like-fr2d-8"], "status"]} == {"exploratory"}


def test_folds_that_a_network_lacks_are_no_part_of_the_variance(speech):
    whole = [run for run in speech if run.spec.variant in TABLE_2 and run.spec.seed != 1]
    four = [run for run in whole if run.spec.data != "miracl-vc1-split5"]
    lacking = four + [run for run in whole if run.spec.data == "miracl-vc1-split5" and run.spec.variant != "R3D"]
    of_four, verdict = (evaluate_claim(BY_ID["r21d-over-r3d-8"], group_by_seed(runs)) for runs in (four, lacking))
    assert verdict == of_four and verdict.protocol["data"] == "miracl-vc1, splits 1, 2, 3, 4"
    assert np.isfinite(verdict.low)


def test_complete_contrast_of_unfinished_family_has_a_verdict():
    runs = [run for run in load_runs(RESULTS / "actions.zip") if run.spec.frames == 8]
    verdict = ledger([run for run in runs if run.spec.variant in ("R3D", "R(2+1)D")]).loc["r21d-over-r3d-8"]
    assert (verdict["answer"], verdict["status"]) == (CLOSE, "confirmatory")
    assert ledger(runs).loc["r2d-like-fr2d-8", "status"] == "exploratory", "the protocol compares with R(2+1)D"


def test_families_of_networks():
    """The first that has all; several together; none where one network is in none."""
    both, r3d, mixed = (
        [spec for family in FAMILIES for spec in family_networks(family) if (spec.variant, spec.frames) in pairs]
        for pairs in ({("R3D", 8), ("R3D", 16)}, {("R3D", 8)}, {("rMC5", 8), ("P3D-B", 8)})
    )
    actions = [spec for spec in both if spec.data.startswith("ucf101")]
    spoken = [spec.replace(seed=7) for spec in r3d if spec.data.startswith("miracl")]
    assert families_of(actions) == [*PLANNED] and families_of(spoken) == [SPEECH]
    assert families_of(mixed) == [SPEECH, WHY]
    assert families_of([*spoken, spoken[0].replace(epochs=1)]) == families_of([]) == []


def test_new_data_set_is_a_row_without_new_code(tmp_path):
    runs = make("paper", two_networks(frames=8, frame_stride=1), tmp_path / "near")
    runs += make("other", two_networks(frames=8, data="other-split1"), tmp_path / "far")
    row = ledger(runs).loc["r21d-over-r3d-8"]
    assert [(verdict["protocol"]["data"], verdict["answer"]) for verdict in row["evidence"]] == [
        ("set", DIRECTION), ("other-split1", REFUTED),
    ]  # fmt: skip
    assert row["answer"] == DIRECTION and row["other_settings"] == ""
    html = show_ledger(runs).data
    further = [verdicts[1]["answer"] for verdicts in ledger(runs)["evidence"] if len(verdicts) > 1]
    assert f"By other data sets: other: {further.count(REFUTED)} {REFUTED}. Where" in html and {*further} == {REFUTED}
    assert f"<td>other-split1</td><td>✗ {REFUTED}</td>" in html and "<div>✗ other-split1: " in html
    assert "<td>exploratory</td><td>8 frames</td>" in html, "without the data and the seeds, which have columns"
    assert "<td>2 seeds</td>" in html and "<td>0 " not in html, "a claim that lacks networks has no sample"
    assert re.search(r"otherwise: profile small, action, stride 1, 18 layers, width 64, \d+ epochs\.</p>", html)


@pytest.mark.parametrize("name", ["r21d-over-r3d-8", "r21d-over-r3d-16", "r21d-gap-grows", "train-error-18"])
def test_confirmatory_runs_have_the_variance_of_their_family(name):
    runs = load_runs(RESULTS / "actions.zip")
    verdict = evaluate_claim(BY_ID[name], group_by_seed(runs))
    numbers = verdict.effect, verdict.low, verdict.high
    table = confirmatory_table(runs).set_index(["family", "network", "frames"])
    if name.startswith("r21d-over"):
        frames = int(name.rpartition("-")[2])
        row = table.loc[("primary" if frames == 16 else "actions, Table 2", "R3D", frames)]
        expected = [-row[GAP], -row["high"], -row["low"]]
    elif name == "r21d-gap-grows":
        row = length_gains(runs).set_index("network").loc["R3D"]
        expected = [-row[GAP], -row["gap high"], -row["gap low"]]
    else:
        row = fold_table([run for run in runs if run.spec.frames == 8]).set_index("network").loc["R3D"]
        expected = [row["training gap"], row["training low"], row["training high"]]
    assert numbers == pytest.approx(expected)
    status = "confirmatory" if name.startswith("r21d-over") else "exploratory"
    assert verdict.status == status


def test_closed_row_names_the_metric_of_its_comparison():
    rows = re.findall(r"<summary>(.*?)</summary>.*?<dt>comparison</dt><dd>(.*?)</dd>", show_ledger([]).data, re.S)
    shown = {comparison: "".join(re.findall(r"<small>(.*?)</small></span>", row)) for row, comparison in rows}
    for claim in CLAIMS:
        metric = shown[write_minus(claim.comparison).replace("'", "&#39;")]
        assert not metric if claim.kind == ARITHMETIC else metric and metric in claim.comparison, claim.id


def test_numbers_of_the_ledger_have_minus_signs():
    html = show_ledger([]).data
    assert "clip@1: −1.2, stated −1.2" in html and "between −1 and 1" in html and not re.search(r"[ (]-\d", html)
