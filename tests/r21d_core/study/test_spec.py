from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.recipes import RECIPES
from r21d_core.study.spec import RANGES, Spec, format_settings, parse_settings, run_labels

FIELDS = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(TABLE_2),
        "seed": st.integers(0, 10**6),
        "lr": st.floats(1e-6, 10),
        "flip": st.booleans(),
        "data": st.text(min_size=1, max_size=20),
        "frames": st.integers(1, 64),
        "modality": st.sampled_from(["rgb", "flow"]),
    }
)


@given(FIELDS)
def test_json_round_trip_gives_an_equal_spec(values):
    for spec in (Spec(**values), *RECIPES.values()):
        assert Spec.from_json(spec.to_json()) == spec
        assert Spec.from_json(spec.to_json()).folder == spec.folder
    assert Spec().replace(**{key: str(value) for key, value in values.items()}) == Spec(**values)


@given(FIELDS, FIELDS)
def test_specs_share_a_folder_only_if_equal(first, second):
    assert (Spec(**first).folder == Spec(**second).folder) == (first == second)


def test_equal_numbers_of_any_type_give_one_hash():
    specs = [Spec(warmup_epochs=value) for value in (1, 1.0, "1")]
    assert len({spec.hash for spec in specs}) == len(set(specs)) == 1
    assert Spec.from_json(specs[0].to_json()).folder == specs[0].folder


@pytest.mark.parametrize("kind", [int, str])
def test_long_seeds_stay_as_they_are(kind):
    assert [Spec(seed=kind(seed)).seed for seed in (2**53 + 1, 2**64 - 1)] == [2**53 + 1, 2**64 - 1]


def test_folders_of_committed_records_do_not_change():
    assert Spec().folder == "r21d-18-8f-44136fa355"
    spec = Spec(variant="f-R2D", seed=1, profile="demo")
    assert spec.folder == f"demo-fr2d-18-8f-{spec.hash}"


DEFAULTS = {
    "variant": "R(2+1)D", "depth": 18, "width": 64, "frames": 8, "frame_stride": 1, "frame_stride_max": 0,
    "task": "action", "modality": "rgb", "data": "kinetics-400", "profile": "paper", "seed": 0, "init_from": "",
    "midplanes_per_block": False, "fc_init": "normal", "eps": 1e-3, "precision": "fp32", "frame_height": 128,
    "frame_width": 171, "crop": 112, "crop_area": 0.0, "flip": True, "brightness": 0.0, "color": 0.0, "epochs": 45,
    "clips_per_epoch": 1_000_000, "batch_size": 32, "grad_accum_steps": 1, "lr": 0.01, "warmup_epochs": 10.0,
    "lr_schedule": "step", "lr_decay_epochs": 10.0, "lr_decay": 0.1, "momentum": 0.9, "nesterov": False,
    "weight_decay": 1e-4, "label_smoothing": 0.0, "decay_biases": True, "eval_clips": 10, "frozen_stages": 0,
}  # fmt: skip


def test_defaults_are_those_of_the_committed_records():
    """The hash leaves out what has its default, and so cannot tell that a default has another effect."""
    assert asdict(Spec()) == DEFAULTS, "a default is part of every earlier run; a new field's must be off"


def test_every_number_has_a_range():
    numbers = {field.name for field in fields(Spec) if type(field.default) in (int, float)}
    ranged = [key for keys, *_ in RANGES for key in keys]
    assert sorted(ranged) == sorted(numbers), "a number without a row accepts nan, inf and -1: add it to RANGES"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": 1}, "no key 'epoch'; did you mean epochs?"),
        ({"zzz": 1}, "keys: variant, depth"),
        ({"batch_size": "0.5"}, "batch_size = '0.5', expected a whole number"),
        ({"batch_size": 0}, "batch_size = 0, expected 1 or more"),
        ({"seed": 2**64}, "seed = 18446744073709551616, expected a whole number from 0 to 2**64 - 1"),
        ({"lr": "fast"}, "lr = 'fast', expected a number"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"lr": -1}, "lr = -1.0"),
        ({"lr": "inf"}, "lr = inf, expected a finite number"),
        ({"nesterov": True, "momentum": 0}, "false where momentum = 0"),
        ({"crop": 200}, "crop = 200, expected 128 or less"),
        ({"task": "sound"}, "expected one of action, speed, arrow"),
        ({"flip": "yes"}, "expected true or false"),
        ({"grad_accum_steps": 5}, "a divisor of batch_size = 32"),
        ({"eps": 0}, "eps = 0.0, expected a finite number above 0"),
        ({"crop_area": 1.5}, "a fraction from 0 to 1"),
        ({"frame_stride": 2, "frame_stride_max": 1}, "0, or 2 or more"),
        ({"frame_stride_max": 2, "task": "speed"}, "for the task action"),
        ({"lr_schedule": "linear"}, "one of step, cosine"),
        ({"epochs": True}, "expected a whole number"),
        ({"epochs": 0}, "epochs = 0, expected 1 or more, or init_from"),
        ({"modality": "flow", "task": "speed"}, "rgb for the tasks speed and arrow"),
        ({"init_from": "{frames: 8}"}, "expected JSON"),
        ({"init_from": "{8}"}, "expected JSON"),
        ({"init_from": '{"frame": 8}'}, "did you mean frames"),
        ({"init_from": '{"frames": 0}'}, "1 or more"),
        ({"frozen_stages": 6, "init_from": "mine.pt"}, "frozen_stages = 6, expected a whole number from 0 to 5"),
        ({"frozen_stages": 2}, "frozen_stages = 2, expected 0 without init_from, as the weights would stay random"),
    ],
)
def test_impossible_values_are_named_with_the_expected(changes, says):
    with pytest.raises(R21DError) as error:
        Spec().replace(**changes)
    assert says in str(error.value)


def test_settings_need_an_equals_sign():
    assert parse_settings(["lr=0.1", "data=a=b"]) == {"lr": "0.1", "data": "a=b"}
    with pytest.raises(R21DError, match="key=value"):
        parse_settings(["lr"])


def test_finetune_spec_has_the_original_as_parent():
    short = Spec(frames=8, data="a b", seed=2)
    spec = short.finetune_spec(frames=32, epochs=0, lr=0.01)
    assert spec.init_from == '{"epochs": 45, "frames": 8}', "lr is the same in both"
    assert spec.parent_spec == short and short.parent_spec is None
    assert spec.replace(seed=5).parent_spec == short.replace(seed=5), "parent and child have one seed"
    assert Spec.from_json(spec.to_json()) == spec and spec.folder != short.replace(frames=32).folder


def test_finetune_specs_can_be_chained():
    first = Spec(data="sports1m", seed=1)
    second = first.finetune_spec(data="kinetics-400", epochs=15)
    third = second.finetune_spec(data="ucf101-split2", epochs=8, eval_clips=20)
    assert third.parent_spec == second and second.parent_spec == first and first.parent_spec is None
    assert Spec.from_json(third.to_json()) == third
    evaluated = second.finetune_spec(epochs=0)
    assert run_labels([first, evaluated, second]) == [
        "R(2+1)D-18 (seed 1, 8 frames, 10 clips, sports1m)",
        "R(2+1)D-18 (seed 1, 8 frames, 10 clips, kinetics-400, tested)",
        "R(2+1)D-18 (seed 1, 8 frames, 10 clips, kinetics-400, finetuned)",
    ]
    assert evaluated.parent_spec == second and evaluated.finetune_spec(epochs=0).parent_spec.epochs == 0
    assert third.replace(seed=4).parent_spec.parent_spec == first.replace(seed=4)


def test_label_of_one_clip_is_in_the_singular():
    assert run_labels([Spec(eval_clips=1)]) == ["R(2+1)D-18 (seed 0, 8 frames, 1 clip)"]


def test_labels_of_a_sweep_have_what_differs():
    specs = [Spec(lr=lr, weight_decay=decay) for lr in (0.01, 0.1) for decay in (0, 1e-4)]
    specs += [Spec(seed=1), *(spec.finetune_spec(epochs=2) for spec in specs[1::2])]
    *swept, alone, tuned, other = (label.partition("8 frames, 10 clips")[2] for label in run_labels(specs))
    assert swept == [f", lr={lr}, weight_decay={decay})" for lr in ("0.01", "0.1") for decay in ("0", "0.0001")]
    assert alone == ")" and (tuned, other) == (", finetuned, lr=0.01)", ", finetuned, lr=0.1)")


def test_run_with_frozen_stages_starts_from_one_without():
    """From random weights there is no other; a run from that run, or from a file, may have them like its own."""
    spec = Spec(data="b", init_from='{"data": "a"}', frozen_stages=2)
    assert spec.parent_spec == Spec(data="a")
    for start in (spec, spec.replace(init_from="mine.pt")):
        tested = start.finetune_spec(epochs=0)
        assert tested.frozen_stages == 2 and tested.parent_spec == start


def test_init_from_may_be_a_file():
    spec = Spec(init_from="r2plus1d_18-91a641e6.pth", midplanes_per_block=True, eps=1e-5, epochs=0)
    assert spec.init_file == "r2plus1d_18-91a641e6.pth" and spec.parent_spec is None
    assert spec.finetune_spec(epochs=3).parent_spec == spec and spec.finetune_spec(epochs=3).init_file == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [("./mine.pt", "mine.pt"), (".//mine.pt", "mine.pt"), ("runs/RUN/", "runs/RUN"), ("a/../mine.pt", "a/../mine.pt")],
)
def test_spellings_of_a_path_make_one_run(given, expected):
    """As far as the path tells: behind a link, a/.. need not be the folder of a."""
    assert Spec(init_from=given) == Spec(init_from=expected) and Spec(init_from=given).init_from == expected


def test_settings_as_text_keep_names_that_end_like_numbers():
    assert format_settings({"init_from": "weights-1.0", "lr": 1.0}) == "init_from=weights-1.0, lr=1"


def test_variant_may_be_letters():
    assert Spec(variant="ppppp") == Spec(variant="R(2+1)D")
    assert Spec(variant="33p22", profile="demo").folder.startswith("demo-33p22-18-8f-")
