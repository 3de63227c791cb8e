"""A Spec names its run folder, survives JSON, and refuses what cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.study.experiments import EXPERIMENTS, RECIPES, TABLE_2, recipe, variant_comparison
from r21d_core.study.spec import Spec, parse_settings

SOME = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(TABLE_2),
        "seed": st.integers(0, 10**6),
        "lr": st.floats(1e-6, 10),
        "flip": st.booleans(),
        "data": st.text(min_size=1, max_size=20),
        "frames": st.integers(1, 64),
    }
)


@given(SOME)
def test_json_gives_the_same_spec_and_folder(values):
    spec = Spec(**values)
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec.from_json(spec.to_json()).folder == spec.folder


@given(SOME, SOME)
def test_specs_share_a_folder_only_if_equal(one, other):
    assert (Spec(**one).folder == Spec(**other).folder) == (one == other)


@given(SOME)
def test_values_may_be_strings(values):
    assert Spec().replace(**{key: str(value) for key, value in values.items()}) == Spec(**values)


def test_folders_of_committed_records_stay_where_they_are():
    assert Spec().folder == "r21d-18-8f-44136fa355"
    assert (
        Spec(variant="f-R2D", seed=1, profile="demo").folder
        == "demo-fr2d-18-8f-" + Spec("f-R2D", seed=1, profile="demo").hash
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rat": 1}, "no key 'rat'; did you mean rate?"),
        ({"zzz": 1}, "keys: variant, depth"),
        ({"batch_size": "0.5"}, "batch = '0.5', expected a whole number"),
        ({"batch_size": 0}, "batch = 0, expected 1 or more"),
        ({"lr": "fast"}, "rate = 'fast', expected a number"),
        ({"lr": float("nan")}, "rate = nan"),
        ({"lr": -1}, "rate = -1.0"),
        ({"crop": 200}, "crop = 200, expected 128 or less"),
        ({"task": "sound"}, "expected one of action, speed, arrow"),
        ({"flip": "yes"}, "expected true or false"),
        ({"grad_accum_steps": 5}, "a divisor of batch_size = 32"),
        ({"crop_area": 1.5}, "a share from 0 to 1"),
        ({"epochs": True}, "expected a whole number"),
    ],
)
def test_impossible_values_are_named_with_what_would_be_right(changes, says):
    with pytest.raises(R21DError) as error:
        Spec().replace(**changes)
    assert says in str(error.value)


def test_settings_need_an_equals_sign():
    assert parse_settings(["rate=0.1", "data=a=b"]) == {"lr": "0.1", "data": "a=b"}
    with pytest.raises(R21DError, match="key=value"):
        parse_settings(["lr"])


def test_paper_profile_is_section_4_1():
    spec = recipe("paper")
    assert (spec.depth, spec.frames, spec.crop, spec.frame_height, spec.frame_width) == (18, 8, 112, 128, 171)
    assert (spec.epochs, spec.clips_per_epoch, spec.batch_size, spec.lr, spec.warmup_epochs) == (
        45,
        10**6,
        32,
        0.01,
        10,
    )
    assert (spec.lr_decay_epochs, spec.lr_decay, spec.eval_clips, spec.frame_stride, spec.crop_area) == (
        10,
        0.1,
        10,
        1,
        0,
    )


def test_table_2_has_twelve_runs_a_seed_each_with_its_folder():
    specs = variant_comparison("small", "ucf101-split1", seeds=(0, 1))
    assert len(specs) == len({spec.folder for spec in specs}) == 24
    assert {spec.data for spec in specs} == {"ucf101-split1"}


def test_demonstrations_have_folders_of_their_own():
    assert all(spec.folder.startswith("demo-") for spec in variant_comparison("demo"))
    assert not any(spec.folder.startswith("demo-") for spec in variant_comparison("small"))


def test_unknown_profile_lists_those_there_are():
    with pytest.raises(R21DError, match=r"expected one of paper, small, demo"):
        recipe("large")
    assert set(RECIPES) == {"paper", "small", "demo"}


def test_one_number_written_in_three_ways_is_one_spec():
    specs = [Spec(warmup_epochs=value) for value in (1, 1.0, "1")]
    assert len({spec.hash for spec in specs}) == len(set(specs)) == 1
    assert Spec.from_json(specs[0].to_json()).folder == specs[0].folder


@pytest.mark.parametrize("profile", RECIPES)
def test_recipes_come_back_from_json_to_their_folder(profile):
    spec = RECIPES[profile]
    assert Spec.from_json(spec.to_json()).folder == spec.folder


def test_a_later_run_knows_the_one_it_starts_from():
    short = Spec(frames=8, data="a b", seed=2)
    later = short.finetune_spec(frames=32, epochs=0, lr=0.01)
    assert later.init_from == '{"epochs": 45, "frames": 8}', "the rate is the same, so it is not told"
    assert later.parent_spec == short and short.parent_spec is None
    assert later.replace(seed=5).parent_spec == short.replace(seed=5), "seeds go together"
    assert Spec.from_json(later.to_json()) == later and later.folder != short.replace(frames=32).folder


@pytest.mark.parametrize(
    ("init_from", "says"),
    [
        ("{frames: 8}", "expected JSON"),
        ("{8}", "expected JSON"),
        ('{"frame": 8}', "did you mean frames"),
        ('{"frames": 0}', "1 or more"),
    ],
)
def test_impossible_start_is_refused(start, says):
    with pytest.raises(R21DError, match=says):
        Spec(init_from=start)


def test_no_epochs_need_a_start():
    with pytest.raises(R21DError, match="epochs = 0"):
        Spec(epochs=0)


def test_starts_go_back_as_far_as_one_likes():
    first = Spec(data="sports1m", seed=1)
    second = first.finetune_spec(data="kinetics-400", epochs=15)
    third = second.finetune_spec(data="ucf101-split2", epochs=8, eval_clips=20)
    assert third.parent_spec == second and second.parent_spec == first and first.parent_spec is None
    assert Spec.from_json(third.to_json()) == third
    assert (
        second.finetune_spec(epochs=0).parent_spec == second
        and second.finetune_spec(epochs=0).finetune_spec(epochs=0).parent_spec.epochs == 0
    )
    assert third.replace(seed=4).parent_spec.parent_spec == first.replace(seed=4)


def test_a_start_may_be_a_file_of_weights():
    spec = Spec(init_from="r2plus1d_18-91a641e6.pth", midplanes_per_block=True, eps=1e-5, epochs=0)
    assert spec.init_file == "r2plus1d_18-91a641e6.pth" and spec.parent_spec is None
    assert spec.finetune_spec(epochs=3).parent_spec == spec and spec.finetune_spec(epochs=3).init_file == ""


def test_flow_takes_actions_only():
    assert Spec(modality="flow").hash != Spec().hash
    with pytest.raises(R21DError, match="rgb for the tasks speed and arrow"):
        Spec(modality="flow", task="speed")


@pytest.mark.parametrize(
    ("experiment", "key", "value"),
    [("clip_length", "frames", "8"), *((name, "modality", "flow") for name in ("sports1m", "kinetics", "transfer"))],
)
def test_what_an_experiment_sets_itself_is_refused(experiment, key, value):
    with pytest.raises(R21DError, match=rf"^{experiment} sets {key} itself, to "):
        EXPERIMENTS[experiment]("demo", **{key: value})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_is_set_is_heeded_wherever_a_run_starts_afresh(experiment):
    settings = {
        "epochs": "5",
        "lr": 0.03,
        "warmup_epochs": 1,
        "lr_decay_epochs": "3",
        "batch_size": 16,
        "flip": "false",
    }
    specs = EXPERIMENTS[experiment]("small", "a-split1", **settings)
    assert all(spec == spec.replace(**settings) for spec in specs if not spec.init_from)


@pytest.mark.parametrize(
    ("experiment", "settings", "count"),
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
def test_what_an_experiment_takes_itself_stays_its_own(experiment, settings, count):
    assert len(EXPERIMENTS[experiment]("demo", **settings)) == count


def test_variant_may_be_letters():
    assert Spec(variant="ppppp") == Spec(variant="R(2+1)D")
    assert Spec(variant="33p22", profile="demo").folder.startswith("demo-33p22-18-8f-")
    with pytest.raises(R21DError, match=r"variant '33x22': expected one of R2D, .*, or five letters such as 33p22"):
        Spec(variant="33x22")
