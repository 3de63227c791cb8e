"""Load the insight records of runs, or compute them from checkpoints: `r21d insight` and its notebooks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from r21d_analysis.interpret.artifact import ATTRIBUTIONS, FILTERS, InsightRecord, load_record, save_record
from r21d_analysis.interpret.attributions import STEPS
from r21d_analysis.interpret.checkpoints import checkpoint_sha256, first_per_class, open_test_clips
from r21d_analysis.interpret.inspect_run import analyze_attributions, analyze_filters
from r21d_core import R21DError
from r21d_core.engine.checkpoint import check_fingerprint
from r21d_core.engine.device import device_name, pick_device
from r21d_core.engine.plan import BUILTIN_ROOT, load_manifests
from r21d_core.runs.run import Run

PER_CLASS = 5  # test clips of a class for the measurement of evidence


def load_or_compute_filters(
    runs: Sequence[Run], manifest: Path | str | None = None, *, device: str = "auto", builtin: Path | str = BUILTIN_ROOT
) -> list[InsightRecord]:
    """Return the filter record of each run that has one or a checkpoint; print a line for each other run."""
    return _load_or_compute(runs, FILTERS, analyze_filters, {}, manifest, device, builtin)


def load_or_compute_attributions(
    runs: Sequence[Run],
    manifest: Path | str | None = None,
    *,
    videos: Sequence[str] = (),
    per_class: int = PER_CLASS,
    steps: int = STEPS,
    device: str = "auto",
    builtin: Path | str = BUILTIN_ROOT,
) -> list[InsightRecord]:
    """Return the attribution record of each run that has one or a checkpoint; print a line for each other run.

    `steps` are those of integrated gradients. A record with other settings is computed again if the run has its
    checkpoint, and returned as it is otherwise.
    """
    settings = {"videos": list(videos), "per_class": per_class, "steps": steps}
    return _load_or_compute(runs, ATTRIBUTIONS, analyze_attributions, settings, manifest, device, builtin)


def _load_or_compute(
    runs: Sequence[Run], name: str, analyze: Callable[..., InsightRecord], settings: dict, *source
) -> list[InsightRecord]:
    records = []
    for run in runs:
        path, weights = run.folder / name, checkpoint_sha256(run)
        try:
            if not path.exists() and not weights:
                raise R21DError(
                    f"{run.folder}: has no {name} and no checkpoint of a finished run; where its checkpoint is, "
                    f"`r21d insight {run.folder.name}` in the folder of runs writes it"
                )
            expected, record = settings | {"weights": weights}, load_record(path) if path.exists() else None
            if not record or (weights and any(record.metadata[key] != value for key, value in expected.items())):
                print(f"{run.spec.variant}-{run.spec.depth}, seed {run.spec.seed}: computing {name} …", flush=True)
                record = _compute(run, analyze, settings, *source)
                record.metadata.update(expected)
                save_record(Path(str(run.folder), name), record)
            if "evidence_label" in record.arrays:  # of the first items of each class, as in the scores
                rows = first_per_class(run.scores.labels, record.metadata["per_class"])
                record.arrays["evidence_groups"] = run.scores.groups[rows]
            records.append(record)
        except R21DError as error:
            print(f"{run.spec.variant}-{run.spec.depth}, seed {run.spec.seed}, is left out of {name}: {error}")
    return records


def _compute(
    run: Run, analyze: Callable, settings: dict, manifest: Path | str | None, device: str, builtin: Path | str
) -> InsightRecord:
    target, start = pick_device(device), time.perf_counter()
    default = Path(builtin) / f"{run.spec.data}.csv"  # where `r21d manifest` writes it
    data = load_manifests([run.spec], manifest or (default if default.exists() else None), builtin)[run.spec.data]
    check_fingerprint(run, run.environment["fingerprint"], data)
    threads = torch.get_num_threads()
    if run.spec.crop < 64:  # small convolutions gain nothing from a second thread, and lose much on a busy machine
        torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False):  # batches have many sizes
            record = analyze(run, open_test_clips(run.spec, data, target), target, **settings)
    finally:
        torch.set_num_threads(threads)
    measured = {"device": device_name(target), "seconds": round(time.perf_counter() - start, 1)}
    return InsightRecord(record.metadata | {"spec": json.loads(run.spec.to_json())} | measured, record.arrays)
