"""The data sets of an experiment, and what its runs will take.

Imports torch only to measure training steps, after the rows of the manifests are gone: a million take 300 MB.
"""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from r21d_core import R21DError, count_noun
from r21d_core.data.manifest import Manifest, load_manifest
from r21d_core.data.parallel import available_cpus
from r21d_core.data.sampling import frame_counts, task_classes
from r21d_core.engine.origin import check_origin
from r21d_core.models.cost import spec_cost
from r21d_core.runs.run import STATES, find_run, find_runs
from r21d_core.study.recipes import VAL_SUFFIX
from r21d_core.study.spec import Spec, run_labels
from r21d_core.study.variants import is_imported, is_neighbor

BUILTIN_ROOT = Path("data")
WORKER_SECONDS = 5.0  # until worker processes have imported PyTorch


class DataSize(NamedTuple):
    """What a plan needs of a data set."""

    classes: tuple[str, ...]
    counts: dict[str, int]  # videos of each split
    missing: str  # a line if files are missing
    is_empty: bool  # all are
    unused: str  # a line if there are validation videos
    frames: int  # of all videos
    example: tuple[Path, int]  # the file of a video, and its frames


def data_size(manifest: Manifest) -> DataSize:
    """Return the DataSize of a manifest."""
    videos, missing = manifest.videos, ""
    folders = {os.path.dirname(video.path_text) for video in videos}
    # A list of each folder, since a look at each of a million files takes minutes on a network's disk.
    listed = {folder: {*os.listdir(folder)} if os.path.isdir(folder) else set() for folder in folders}
    places = (os.path.split(video.path_text) for video in videos)
    if count := sum(name not in listed[folder] for folder, name in places):
        missing = f"{manifest.card.name}: {count:,} of {len(videos):,} videos are missing in {manifest.root}; put them "
        missing += f'there, or write their folder as "root" into {manifest.path.with_suffix(".json")}'
        missing += f"; source: {manifest.card.source}" if manifest.card.source else ""
    counts, frames, middle = Counter(video.split for video in videos), frame_counts(videos), len(videos) // 2
    unused, name = "", f"{manifest.path.stem}{VAL_SUFFIX}.csv"
    if counts["val"]:
        unused = f"{manifest.card.name}: its {counts['val']} val videos are not used; `r21d manifest validation "
        unused += f"{shlex.quote(str(manifest.path))}` writes {name}, which has them as test videos"
    example = videos[middle].path, int(frames[middle])
    return DataSize(manifest.card.classes, counts, missing, count == len(videos), unused, int(frames.sum()), example)


def load_manifests(
    specs: Sequence[Spec], manifest: Path | str | None = None, builtin: Path | str = BUILTIN_ROOT
) -> dict[str, Manifest]:
    """Return the manifests of the data sets that `specs` name, by name.

    `manifest` is the file of one of them, or of the data set from which the validation split was taken; the others are
    in the same folder. Without it the built-in videos are used, made in the folder `builtin` on first use.
    """
    if manifest:
        path = Path(manifest)
    else:
        check_builtin(specs)
        from r21d_core.data.synthetic import make_builtin  # imports PyAV

        path = make_builtin(Path(builtin))
    names = list(dict.fromkeys(spec.data for spec in specs))
    if len(names) == 1 and manifest and names[0] != f"{path.stem}{VAL_SUFFIX}":
        data = {names[0]: load_manifest(path)}
    else:
        for name in names:
            if len(names) > 1 and path.exists() and not (file := path.with_name(f"{name}.csv")).exists():
                raise R21DError(
                    f"{file}: no such file; these runs need it beside {path.name}, to pretrain on or as another split; "
                    "`--set source=NAME`, in a notebook the parameter `source`, pretrains on another data set"
                )
        data = {name: load_manifest(path.with_name(f"{name}.csv")) for name in names}
    for spec in specs:
        check_data_name(spec, data[spec.data])
    for loaded in data.values():
        frame_counts(loaded.videos)
    return data


def check_builtin(specs: Sequence[Spec]) -> None:
    """Raise R21DError unless the built-in videos, which are taken without a manifest, are the data of all `specs`."""
    hint = "give its checked manifest (--manifest, in a notebook the parameter `manifest`)"
    if profiles := {spec.profile for spec in specs} - {"demo"}:
        raise R21DError(f"profile {min(profiles)}: needs your own data set; {hint}")
    if names := [spec.data for spec in specs if not spec.data.startswith("builtin")]:
        raise R21DError(f"data {names[0]}: not one of the built-in data sets; {hint}")


def check_data_name(spec: Spec, manifest: Manifest) -> None:
    """Raise R21DError if the manifest is not the data set that the Spec names."""
    if manifest.card.name != spec.data:
        raise R21DError(
            f"{manifest.path}: its card has the name {manifest.card.name!r}, expected {spec.data!r}; runs are stored "
            'under that name, so give the manifest file and its card\'s "name" the same one'
        )


def plan(
    specs: Sequence[Spec], manifest: Path | str | None = None, runs: Path | str = "runs", device: str = "auto",
    gpus: int = 1, builtin: Path | str = BUILTIN_ROOT, anew: bool = False,
) -> str:  # fmt: skip
    """Return what `run_experiment` would do with the same arguments, as text: runs, parameters, MACs and time.

    `anew` counts every run, also a finished one, as if nothing of it were there.

    The time is that of training steps measured now for a moment, where these take long in proportion to the MACs, of
    evaluation, of each run's start and of decoding every video once; without communication, streaming from files, and
    the computation of optical flow. Where other processes use the CPU it is a range. Raises R21DError for a finished
    run of other files, as `run_experiment` does.
    """
    data = load_manifests(specs, manifest, builtin)
    for run in find_runs(specs, runs):
        if run.is_complete and not anew:
            check_origin(run, data[run.spec.data])
    sizes = {name: data_size(loaded) for name, loaded in data.items()}
    del data
    return make_plan(specs, sizes, runs, device, gpus, anew)[0]


def make_plan(
    specs: Sequence[Spec], data: dict[str, DataSize], runs: Path | str, device: str, gpus: int, anew: bool = False
) -> tuple[str, float]:
    """Return the text of `plan`, and its hours."""
    found = find_runs(specs, runs)
    todo = [run.spec for run in found if anew or not run.is_complete]
    states = Counter(run.state for run in found)
    classes = {spec: task_classes(spec, data[spec.data].classes) for spec in specs}
    num_classes = {spec: len(names) for spec, names in classes.items()}
    lines = [
        f"{name}: {', '.join(f'{count} {split}' for split, count in size.counts.items())} videos"
        for name, size in data.items()
    ]
    lines += [size.unused for size in data.values() if size.unused]
    lines.append(f"{count_noun(len(found), 'run')}: {', '.join(f'{states[s]} {s}' for s in STATES if states[s])}")
    whole = {spec.variant for spec in todo if spec.init_from and spec.epochs and is_neighbor(spec.variant)}
    if whole and any(spec.frozen_stages for spec in todo):
        lines.append(f"frozen_stages is not one of {', '.join(sorted(whole))}, of which all layers are finetuned")
    lines += ["all of them from the start:"] if anew else []
    if not todo:
        return "\n".join(lines), 0.0
    from r21d_core.engine.build import check_batch_norm
    from r21d_core.engine.distributed import check_divisible
    from r21d_core.engine.init_weights import check_init_files
    from r21d_core.engine.throughput import measure_runs
    from r21d_core.models.imported import check_unchanged  # all import torch

    for variant in {spec.variant for spec in todo if is_imported(spec.variant)}:
        check_unchanged(variant)
    costs = {spec: spec_cost(spec, num_classes[spec]) for spec in todo}
    for spec in todo:
        check_divisible(spec, gpus)
        check_batch_norm(spec)
    check_init_files({spec: classes[spec] for spec in todo})
    throughputs, starts, slots, slowdown, where = measure_runs(todo, num_classes, device, gpus)
    epochs = {spec: spec.epochs - (0 if anew else len(find_run(runs, spec).history)) for spec in todo}
    clips = {spec: epochs[spec] * spec.clips_per_epoch for spec in todo}
    hours = {}
    for spec in todo:
        items = data[spec.data].counts.get("test", 0) * (1 if spec.task == "action" else num_classes[spec])
        passes = items * (epochs[spec] + spec.eval_clips)  # one clip after each epoch, all of them at the end
        forward = costs[spec].macs / costs[spec].training_macs(spec.frozen_stages)  # as a part of a training step
        seconds = (clips[spec] + passes * forward) / throughputs[spec] / gpus + starts[spec]
        hours[spec] = seconds / 3600
    labels = dict(zip(specs, run_labels(specs), strict=True))
    width = max(len(labels[spec]) for spec in todo)
    lines.append(f"{'run':<{width}}{'parameters':>12}{'GMAC/clip':>11}{'clips left':>12}{'about':>12}")
    lines += [
        f"{labels[spec]:<{width}}{costs[spec].parameters:>12,}{costs[spec].macs / 1e9:>11.3f}{clips[spec]:>12,}"
        f"{_duration(hours[spec]):>12}"
        for spec in todo
    ]
    total = max(sum(hours.values()) / slots, max(hours.values()))
    total += (_decoding_seconds(todo, data, slots) + WORKER_SECONDS * (slots > 1)) / 3600
    about = f"{_duration(total)} on {where}, if nothing else runs there"
    if slowdown > 1:
        about = f"{_duration(total)} to {_duration(total * slowdown)} on {where}, as other processes use the CPU"
    lines.append(f"in all about {about}" + f"; records in {runs}" * (not anew))
    lines += [line for name in {spec.data: None for spec in todo} if (line := data[name].missing)]
    return "\n".join(lines), total


def _decoding_seconds(specs: Sequence[Spec], data: dict[str, DataSize], slots: int) -> float:
    """How long it takes to decode each data set once, of which one video is timed; 0 without that file.

    Each of `slots` worker processes decodes for itself.
    """
    from r21d_core.data.decode import read_all  # imports PyAV

    seconds = 0.0
    for name, size in {(spec.data, (spec.frame_height, spec.frame_width)) for spec in specs}:
        path, frames = data[name].example
        began = time.perf_counter()
        with suppress(R21DError):
            read_all(path, size)
            seconds += (time.perf_counter() - began) / frames * data[name].frames * slots / available_cpus()
    return seconds


def _duration(hours: float) -> str:
    for unit, length in (("years", 365 * 24), ("days", 24)):
        if hours >= 2 * length:
            return f"{hours / length:.1f} {unit}"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
