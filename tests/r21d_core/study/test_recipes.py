import pytest

from r21d_core import R21DError
from r21d_core.study.recipes import RECIPES, get_recipe


def test_paper_profile_is_section_4_1():
    spec = get_recipe("paper")
    assert (spec.depth, spec.frames, spec.crop, spec.frame_height, spec.frame_width) == (18, 8, 112, 128, 171)
    assert (spec.epochs, spec.clips_per_epoch, spec.batch_size, spec.lr) == (45, 10**6, 32, 0.01)
    assert (spec.warmup_epochs, spec.lr_decay_epochs, spec.lr_decay) == (10, 10, 0.1)
    assert (spec.eval_clips, spec.frame_stride, spec.crop_area) == (10, 1, 0)
    assert (spec.nesterov, spec.decay_biases, spec.fc_init) == (True, False, "xavier"), "as in the authors' code"


def test_unknown_profile_lists_the_profiles():
    with pytest.raises(R21DError, match="expected one of paper, small, demo"):
        get_recipe("large")
    assert set(RECIPES) == {"paper", "small", "demo"}
