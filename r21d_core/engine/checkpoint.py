"""Checkpoints of a run: written atomically, and read back only for the same spec and data."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import torch

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.engine.distributed import all_gather_object, on_rank_zero, raise_on_all_ranks
from r21d_core.engine.origin import check_fingerprint
from r21d_core.engine.state import PROGRESS, TrainState
from r21d_core.models.imported import import_builder
from r21d_core.runs.run import Run, check_history
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_imported


def save_checkpoint(run: Run, manifest: Manifest, state: TrainState) -> None:
    """Write `checkpoint.pt`, on rank zero; raises R21DError on all ranks if a weight is not finite."""
    for substituted in all_gather_object(state.substituted):
        state.substituted.update(substituted)

    def write() -> None:
        if not all(value.isfinite().all() for value in state.model.state_dict().values()):
            abort(run, state, f"weights are not finite after step {state.step}")
        buffer = io.BytesIO()
        torch.save({"spec": asdict(run.spec), "fingerprint": manifest.fingerprint, **state.state_dict()}, buffer)
        run.write("checkpoint.pt", buffer.getvalue())

    on_rank_zero(write)


def abort(run: Run, state: TrainState, reason: str) -> NoReturn:
    """Raise R21DError with the reason, the epoch and the last good checkpoint."""
    path = run.folder / "checkpoint.pt"
    saved = f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
    raise R21DError(f"{run.folder}: in epoch {state.epoch + 1}, {reason}; {saved}. A lower lr may help.")


def resume(run: Run, manifest: Manifest, state: TrainState) -> bool:
    """Load the run's checkpoint into `state`; return whether there is one. Raises R21DError for one of other data."""
    saved = on_rank_zero(lambda: load_checkpoint(run) if run.has_checkpoint else None)
    if saved is None:
        return False
    check_fingerprint(run, saved["fingerprint"], manifest)
    try:
        state.load_state_dict(saved)
    except Exception as error:  # torch raises many kinds for tensors that do not fit
        raise R21DError(f"{run.folder}/checkpoint.pt: does not fit ({error}); delete it to restart the run") from error
    return True


def load_checkpoint(run: Run) -> dict:
    """Return the run's checkpoint, tensors on the host; raises R21DError if it is damaged or of another spec."""
    path = run.folder / "checkpoint.pt"
    try:
        with zipfile.ZipFile(path) as file:
            if member := file.testzip():  # torch.load does not compare the CRC-32
                raise ValueError(f"{member} is damaged")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        spec = Spec().replace(**saved["spec"])  # fields added later take their defaults
        _check_progress(path, spec, saved)
    except FileNotFoundError:
        raise R21DError(f"{path}: no such checkpoint; train the run first") from None
    except Exception as error:  # zipfile, pickle and torch raise many kinds for damaged files
        raise R21DError(f"{path}: not a complete checkpoint ({error}); delete it to restart the run") from error
    if spec != run.spec:
        differ = ", ".join(spec.changes_from(run.spec))
        raise R21DError(f"{path}: a checkpoint of another spec ({differ} differ); move it away")
    return saved


def _check_progress(path: Path, spec: Spec, saved: dict) -> None:
    """Raise ValueError or R21DError unless the saved progress is one that `save_checkpoint` can have written."""
    state = saved["state"]
    if {name: type(value) for name, value in state.items()} != PROGRESS or type(saved["fingerprint"]) is not str:
        kinds = ", ".join(f"{name} ({kind.__name__})" for name, kind in PROGRESS.items())
        raise ValueError(f"expected the text fingerprint, and {kinds}")
    if not all(0 <= state[name] < math.inf for name, kind in PROGRESS.items() if kind in (int, float)):
        raise ValueError("expected finite numbers from 0 on for epoch, step, n_clips and the sums")
    if len(check_history(path, state["history"])) != state["epoch"] or state["epoch"] > spec.epochs:
        raise ValueError(f"has {len(state['history'])} epochs of history, but says that {state['epoch']} are finished")
    if not all(type(text) is str for pair in state["substituted"].items() for text in pair):
        raise ValueError("expected names of videos and reasons as substituted")
    if not all(value.isfinite().all() for value in saved["model"].values()):
        raise ValueError("has weights that are not finite")


def check_same_source(variant: str) -> None:
    """Raise R21DError on all ranks if the hosts have other files of one's own network, or one has none."""
    if not is_imported(variant):
        return
    with raise_on_all_ranks():
        sha256 = import_builder(variant)[1]
    first, *others = all_gather_object(sha256)
    for rank, other in enumerate(others, 1):
        if other != first:
            raise R21DError(
                f"variant {variant}: its file is another one on rank {rank} (SHA-256 {other[:8]}…) than on rank 0 "
                f"({first[:8]}…); put the same file on every host, such as in a folder that they share"
            )
