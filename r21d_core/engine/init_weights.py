"""Initialize a model from another run's checkpoint or from a file of weights, never from one that saw the test data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.engine.build import Model, build_model
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.models.convert import Weights
from r21d_core.models.cost import CHANNELS
from r21d_core.models.load import check_architecture, load_weights_into, read_weights
from r21d_core.models.zoo import resolve_weights
from r21d_core.runs.run import Run, find_run, write_trained_on
from r21d_core.study.spec import Spec

UNCHECKED = "the training data of these weights are unknown, so they cannot be compared with the test split"


def init_from(run: Run, model: Model, manifest: Manifest, classes: tuple[str, ...]) -> str:
    """Load the weights named by the run's `init_from` into `model`; return a report of what was loaded, or "".

    The classifier keeps its values if the class names differ. The groups of videos that the weights were trained on
    are recorded in the run folder. Raises R21DError if the parent run is not complete, has another network or was
    trained on a group of the test split, and if the run does not train a classifier or first convolution that keeps its
    values. A run's checkpoint counts as that run; of other files, such as a copy of one, the training data are unknown,
    and their classes are compared by number.
    """
    groups = {video.group for video in manifest.split("train")} if run.spec.epochs else set()
    weights, parent = None, None
    if run.spec.init_file:
        weights = read_weights(resolve_weights(run.spec.init_file))
        _check_channels(run.spec, weights)
        parent = _run_of(weights)
    elif run.spec.parent_spec:
        parent = find_run(run.folder.parent, run.spec.parent_spec)
    if not parent:
        if weights:
            _check_classifier(run.spec, weights.path, weights.num_classes, classes)
        write_trained_on(run, groups)
        return f"{load_weights_into(model, weights)}; SHA-256 {weights.sha256}; {UNCHECKED}" if weights else ""
    _check_complete(parent)
    parent_groups = parent.trained_on
    if leaked := parent_groups & {video.group for video in manifest.split("test")}:
        raise R21DError(
            f"{run.folder}: starts from {parent.folder}, which was trained on {len(leaked)} of the test groups, "
            f"such as {min(leaked)!r}, so its accuracy would be too high; start from a run on the same split"
        )
    trained_classes = parent.scores.classes
    _check_classifier(run.spec, parent.folder, trained_classes, classes)
    write_trained_on(run, groups | parent_groups)
    skip = {"fc.weight", "fc.bias"} if trained_classes != classes else set()
    if weights:
        state_dict = {name: value for name, value in weights.state.items() if name not in skip}
        return f"{load_weights_into(model, replace(weights, state=state_dict))}; SHA-256 {weights.sha256}"
    saved, own = load_checkpoint(parent)["model"], model.state_dict()
    if misfit := [name for name in own.keys() - skip if name not in saved or saved[name].shape != own[name].shape]:
        raise R21DError(f"{run.folder}: the weights {min(misfit)} of {parent.folder} do not fit; the networks differ")
    model.load_state_dict(own | {name: value for name, value in saved.items() if name not in skip})
    report = f"{run.folder.name} starts from {parent.folder.name}: {len(own) - len(skip)} tensors"
    return report + (f", fc initialized for {len(classes)} other classes" if skip else "")


def check_init_files(classes: Mapping[Spec, tuple[str, ...]]) -> None:
    """Raise R21DError if the run of one of the Specs, with its classes, cannot start from the file it names.

    A file is read once, and keys and shapes are compared; a checkpoint is that of a finished run. The weights of runs
    named by their Spec, which may not exist yet, are not read.
    """
    for file in dict.fromkeys(spec.init_file for spec in classes if spec.init_file):
        weights = read_weights(resolve_weights(file))
        parent = _run_of(weights)
        if parent:
            _check_complete(parent)
        given = parent.scores.classes if parent else weights.num_classes
        for spec in (spec for spec in classes if spec.init_file == file):
            with torch.device("meta"):
                check_architecture(build_model(spec, len(classes[spec]), torch.device("meta")), weights)
            _check_channels(spec, weights)
            _check_classifier(spec, weights.path, given, classes[spec])


def _run_of(weights: Weights) -> Run | None:
    """Return the run whose checkpoint the weights are; None for other files, also for a checkpoint without its run."""
    path = weights.path
    is_beside_records = path.name == "checkpoint.pt" and path.with_name("spec.json").exists()
    return Run(weights.spec, path.parent) if weights.spec and is_beside_records else None


def _check_complete(parent: Run) -> None:
    """Raise R21DError unless the run that another one starts from is finished."""
    if not parent.is_complete:
        raise R21DError(
            f"{parent.folder}: not finished or not a complete run folder, so no run can start from it; "
            "train that run first"
        )


def _check_classifier(spec: Spec, source: Path, given: tuple[str, ...] | int, classes: tuple[str, ...]) -> None:
    """Raise R21DError if weights of the `given` classes, or so many, leave a random classifier that is not trained."""
    if spec.epochs or given in (classes, len(classes)):
        return
    expected = f"{given} classes"
    if not isinstance(given, int):
        expected = f"the {len(given)} classes {', '.join(given[:3])}{', …' * (len(given) > 3)}"
    raise R21DError(
        f"{source}: weights for {expected}, and {spec.data} has {len(classes)} others, so the classifier would be "
        f"random, and epochs=0 does not train it; test on data with {expected}, or set epochs to 1 or more"
    )


def _check_channels(spec: Spec, weights: Weights) -> None:
    """Raise R21DError if the weights are of another modality, and leave a random convolution that is not trained."""
    if (spec.epochs and not spec.frozen_stages) or weights.in_channels == CHANNELS[spec.modality]:
        return
    untrained, remedy = "epochs=0 does not train it", "test on the modality of the weights, or set epochs to 1 or more"
    if spec.epochs:
        untrained = f"frozen_stages={spec.frozen_stages} does not train it"
        remedy = "set frozen_stages to 0, or take weights of this modality"
    raise R21DError(
        f"{weights.path}: weights for {weights.in_channels} channels, and {spec.modality} has "
        f"{CHANNELS[spec.modality]}, so the first convolution would be random, and {untrained}; {remedy}"
    )
