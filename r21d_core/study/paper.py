"""The numbers of the paper's Tables 2 to 6, as printed, and the settings of its runs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from r21d_core import R21DError
from r21d_core.study.experiments import EXPERIMENTS
from r21d_core.study.spec import Spec

# The arguments that give an experiment's runs in the paper, beside Kinetics as the data; of all others Table 2's runs
# are the nearest.
_RUNS: dict[str, list[dict]] = {
    "variant_comparison": [{"frames": 8}, {"frames": 16}],
    "clip_count": [{}], "clip_length": [{}], "kinetics": [{}], "optimization_curves": [{}],
    "sports1m": [{"data": "sports1m"}],
    "transfer": [{"data": data, "source": source} for data in ("ucf101", "hmdb51")
                 for source in ("kinetics-400", "sports1m")],
}  # fmt: skip
# Settings of the profile `paper`, or single values of them, that the paper does not state, by who chose them: for an
# experiment, or for its runs of one role; "" is any experiment.
_UNSTATED = {
    "authors' code": {
        "": "brightness color decay_biases eps fc_init flip label_smoothing momentum nesterov precision weight_decay",
        "kinetics": "frames",
        "transfer": "frames",
        "transfer, finetuned": "epochs clips_per_epoch batch_size lr warmup_epochs lr_decay_epochs grad_accum_steps",
    },
    "ours": {
        "": "eval_clips=101 eval_clips=269",
        "optimization_curves": "frames",
        "clip_length, finetuned": "epochs clips_per_epoch lr warmup_epochs lr_decay_epochs",
        "kinetics, finetuned": "clips_per_epoch warmup_epochs",
        "transfer": "eval_clips=10",
        # The paper has no such run; the profile takes the recipe of Section 4.1.
        "transfer, from scratch": "epochs clips_per_epoch batch_size lr warmup_epochs lr_decay_epochs",
    },
}


def paper(table: int, row: str, column: str) -> float:
    """One printed value of a table of the paper, accuracies in per cent; raises R21DError for an empty cell.

    Rows and columns have the paper's names. Table 2 (Kinetics validation set) has the columns `parameters (M)` and
    `clip@1`, `video@1` with `8f` or `16f`; Table 3 has the rows `8`, `8 tested at 32`, `32` and `8 finetuned at 32`;
    Table 4 has rows such as `R(2+1)D-RGB-8frame`; the rows of Tables 5 and 6 end with the data set of the pretraining,
    such as `R(2+1)D-RGB (Sports-1M)`.
    """
    try:
        return _values()[table, row, column]
    except KeyError:
        raise R21DError(f"the paper's Table {table} has no {column!r} of {row!r}") from None


def paper_table(table: int) -> dict[str, dict[str, float]]:
    """The rows of a table in the paper's order, each a dict of its columns without empty cells."""
    rows: dict[str, dict[str, float]] = {}
    for (number, row, column), value in _values().items():
        if number == table:
            rows.setdefault(row, {})[column] = value
    return rows


@cache
def _values() -> dict[tuple[int, str, str], float]:
    lines = csv.DictReader(files("r21d_core.study").joinpath("paper.csv").read_text().splitlines())
    return {(int(line["table"]), line["row"], line["column"]): float(line["value"]) for line in lines}


def paper_specs(experiment: str, variants: Sequence[str]) -> list[Spec]:
    """The Specs of `variants` in the profile `paper` that stand for the paper's runs of an experiment, in fp32."""
    experiment = experiment if experiment in _RUNS else "variant_comparison"
    common = {"task": "action", "variants": variants, "precision": "fp32"}
    runs = [{"data": "kinetics-400"} | run | common for run in _RUNS[experiment]]
    return [spec for run in runs for spec in EXPERIMENTS[experiment]("paper", **run)]


def chosen_by(setting: str, value: object, experiment: str, role: str) -> str:
    """Who chose a value of `paper_specs` that the paper does not state; empty if it states it."""
    for who, settings in _UNSTATED.items():
        listed = " ".join(settings.get(key, "") for key in ("", experiment, f"{experiment}, {role}")).split()
        if setting in listed or f"{setting}={value}" in listed:
            return who
    return ""
