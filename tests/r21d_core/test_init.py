"""Tests of what the package itself has: texts that all of its modules share."""

import pytest

from r21d_core import count_noun
from r21d_core.study.spec import Spec, run_labels


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "video"), "1 video"),
        ((3, "video"), "3 videos"),
        ((0, "video"), "0 videos"),
        (("1", "recording"), "1 recording"),
        (("12 to 15", "recording"), "12 to 15 recordings"),
        (("3,000", "video"), "3,000 videos"),
        ((1, "class", "classes"), "1 class"),
        ((2, "class", "classes"), "2 classes"),
    ],
)
def test_count_noun_is_singular_for_one_alone(arguments, text):
    assert count_noun(*arguments) == text


def test_label_of_a_run_on_single_frames_has_the_singular():
    assert run_labels([Spec(frames=1, eval_clips=1)]) == ["R(2+1)D-18 (seed 0, 1 frame, 1 clip)"]
