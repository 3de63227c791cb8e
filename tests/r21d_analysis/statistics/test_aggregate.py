"""Groups of seeds: the runs of two networks that are compared with each other."""

from pathlib import Path

import numpy as np
import pytest

from r21d_analysis.statistics.aggregate import (
    SeedGroup,
    accuracy_difference,
    group_by_seed,
    means_by_seed,
    on_shared_seeds,
    pooled_seed_variance,
    training_errors,
)
from r21d_analysis.statistics.clips import exact_counts
from r21d_analysis.statistics.inference import seed_variance
from r21d_core import R21DError
from r21d_core.runs.run import Run, find_run
from tests.networks import TINY
from tests.runs import finish, random_scores


def group_of(*seeds):
    runs = tuple(Run(TINY.replace(seed=seed), Path(f"seed-{seed}")) for seed in seeds)
    scores = tuple(random_scores(seed, list("abcd"), ("x", "y"), {}) for seed in seeds)
    return SeedGroup(runs[0].spec, runs, scores, peers=[object()])


@pytest.mark.parametrize(
    ("ours", "theirs", "shared"), [((2, 0, 1), (3, 1, 2), [1, 2]), ((0,), (1,), []), ((8, 1), (8, 1), [1, 8])]
)
def test_shared_seeds_are_paired_in_order_with_their_own_scores(ours, theirs, shared):
    pair = group_of(*ours), group_of(*theirs)
    for before, after in zip(pair, on_shared_seeds(*pair), strict=True):
        assert [run.spec.seed for run in after.runs] == shared and after.peers == []
        for run, scores in zip(after.runs, after.scores, strict=True):
            np.testing.assert_array_equal(scores.logits, before.scores[before.runs.index(run)].logits)


def test_training_errors_are_of_each_network_by_seed(tmp_path):
    """In the order of the networks; a seed that lacks a split does not count."""
    errors = {("R3D", 1): {0: 0.1, 1: 0.2, 2: 0.9}, ("R2D", 1): {0: 0.5}, ("R3D", 2): {1: 0.4, 0: 0.3}}
    runs = []
    for (variant, split), of_seeds in errors.items():
        for seed, error in of_seeds.items():
            run = find_run(tmp_path, TINY.replace(variant=variant, data=f"set-split{split}", seed=seed))
            runs.append(run)
            history = [{"epoch": 1, "train_error": 0.95}, {"epoch": 2, "train_error": error}]
            finish(run, random_scores(seed, list("abcd"), ("x", "y"), {}), history)
    of_r3d, of_r2d = training_errors(iter(group_by_seed(runs)))
    assert of_r3d == pytest.approx([20, 30]) and of_r2d == pytest.approx([50])


def test_splits_of_two_networks_are_paired_by_name():
    """In whatever order their runs were found; each split has its own videos."""
    sides = []
    for seed in (0, 10):
        names = {f"set-split{number}": [f"{number}{letter}" for letter in "abcdef"] for number in (1, 2)}
        groups = []
        for data, videos in names.items():
            spec = TINY.replace(data=data)
            scores = (random_scores(seed, videos, ("x", "y"), {}, share=0.5),)
            groups.append(SeedGroup(spec, (Run(spec, Path(data)),), scores))
        sides.append(groups)
    ours, theirs = sides
    expected = np.mean([a.video_at(1) - b.video_at(1) for a, b in zip(ours, theirs, strict=True)])
    assert accuracy_difference(ours, theirs[::-1]).value == pytest.approx(expected)
    with pytest.raises(R21DError, match="one network has set-split1, set-split2, the other set-split2; compare"):
        accuracy_difference(ours, theirs[1:])


def test_evaluations_of_the_same_weights_are_one_network():
    """With more clips the runs of a network are not other ones, from which the variance of seeds would be known better.

    A network that is finetuned from it is another.
    """
    trained = TINY.replace(epochs=2)
    specs = [trained, trained.finetune_spec(epochs=0, eval_clips=7), trained.finetune_spec(epochs=1)]
    peers: list[SeedGroup] = []
    for number, spec in enumerate(specs):
        runs = tuple(Run(spec.replace(seed=seed), Path(f"{number}-{seed}")) for seed in (0, 1, 2))
        scores = (random_scores(10 * number + seed, [*"abcdefgh"], ("x", "y"), {}, share=0.5) for seed in range(3))
        peers.append(SeedGroup(spec, runs, tuple(scores), peers=peers))
    for own in peers[:2]:
        assert pooled_seed_variance([own]) == seed_variance([own.outcomes, peers[2].outcomes]), "by its own scores"
    assert pooled_seed_variance(peers[2:]) == seed_variance([peers[2].outcomes, peers[0].outcomes])


def test_splits_without_a_common_seed_count_alike():
    def number(group):
        return np.array([10.0 * run.spec.seed for run in group.runs])

    assert means_by_seed([group_of(0, 1, 2), group_of(2, 0)], number).tolist() == [0, 20], "of each common seed"
    assert means_by_seed([group_of(1), group_of(2, 4)], number).tolist() == [20], "not the mean of the three runs"


def test_a_single_clip_is_stored_where_there_is_a_middle_one():
    assert (exact_counts(5), exact_counts(4), exact_counts(1)) == ([1, 2, 3, 5], [2, 4], [1])
