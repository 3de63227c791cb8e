"""Verdicts of arithmetic, and of intervals."""

import numpy as np
import pytest

from r21d_analysis.artifacts.confirmatory import decide_contrast, is_close
from r21d_analysis.claims.arithmetic import above, differences, ranges
from r21d_analysis.claims.claims import ARITHMETIC, CLAIMS
from r21d_analysis.claims.evaluate import decide_all, evaluate_claim
from r21d_analysis.claims.table import format_effect
from r21d_analysis.claims.verdict import (
    ABOUT,
    ABOVE,
    CLOSE,
    DIRECTION,
    INCONCLUSIVE,
    REFUTED,
    SUPPORTED,
    Verdict,
    decide,
    decide_bonferroni,
    decide_close,
    decide_size,
    describe_size,
)
from r21d_analysis.statistics.inference import Estimate


@pytest.mark.parametrize(
    ("name", "answer", "effect", "part"),
    [
        ("mc-gain-3-4", REFUTED, 2.1, "the text says 3–4, 3–4; Table 2 gives 2.1–4.0, 2.8–6.7"),
        ("r3d-three-times", REFUTED, 1.98, "11,400,528, 2.93 times"),
        ("state-of-the-art-kinetics", REFUTED, -0.3, "75.4 against 75.7 at most"),
        ("state-of-the-art-transfer", REFUTED, -2.0, "97.3 against 98.0 at most, UCF101"),
        ("single-channel", REFUTED, 64, "64 filters"),
        ("parameters-matched", SUPPORTED, 0.99998, "33,370,839 against 33,371,472"),
        ("relu-doubled", SUPPORTED, 2, "34 against 17"),
        ("mc1-is-fr2d", SUPPORTED, np.nan, "is 22222, f-R2D 22222"),
        ("r2d-poorest", REFUTED, -0.1, "video@1 8f R2D 59.5, f-R2D 59.4"),
        ("r2d-longer-clips", SUPPORTED, 1.7, "8f R2D 0.3, f-R2D 2.2; video@1 16f minus video@1 8f R2D -0.6, f-R2D 1.1"),
        ("rmc3-stride", SUPPORTED, 2, "rMC3 is 22333"),
        ("best-trade-off", SUPPORTED, 3.84, "finetuned at 32 clip@1 0.80"),
        ("final-shapes", SUPPORTED, np.nan, "MC4 4, 8"),
        ("table-2-parameters", REFUTED, 1, "MC5: 16.847 M, printed 16.9"),
        ("ranking-table-2", SUPPORTED, 0.96, "2 change places"),
        ("ranges-8", SUPPORTED, 1.3, "4.7–6.1"),
        ("ranges-16", SUPPORTED, 1.8, "3.1–4.7"),
        ("ranges-16-2d", REFUTED, 6.5, "the text says 6.3–9.8; Table 2 gives 6.5–9.8"),
        ("figure-4-gain", SUPPORTED, 3.0, "3.8"),
        ("r2d-seven-times", SUPPORTED, 7.14, "27.601 against 2.168, 12.73 times"),
        ("r2d-cheapest", SUPPORTED, 6.46, "1.932 GMAC"),
        ("rmc3-cheaper", SUPPORTED, 1.106, "12.478 GMAC against 13.801"),
        ("rmc2-costlier", SUPPORTED, 1.593, "19.876"),
        ("rmc2-reason", REFUTED, np.nan, "describes rMC4"),
        ("r21d-same-cost", SUPPORTED, 1.02, "20.748 against 20.348"),
        ("lengths-same-parameters", SUPPORTED, 1, "33,370,839"),
        ("table-3", SUPPORTED, -1.2, "-5.8"),
        ("seven-point-three", REFUTED, 4.0, "59.8 against 11.8, 5.07 times"),
        ("finetune-hours", SUPPORTED, 2.92, "59.8 against 20.5"),
        ("sixty-seven", SUPPORTED, 67, "67"),
        ("table-4", SUPPORTED, 10.9, "+2.3"),
        ("table-4-rgb", SUPPORTED, 1.1, "57.0 against 53.8 at most, clip@1; R(2+1)D-RGB-32frame 73.0 against 71.7"),
        ("table-4-best", SUPPORTED, 1.6, "73.3 against 71.7"),
        ("table-5", SUPPORTED, 4.5, "-0.3"),
        ("table-6-best", SUPPORTED, 3.1, "78.7 against 69.4 at most, HMDB51"),
        ("table-6-i3d", SUPPORTED, -1.2, "Flow HMDB51 -0.7"),
        ("table-6-pretraining", SUPPORTED, 2.2, "74.5 against 66.6 at most, HMDB51"),
    ],
)
def test_arithmetic_claim_has_its_verdict(name, answer, effect, part):
    verdict = evaluate_claim(next(claim for claim in CLAIMS if claim.id == name), [])
    assert verdict.answer == answer and part in verdict.why
    assert verdict.effect == pytest.approx(effect, rel=0.02, nan_ok=True)


@pytest.mark.parametrize(
    ("effect", "unit", "text"),
    [(1.0, "times", "1.00 times"), (2.917, "times, smallest", "2.92 times, smallest"), (64, "channels", "64 channels"),
     (-2.0, "points, smallest", "-2.0 points, smallest"), (0.9581, "correlation", "0.958 correlation")],
)  # fmt: skip
def test_effect_of_arithmetic_has_the_decimals_of_its_unit(effect, unit, text):
    assert format_effect(Verdict(SUPPORTED, effect, unit=unit)) == text


def test_every_arithmetic_claim_is_tested():
    tested = {row[0] for row in test_arithmetic_claim_has_its_verdict.pytestmark[0].args[1]}
    assert tested == {claim.id for claim in CLAIMS if claim.kind == ARITHMETIC}, "add a row to the test above"


@pytest.mark.parametrize(
    ("low", "high", "region", "answer"),
    [
        (0.1, 2, ABOVE, SUPPORTED), (-2, -0.1, ABOVE, REFUTED), (-1, 2, ABOVE, INCONCLUSIVE),
        (0, 0, ABOVE, INCONCLUSIVE), (-0.5, 0.9, ABOUT, SUPPORTED), (1.1, 2, ABOUT, REFUTED),
        (0.5, 2, ABOUT, INCONCLUSIVE), (np.nan, np.nan, ABOVE, INCONCLUSIVE),
    ],
)  # fmt: skip
def test_interval_decides_only_when_wholly_on_one_side(low, high, region, answer):
    assert decide(low, high, region) == answer


@pytest.mark.parametrize(
    ("low", "high", "size", "answer"),
    [(1, 4, 3, SUPPORTED), (1, 3, 3, SUPPORTED), (4, 9, 3, DIRECTION), (1, 2, 3, DIRECTION), (1, 2, None, SUPPORTED)],
)  # fmt: skip
def test_size_outside_the_interval_is_direction_only(low, high, size, answer):
    assert decide_size(SUPPORTED, low, high, size) == answer
    text = {SUPPORTED: "3.0 not excluded", DIRECTION: "3.0 excluded"}[answer] if size else ""
    assert describe_size(low, high, size) == text and describe_size(np.nan, np.nan, size) == ""
    assert {decide_size(other, low, high, size) for other in (REFUTED, INCONCLUSIVE)} == {REFUTED, INCONCLUSIVE}


def test_refuting_one_of_several_needs_a_wider_interval():
    estimate = Estimate(-2.0, -3.8, -0.2, seeds=2, df=20)
    assert [decide_bonferroni(estimate, ABOVE, n) for n in (1, 11)] == [REFUTED, INCONCLUSIVE]
    assert decide_bonferroni(Estimate(-8.0, -9.8, -6.2, seeds=2, df=20), ABOVE, 11) == REFUTED
    assert decide_bonferroni(Estimate(2.0, 0.2, 3.8, seeds=2, df=20), ABOVE, 11) == SUPPORTED


def test_effect_of_several_is_that_of_the_lowest_bound():
    wide, narrow = Estimate(2.0, -1.0, 5.0, seeds=2, df=20), Estimate(1.0, -0.5, 2.5, seeds=2, df=20)
    claim = next(claim for claim in CLAIMS if claim.id == "r21d-best-8")
    verdict, name = decide_all(claim, [(narrow, "narrow"), (wide, "wide")])
    assert (verdict.answer, verdict.effect, name) == (INCONCLUSIVE, 2.0, "wide")


@pytest.mark.parametrize(
    ("low", "high", "effect", "answer"),
    [
        (-1.3, 1.9, 3.8, CLOSE), (-2.9, 2.9, None, CLOSE), (-1.3, 1.9, 0.8, INCONCLUSIVE),
        (-3.1, 0.2, 4.5, INCONCLUSIVE), (-1.0, 3.0, 3.8, INCONCLUSIVE), (np.nan, np.nan, 3.8, INCONCLUSIVE),
    ],
)  # fmt: skip
def test_close_interval_excludes_the_effect_of_the_paper(low, high, effect, answer):
    """In the words of the confirmatory table, which has no claim beside its intervals."""
    assert decide_close(decide(low, high, ABOVE), low, high, effect) == answer
    words = decide_contrast(Estimate((low + high) / 2, low, high, p=0.5, df=20, tested=True), 0.5, 1)
    assert (words == "less than 3 points apart") == is_close(low, high) == (low > -3 and high < 3)


def test_interval_on_one_side_is_not_called_close():
    assert decide_close(decide(-2.0, -0.1, ABOVE), -2.0, -0.1, 3.8) == REFUTED
    assert decide_close(decide(0.1, 2.0, ABOVE), 0.1, 2.0, 3.8) == SUPPORTED


@pytest.mark.parametrize(("size", "digits", "answer"), [(3.8, 1, SUPPORTED), (4, 1, REFUTED), (4, 0, SUPPORTED)])
def test_range_is_compared_to_the_digits_of_the_text(size, digits, answer):
    """Table 2 has 68.0 and 64.2; a text with whole points, such as “roughly 3-4%”, cannot say 3.8."""
    assert ranges((("R(2+1)D",), ("R3D",), "video@1 16f", (size, size)), digits=digits).answer == answer


def test_every_stated_number_counts_and_a_tie_is_no_lead():
    """Table 2 has 3.8 and 3.0, Table 3 -1.2 and -5.8."""
    wrong, rows = 5.0, [("8 tested at 32", "8", metric) for metric in ("clip@1", "video@1")]
    gaps = [(("R(2+1)D",), ("R3D",), f"video@1 {frames}f") for frames in (16, 8)]
    for answer, drop, gap in ((SUPPORTED, -5.8, 3.0), (REFUTED, wrong, wrong)):
        assert differences(3, (*rows[0], -1.2), (*rows[1], drop)).answer == answer
        assert ranges((*gaps[0], (3.8, 3.8)), (*gaps[1], (gap, gap))).answer == answer
    assert above(4, ("C3D", ["C3D"], "clip@1")).answer == REFUTED
