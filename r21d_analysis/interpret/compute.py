"""What `r21d insight` and its notebooks do: read what was kept of a look into runs, or look where a checkpoint is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from r21d_analysis.interpret.artifact import ATTRIBUTIONS, FILTERS, InsightRecord, load_record, save_record
from r21d_analysis.interpret.checkpoints import EvalClips, checkpoint_sha256, open_test_clips
from r21d_analysis.interpret.inspect_run import analyze_attributions, analyze_filters
from r21d_core import R21DError
from r21d_core.engine.checkpoint import check_fingerprint
from r21d_core.engine.device import device_name, pick_device
from r21d_core.engine.runner import BUILTIN_ROOT, load_manifests
from r21d_core.runs.run import Run

PER_CLASS = 5  # test clips of a class whose evidence is weighed


def load_or_compute_filters(
    runs: Sequence[Run], manifest: Path | str | None = None, *, device: str = "auto", builtin: Path | str = BUILTIN_ROOT
) -> list[InsightRecord]:
    """What `look_at_filters` gave of each of `runs` that has it or a checkpoint; of the others a line is printed."""
    return _of_each(runs, FILTERS, {}, manifest, device, builtin, analyze_filters)


def load_or_compute_attributions(
    runs: Sequence[Run],
    manifest: Path | str | None = None,
    *,
    videos: Sequence[str] = (),
    per_class: int = PER_CLASS,
    device: str = "auto",
    builtin: Path | str = BUILTIN_ROOT,
) -> list[InsightRecord]:
    """What `look_at_attributions` gave of each of `runs` that has it or a checkpoint; of the others a line is printed.

    A record made with other `videos` or `per_class` is made anew where the checkpoint is, and shown as it is elsewhere.
    """

    def look(run: Run, test: EvalClips, target: torch.device) -> InsightRecord:
        return analyze_attributions(run, test, videos, per_class, target)

    wanted = {"videos": list(videos), "per_class": per_class}
    return _of_each(runs, ATTRIBUTIONS, wanted, manifest, device, builtin, look)


def _of_each(
    runs: Sequence[Run],
    name: str,
    wanted: dict,
    manifest: Path | str | None,
    device: str,
    builtin: Path | str,
    look: Callable[[Run, EvalClips, torch.device], InsightRecord],
) -> list[InsightRecord]:
    found = []
    for run in runs:
        try:
            found.append(_kept(run, name, wanted) or _looked(run, name, wanted, manifest, device, builtin, look))
        except R21DError as error:
            print(f"{run.spec.variant}-{run.spec.depth}, seed {run.spec.seed}, is left out of {name}: {error}")
    return found


def _kept(run: Run, name: str, wanted: dict) -> InsightRecord | None:
    """The record, unless there is a checkpoint to make another one of: of other weights or with other settings."""
    path, weights = run.folder / name, checkpoint_sha256(run)
    if not path.exists():
        if not weights:
            raise R21DError(
                f"{run.folder}: has no {name} and no checkpoint of a finished run; where its checkpoint is, "
                f"`r21d insight {run.folder.name}` in the folder of runs writes it"
            )
        return None
    kept = load_record(path)
    same = kept.metadata["weights"] == weights and all(kept.metadata[key] == value for key, value in wanted.items())
    return kept if same or not weights else None


def _looked(run: Run, name: str, wanted: dict, manifest, device: str, builtin, look) -> InsightRecord:
    target, began = pick_device(device), time.perf_counter()
    own = Path(builtin) / f"{run.spec.data}.csv"  # where `r21d manifest` writes it
    data = load_manifests([run.spec], manifest or (own if own.exists() else None), builtin)[run.spec.data]
    check_fingerprint(run, run.environment["fingerprint"], data)
    threads = torch.get_num_threads()
    if (
        run.spec.crop < 64
    ):  # a second thread makes convolutions this small no faster, and far slower where cores are busy
        torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False):  # batches are of many sizes
            kept = look(run, open_test_clips(run.spec, data, target), target)
    finally:
        torch.set_num_threads(threads)
    told = {
        **kept.metadata, **wanted, "weights": checkpoint_sha256(run), "spec": json.loads(run.spec.to_json()),
        "device": device_name(target), "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    kept = InsightRecord(told, kept.arrays)
    save_record(run.folder / name, kept)
    return kept
