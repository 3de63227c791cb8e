from functools import partial

import pytest
import torch

from r21d_core import R21DError
from r21d_core.models.neighbors import Neighbor
from r21d_core.models.network import VideoResNet
from r21d_core.study.experiments import EXPERIMENTS, REASONS, TABLE_2, variant_comparison
from r21d_core.study.overrides import IgnoredOverrideError
from r21d_core.study.variants import NEIGHBORS


def test_table_2_has_a_run_per_variant_and_seed():
    specs = variant_comparison("small", "ucf101-split1", seeds=(0, 1))
    assert len(specs) == len({spec.folder for spec in specs}) == 24
    assert {spec.data for spec in specs} == {"ucf101-split1"}
    assert not any(spec.folder.startswith("demo-") for spec in specs)
    assert all(spec.folder.startswith("demo-") for spec in variant_comparison("demo"))


@pytest.mark.parametrize(
    ("experiment", "key", "value"),
    [("clip_length", "frames", "8"), *((name, "modality", "flow") for name in ("sports1m", "kinetics", "transfer"))],
)
def test_settings_without_effect_are_rejected(experiment, key, value):
    with pytest.raises(IgnoredOverrideError, match=rf"^{experiment} sets {key} itself, to "):
        EXPERIMENTS[experiment]("demo", **{key: value})
    with pytest.raises(R21DError, match="expected one of paper, small, demo, schedules"):
        EXPERIMENTS["recipe_trials"]("demo", trials=["small"])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_unknown_profile_is_named(experiment):
    with pytest.raises(R21DError, match=r"^profile 'smal': expected one of paper, small, demo$"):
        EXPERIMENTS[experiment]("smal")


def test_lengths_and_counts_are_those_of_the_papers_figures():
    """Figure 5a has six lengths, Table 3 tests and finetunes the first on 32; 101 clips contain the 20 of Figure 5b."""
    lengths = EXPERIMENTS["clip_length"]("paper", "kinetics-400")
    assert [spec.frames for spec in lengths] == [8, 16, 24, 32, 40, 48, 32, 32]
    assert [spec.frame_stride for spec in EXPERIMENTS["clip_length"]("small", "a")] == [1] * 8
    trained, counted = EXPERIMENTS["clip_count"]("paper", "kinetics-400")
    assert (trained.frames, counted.frames, counted.eval_clips, counted.epochs) == (32, 32, 101, 0)


def test_repeated_seeds_and_networks_are_one_run():
    assert variant_comparison("demo", variants=("R3D", "33333"), seeds=("0", 0)) == variant_comparison(variants=["R3D"])


def test_folds_are_runs_of_their_own():
    for name, variants in (("variant_comparison", TABLE_2), ("why_2plus1d", REASONS)):
        specs = EXPERIMENTS[name]("small", "miracl-vc1-split1", splits="1,5", seeds=(0, 1))
        assert len(specs) == len({spec.folder for spec in specs}) == 2 * len(variants) * 2
        assert {spec.data for spec in specs} == {"miracl-vc1-split1", "miracl-vc1-split5"}
        assert {*EXPERIMENTS[name]("small", "miracl-vc1-split5", seeds=(0, 1))} < {*specs}


@pytest.mark.parametrize("experiment", ["variant_comparison", "why_2plus1d", "transfer"])
def test_splits_of_data_without_splits_are_refused(experiment):
    with pytest.raises(R21DError, match=r"splits = 1, 2: the data set 'mine' names no split; leave `splits` out"):
        EXPERIMENTS[experiment]("small", "mine", splits="1,2")
    assert {spec.data for spec in EXPERIMENTS[experiment]("small", "mine")} - {"kinetics-400"} == {"mine"}


@pytest.mark.parametrize("profile", ["small", "demo"])
def test_rate_and_actions_take_as_many_clips_as_actions(profile):
    scratch, pretrained, finetuned = EXPERIMENTS["rate_pretraining"](profile, "a-split1", seeds=(1,))
    assert finetuned.parent_spec == pretrained and pretrained.task == "speed" and finetuned.task == "action"
    assert {spec.seed for spec in (scratch, pretrained, finetuned)} == {1}
    clips = [spec.epochs * spec.clips_per_epoch for spec in (scratch, pretrained, finetuned)]
    assert clips[0] == clips[1] + clips[2] and clips[1] == clips[2]
    assert scratch == variant_comparison(profile, "a-split1", variants=("R(2+1)D",), seeds=(1,))[0]
    assert finetuned.replace(init_from="", clips_per_epoch=scratch.clips_per_epoch) == scratch
    specs = EXPERIMENTS["rate_pretraining"](profile, "a-split1", frame_stride_max=2)
    assert [spec.frame_stride_max for spec in specs] == [2, 0, 2] and specs[2].parent_spec == specs[1]
    assert EXPERIMENTS["rate_pretraining"](profile, "a-split1", seeds=(1,), task="action")[1] == pretrained
    with pytest.raises(IgnoredOverrideError, match=r"rate_pretraining sets task itself, to speed and then action; "):
        EXPERIMENTS["rate_pretraining"](profile, "a-split1", task="speed")


@pytest.mark.parametrize(
    ("experiment", "on_flow"),
    [("sports1m", {"R3D"}), ("kinetics", {"R(2+1)D", "R3D"}), ("transfer", {"R(2+1)D", "R3D"})],
)
def test_networks_on_flow(experiment, on_flow):
    """Of Table 4 the last one, of Tables 5 and 6 all but other papers'; on RGB all, in the order of `variants`."""
    build = partial(EXPERIMENTS[experiment], "small", "a-split1", seeds=(0, 1))
    specs = build(variants=("R(2+1)D", "C3D", "R3D"))
    assert {spec.variant for spec in specs if spec.modality == "flow"} == on_flow
    assert list(dict.fromkeys(spec.variant for spec in specs if spec.modality == "rgb")) == ["R(2+1)D", "C3D", "R3D"]
    assert [spec for spec in specs if spec.variant == "R3D"] == build(variants=("R3D",))
    assert all(spec.parent_spec in specs for spec in specs if spec.parent_spec)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_settings_hold_in_all_runs_from_scratch(experiment):
    settings = {
        "epochs": "5", "lr": 0.03, "warmup_epochs": 1, "lr_decay_epochs": "3", "batch_size": 16, "flip": "false",
    }  # fmt: skip
    specs = EXPERIMENTS[experiment]("small", "a-split1", **settings)
    assert all(spec == spec.replace(**settings) for spec in specs if not spec.init_from)


@pytest.mark.parametrize(
    ("experiment", "parameters", "count"),
    [
        ("clip_length", {"init_from": "x.pth"}, 5),
        ("temporal_probe", {"frames": "4,8", "frame_stride": "1,2"}, 12),
        ("optimization_curves", {"depth": "10,18"}, 4),
        ("clip_count", {"eval_clips": "7", "init_from": "x.pth"}, 2),
        ("transfer", {"splits": "1,2", "init_from": "x.pth"}, 8),
        ("kinetics", {"source": "builtin-source-split2"}, 6),
        ("sports1m", {"frames": "4,8"}, 6),
    ],
)
def test_own_parameters_of_an_experiment_are_accepted(experiment, parameters, count):
    assert len(EXPERIMENTS[experiment]("demo", **parameters)) == count


@pytest.mark.parametrize(
    ("experiment", "parameters"),
    [("kinetics", {}), ("kinetics", {"init_from": "x.pth"}), ("transfer", {"splits": "1,2"}), ("rate_pretraining", {})],
)
def test_only_finetuned_runs_have_frozen_stages(experiment, parameters):
    """Their parents are the runs that train the same weights without the setting."""
    plain = EXPERIMENTS[experiment]("small", "a-split1", **parameters)
    specs = EXPERIMENTS[experiment]("small", "a-split1", frozen_stages="2", **parameters)
    assert [spec.frozen_stages for spec in specs] == [2 if spec.init_from else 0 for spec in plain]
    assert [spec.parent_spec for spec in specs] == [spec.parent_spec for spec in plain]
    assert all(spec.parent_spec in specs for spec in specs if spec.parent_spec)
    with pytest.raises(IgnoredOverrideError, match=f"{experiment} has no run for which frozen_stages can be set"):
        EXPERIMENTS[experiment]("small", "a-split1", frozen_stages=2, variants=("s3d",))


def test_networks_of_other_papers_share_settings_without_depth():
    """They run once for all depths, and settings of the paper's networks alone pass them by."""
    specs = EXPERIMENTS["optimization_curves"]("demo", variants=("R3D", "s3d"), depth="10,18", width="4")
    assert [(spec.variant, spec.depth, spec.width) for spec in specs] == [
        ("R3D", 10, 4),
        ("s3d", 18, 64),
        ("R3D", 18, 4),
    ]
    with pytest.raises(IgnoredOverrideError, match="has no run for which width can be set"):
        EXPERIMENTS["variant_comparison"]("demo", variants=("s3d", "C3D"), width=8)


def test_a_network_that_diverges_takes_a_lower_learning_rate():
    rates = {}
    for experiment, data in (("sports1m", "a-split1"), ("kinetics", "b-split1"), ("transfer", "b-split1")):
        for variant in ("mvit_v2_s", "s3d"):
            specs = EXPERIMENTS[experiment]("small", data, variants=(variant, "R3D"))
            rates[variant] = {spec.lr for spec in specs if spec.variant == variant}
        whole = {0.02} if experiment == "sports1m" else {0.02, 0.004}
        assert rates == {"s3d": whole, "mvit_v2_s": {lr / 10 for lr in whole}}
    ours = EXPERIMENTS["kinetics"]("small", "b-split1", variants=("mvit_v2_s",), lr="0.03")
    assert [spec.lr for spec in ours] == [0.03, 0.03, 0.0004]


@pytest.mark.parametrize("profile", ["small", "demo"])
@pytest.mark.parametrize("variant", [*NEIGHBORS, "R2D", "c2p22", "R(2+1)D"])
def test_weights_of_the_rate_fit_the_network_of_actions(variant, profile):
    specs = EXPERIMENTS["rate_pretraining"](profile, "a-split1", variants=(variant,))[1:]
    crop = max(64, specs[0].crop)  # enough for all networks
    with torch.device("meta"):
        pretrained, finetuned = (
            Neighbor(variant, num_classes=2, frames=spec.frames, crop=crop)
            if variant in NEIGHBORS
            else VideoResNet(variant, 10, 2, num_classes=2, frames=spec.frames)
            for spec in specs
        )
    shapes = [{name: value.shape for name, value in m.state_dict().items()} for m in (pretrained, finetuned)]
    assert shapes[0] == shapes[1]
