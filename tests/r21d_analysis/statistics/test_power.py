"""The power of tests, against simulated ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from r21d_analysis.statistics.inference import Estimate, Outcomes, estimate_mean
from r21d_analysis.statistics.power import describe_power, detectable_difference, required_recordings


def test_power_is_reached_with_the_required_recordings():
    """Recordings as many as required find a true difference in about 80 % of the cases."""
    random, groups = np.random.default_rng(0), np.arange(30)
    pilot = estimate_mean([Outcomes(random.normal(0, 10, (1, 30)), groups)])
    assert detectable_difference(pilot) == pytest.approx(2.8 * np.sqrt(pilot.recording_variance), rel=0.04)
    needed = int(required_recordings(replace(pilot, value=5.0)))
    spread = np.sqrt(pilot.recording_variance * 30)
    drawn = random.normal(5, spread, (2000, needed))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=0.05)
    needed = int(required_recordings(replace(pilot, value=5.0), tests=11))
    drawn = random.normal(5, spread, (2000, needed))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05 / 11)
    assert found == pytest.approx(0.8, abs=0.05) and detectable_difference(pilot, 11) > detectable_difference(pilot)
    assert required_recordings(replace(pilot, value=5.0, seed_part=9.0)) == np.inf, "it takes more seeds"


@pytest.mark.parametrize("df", [1, 4, 10, 100])
@pytest.mark.parametrize("tests", [1, 11])
def test_power_of_a_detectable_difference_by_the_noncentral_t(df, tests):
    difference = detectable_difference(Estimate(0, 0, 0, recording_variance=1, df=df), tests)
    critical = stats.t.ppf(1 - 0.025 / tests, df)
    assert stats.nct.sf(critical, df, difference) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("value", "tests"), [(10, 1), (15, 11), (20, 3)])
@pytest.mark.parametrize("recordings", [8, 98])
def test_few_required_recordings_have_few_degrees_of_freedom(value, tests, recordings):
    random = np.random.default_rng(0)
    pilot = Estimate(
        value, np.nan, np.nan, recordings=recordings, recording_variance=100 / recordings, df=recordings - 1
    )
    needed = int(required_recordings(pilot, tests))
    found = [
        np.mean(stats.ttest_1samp(random.normal(value, 10, (4000, count)), 0, axis=1).pvalue < 0.05 / tests)
        for count in (needed - 1, needed)
    ]
    assert found[0] < 0.8 and found[1] > 0.75


@pytest.mark.parametrize("value", [20, 2, 0.3, 0.1])
def test_required_recordings_are_the_fewest(value):
    """Also where they are thousands, of which `required_recordings` first tries some."""

    def estimate(count):
        return Estimate(value, np.nan, np.nan, recordings=count, recording_variance=100 / count, df=count - 1)

    needed = int(required_recordings(estimate(98)))
    assert detectable_difference(estimate(needed)) <= value < detectable_difference(estimate(needed - 1))


def test_more_recordings_do_not_show_what_seeds_hide():
    """With more recordings the degrees of freedom fall to the few of the seeds."""
    pilot = Estimate(8.7, np.nan, np.nan, recordings=98, seeds=3, recording_variance=1.94, seed_part=1.94, df=9.7)
    assert required_recordings(pilot, 11) == np.inf
    assert required_recordings(replace(pilot, seed_part=0.0, df=97.0), 11) < 98
    assert 80 < required_recordings(replace(pilot, value=9.2), 11) < 98
    fewest = [required_recordings(replace(pilot, value=value), 11) for value in (9.2, -9.2)]
    assert fewest[0] == fewest[1], "of either sign"
    constant = replace(pilot, recording_variance=0.0, seed_part=0.0, df=97.0)
    assert required_recordings(constant) == np.inf


def test_power_of_a_table_is_the_range_of_its_tests():
    assert describe_power([10.04, np.nan, 2.56, 4.2]) == "2.6 to 10.0 points"
    assert (describe_power([2.2]), describe_power([2.24, 2.16]), describe_power([np.nan])) == (*["2.2 points"] * 2, "")
    assert (
        describe_power([38.2, 175.4]) == "38.2 to over 100 points" and describe_power([120, 130]) == "over 100 points"
    )
