"""Checkpoints of a run: written atomically, and read back only for the same spec and data."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict

import torch

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.engine.distributed import all_gather_object, on_rank_zero
from r21d_core.engine.state import PARTS, TrainState
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec


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


def abort(run: Run, state: TrainState, reason: str) -> None:
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
        if missing := {"fingerprint", "state", *PARTS} - saved.keys():
            raise ValueError(f"has no {min(missing)}")
    except FileNotFoundError:
        raise R21DError(f"{path}: no such checkpoint; train the run first") from None
    except Exception as error:  # zipfile, pickle and torch raise many kinds for damaged files
        raise R21DError(f"{path}: not a complete checkpoint ({error}); delete it to restart the run") from error
    if spec != run.spec:
        differ = ", ".join(spec.changes_from(run.spec))
        raise R21DError(f"{path}: a checkpoint of another spec ({differ} differ); move it away")
    return saved


def check_fingerprint(run: Run, fingerprint: str, manifest: Manifest) -> None:
    """Raise R21DError if `fingerprint`, recorded by the run, is not the manifest's."""
    if fingerprint != manifest.fingerprint:
        raise R21DError(
            f"{run.folder}: was trained on another version of {manifest.path} (videos, labels or splits differ); "
            "restore that manifest, or move the run folder away to train it again"
        )
