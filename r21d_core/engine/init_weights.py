"""Where weights come from: a checkpoint, another run's or somebody else's, never one that saw what is tested here."""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace

import torch
from torch import nn

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.models.convert import Weights
from r21d_core.models.load import load_weights_into, read_weights
from r21d_core.models.zoo import resolve_weights
from r21d_core.runs.files import write_atomically
from r21d_core.runs.run import TRAINED_ON, Run, find_run
from r21d_core.study.spec import Spec

UNKNOWN = "what these weights were trained on is not checked against what is tested"


def load_checkpoint(run: Run) -> dict:
    """The checkpoint of `run`, tensors on the host; raises R21DError if it is damaged or of another spec."""
    path = run.folder / "checkpoint.pt"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        spec = Spec().replace(**saved["spec"])  # fields that came later have their defaults
    except FileNotFoundError:
        raise R21DError(f"{path}: no such checkpoint; train the run first") from None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise R21DError(f"{path}: not a whole checkpoint ({error}); delete it to begin the run afresh") from error
    if spec != run.spec:
        differ = [key for key, value in asdict(run.spec).items() if getattr(spec, key) != value]
        raise R21DError(f"{path}: a checkpoint of another spec ({', '.join(differ)} differ); move it away")
    return saved


def init_from(run: Run, network: nn.Module, manifest: Manifest, classes: tuple[str, ...]) -> str:
    """Give the network the weights that the run's Spec starts from; what was taken and what was not, as text.

    The classifier stays as it is where the classes are others, by their names. What the run is trained on is written
    beside it first, with what its start was trained on. Raises R21DError if the start is not finished, its network is
    another, or it was trained on a group that is tested here; so it does where a file is the checkpoint of a run. Of
    other files nobody knows what they were trained on, and their classes are known by their number alone.
    """
    seen = {video.group for video in manifest.split("train")} if run.spec.epochs else set()
    before, weights = run.spec.parent_spec, None
    if before is None:
        weights = read_weights(resolve_weights(run.spec.init_file)) if run.spec.init_file else None
        if weights is None or weights.spec is None:
            _write_groups(run, seen)
            return f"{_from_file(network, weights)}; {UNKNOWN}" if weights else ""
    start = Run(weights.spec, weights.path.parent) if weights else find_run(run.folder.parent, before)
    if not start.is_complete:
        raise R21DError(
            f"{run.folder}: starts from {start.folder}, which is not finished, or no whole run folder; "
            "train that one first"
        )
    earlier = start.trained_on
    if met := earlier & {video.group for video in manifest.split("test")}:
        raise R21DError(
            f"{run.folder}: starts from {start.folder}, which was trained on {len(met)} of the groups that are tested "
            f"here, such as {min(met)!r}, so the result would be too good; start from a run on the same split"
        )
    _write_groups(run, seen | earlier)
    classifier = {"fc.weight", "fc.bias"} if start.scores.classes != classes else set()
    if weights:
        kept = {name: value for name, value in weights.state.items() if name not in classifier}
        return _from_file(network, replace(weights, state=kept))
    state, own = load_checkpoint(start)["network"], network.state_dict()
    other = [name for name in own.keys() - classifier if name not in state or state[name].shape != own[name].shape]
    if other:
        raise R21DError(f"{run.folder}: the weights {min(other)} of {start.folder} do not fit; the networks differ")
    network.load_state_dict(own | {name: value for name, value in state.items() if name not in classifier})
    kept = f", fc made anew for {len(classes)} other classes" if classifier else ""
    return f"{run.folder.name} starts from {start.folder.name}: {len(own) - len(classifier)} tensors{kept}"


def _from_file(network: nn.Module, weights: Weights) -> str:
    return f"{load_weights_into(network, weights)}; SHA-256 {weights.sha256}"


def _write_groups(run: Run, groups: set[str]) -> None:
    write_atomically(run.folder / TRAINED_ON, "".join(f"{group}\n" for group in sorted(groups)))
