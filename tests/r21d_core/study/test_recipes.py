import pytest

from r21d_core import R21DError
from r21d_core.study.recipes import RECIPES, get_recipe
from r21d_core.study.spec import Spec


def test_paper_profile_is_section_4_1():
    spec = get_recipe("paper")
    assert (spec.depth, spec.frames, spec.crop, spec.frame_height, spec.frame_width) == (18, 8, 112, 128, 171)
    assert (spec.epochs, spec.clips_per_epoch, spec.batch_size, spec.lr) == (45, 10**6, 32, 0.01)
    assert (spec.warmup_epochs, spec.lr_decay_epochs, spec.lr_decay) == (10, 10, 0.1)
    assert (spec.eval_clips, spec.frame_stride, spec.crop_area) == (10, 1, 0)
    assert (spec.momentum, spec.weight_decay, spec.label_smoothing, spec.color) == (0.9, 1e-4, 0, 0)
    authors = {"nesterov": True, "decay_biases": False, "fc_init": "xavier"}
    assert spec.changes_from(Spec()) == authors | {"precision": "bf16"}


def test_unknown_profile_lists_the_profiles():
    with pytest.raises(R21DError, match="expected one of paper, small, demo"):
        get_recipe("large")
    assert set(RECIPES) == {"paper", "small", "demo"}
