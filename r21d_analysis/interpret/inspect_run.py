"""Analyze trained networks: load or compute the insight records that figures are drawn from (`r21d insight`)."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from r21d_analysis.interpret import activation_max, attributions, checkpoints
from r21d_analysis.interpret.attributions import COMPLETE, METHODS, STEPS, completeness_gap, for_attribution
from r21d_analysis.interpret.checkpoints import EvalClips, open_network, read_clip
from r21d_analysis.interpret.filters import filter_statistics, weight_changes
from r21d_analysis.interpret.records import (
    ATTRIBUTIONS,
    FILTERS,
    InsightRecord,
    load_record,
    save_record,
    with_unique_labels,
)
from r21d_core import R21DError
from r21d_core.data.decode import probe
from r21d_core.data.transforms import center_crop, crop_frames
from r21d_core.engine.build import build_model
from r21d_core.engine.classify import class_names, spec_for_video, weights_for_frames
from r21d_core.engine.device import device_name, pick_device
from r21d_core.engine.origin import check_fingerprint
from r21d_core.engine.runner import BUILTIN_ROOT, load_manifests
from r21d_core.models.load import model_from_weights
from r21d_core.models.network import VideoResNet
from r21d_core.runs.run import Run, load_runs
from r21d_core.study.recipes import get_recipe
from r21d_core.study.spec import FIELD_OPTIONS, format_settings

N_CHANNELS, N_CLIPS = 2, 3  # filters of each stage, and clips of each filter
MAX_FRAMES, MAX_SIZE = 8, 56  # of a stored map
GAP_STEPS = (4, 8, 16, 32)
SANITY_CLIPS = 2  # clips whose maps are computed again with shuffled weights
QUICK, QUICK_STEPS = ("Grad-CAM", "integrated gradients"), 8  # for interactive use
# The settings of each record: videos with maps, test clips of a class for evidence, steps of integrated gradients.
SETTINGS: dict[str, dict] = {FILTERS: {}, ATTRIBUTIONS: {"videos": [], "per_class": 5, "steps": STEPS}}


def load_or_compute(
    name: str, runs: Sequence[Run], manifest: Path | str | None = None, *, device: str = "auto",
    builtin: Path | str = BUILTIN_ROOT, **settings: object,
) -> list[InsightRecord]:  # fmt: skip
    """Return the record `name`, FILTERS or ATTRIBUTIONS, of each run that has it or a checkpoint.

    Prints a line for each other run, and if none has any, the runs beside them that have. A record with other SETTINGS
    is computed again if the run has its checkpoint, and returned as it is otherwise. `optimize` is a setting of
    FILTERS: False leaves the optimized clips out, which take most of the time, True computes a record without them
    again.
    """
    settings, records = SETTINGS[name] | settings, []
    for run in runs:
        path, weights = run.folder / name, checkpoints.checkpoint_sha256(run)
        network = f"{run.spec.network}, seed {run.spec.seed}"
        try:
            if not path.exists() and not weights:
                raise R21DError(
                    f"{run.folder}: has no {name} and no checkpoint of a finished run; where its checkpoint is, "
                    f"`r21d insight {run.folder.name}` in the folder of runs writes it"
                )
            expected = {key: value for key, value in settings.items() if key != "optimize"} | {"weights": weights}
            record = load_record(path) if path.exists() else None
            lacks_clips = record and settings.get("optimize") and "optimized" not in record.arrays
            is_other = record and any(record.metadata[key] != value for key, value in expected.items())
            if not record or (weights and (lacks_clips or is_other)):
                print(f"{network}: computing {name} …", flush=True)
                record = _compute(name, run, settings, manifest, pick_device(device), Path(builtin))
                record.metadata.update(expected)
                save_record(Path(str(run.folder), name), record)
            records.append(record)
        except R21DError as error:
            print(f"{network}, is left out of {name}: {error}")
    if runs and not records:
        print(_describe_others(name, runs), end="")
    return with_unique_labels(records)


def _describe_others(name: str, runs: Sequence[Run]) -> str:
    """Return lines with the parameters that open other runs beside `runs` with the record `name`, if any."""
    folder, specs = runs[0].folder.parent, {run.spec for run in runs}
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for run in load_runs(folder):
        if run.spec not in specs and (run.folder / name).exists():
            spec = run.spec
            changes = spec.changes_from(get_recipe(spec.profile, spec.task, spec.data))
            settings = format_settings({key: changes[key] for key in changes if key not in FIELD_OPTIONS})
            parameters = f'profile = "{spec.profile}", task = "{spec.task}", settings = "{settings}"'
            found[f"the manifest of {spec.data}, {parameters}"][spec.variant].append(spec.seed)
    lines = [f"In {str(folder).rstrip('/')} these runs have {name}; their parameters are"] * bool(found)
    for parameters, networks in found.items():
        seeds = [f"{variant}, seed {', '.join(map(str, sorted(seeds)))}" for variant, seeds in networks.items()]
        lines.append(f"  {parameters}: {'; '.join(seeds)}")
    return "".join(f"{line}\n" for line in lines)


def _compute(
    name: str, run: Run, settings: dict, manifest: Path | str | None, device: torch.device, builtin: Path
) -> InsightRecord:
    start, default = time.perf_counter(), builtin / f"{run.spec.data}.csv"  # where `r21d manifest` writes it
    data = load_manifests([run.spec], manifest or (default if default.exists() else None), builtin)[run.spec.data]
    check_fingerprint(run, run.environment["fingerprint"], data)
    threads = torch.get_num_threads()
    if run.spec.crop < 64:  # small convolutions gain nothing from a second thread, and lose much on a busy machine
        torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False):  # batches have many sizes
            analyze = analyze_filters if name == FILTERS else analyze_attributions
            record = analyze(run, checkpoints.open_test_clips(run.spec, data, device), device, **settings)
    finally:
        torch.set_num_threads(threads)
    measured = {"device": device_name(device), "seconds": round(time.perf_counter() - start, 1)}
    return InsightRecord(record.metadata | {"spec": json.loads(run.spec.to_json())} | measured, record.arrays)


def analyze_filters(run: Run, test: EvalClips, device: torch.device, optimize: bool = True) -> InsightRecord:
    """Return the filter statistics of the network of `run`, and the inputs that activate N_CHANNELS of each stage.

    The channels of a stage are those whose largest response differs most between classes, relative to its variance.
    With `optimize` the inputs include a clip optimized for each.
    Raises R21DError for a flow network, whose filters are no images.
    """
    if run.spec.modality != "rgb":
        raise R21DError(f"{run.folder}: its input is {run.spec.modality}; filters are shown of networks on RGB frames")
    network = for_attribution(open_network(run, device))
    state = _state_arrays(network)
    channels, rows, responses, places = [], [], [], []
    for stage, (values, positions) in activation_max.max_responses(network, test).items():
        separation = activation_max.eta_squared(values, test.clips.label)
        for channel in np.argsort(-separation, kind="stable")[:N_CHANNELS].tolist():
            channels.append((stage, channel))
            rows.append(np.argsort(-values[:, channel], kind="stable")[:N_CLIPS])
            responses.append(values[rows[-1], channel])
            places.append(positions[rows[-1], channel])
    rows = np.array(rows)
    frames = torch.cat([frames.cpu() for _, frames, _ in test.iter_batches(rows.ravel())])
    strips = activation_max.make_strip(frames)
    arrays = (
        filter_statistics(state, run.spec.eps)
        | {
            "stage": np.array([stage for stage, _ in channels]),
            "channel": np.array([channel for _, channel in channels]),
            "responses": np.array(responses, np.float32),  # (filters, N_CLIPS)
            "places": np.array(places, np.float16),  # (filters, N_CLIPS, 3)
            "labels": np.array(test.classes)[test.clips.label[rows]],
            "videos": test.names(rows),
            "strips": strips.reshape(*rows.shape, *strips.shape[1:]),
        }
    )
    if optimize:
        arrays |= _optimize_clips(network, channels, np.array(responses)[:, 0], frames.shape[1:4])
    if not run.spec.init_from:  # then the seed reproduces the initial weights
        with torch.random.fork_rng(devices=[]):
            initial = build_model(run.spec, len(test.classes), torch.device("cpu"))
        arrays |= weight_changes(state, _state_arrays(initial))
    return InsightRecord({"test_clips": len(test.clips), "steps": activation_max.STEPS}, arrays)


def _optimize_clips(
    network: VideoResNet, channels: Sequence[activation_max.Channel], scale: np.ndarray, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return the arrays of the clips (T, H, W) = `shape` that `maximize_activation` makes, and their responses."""
    optimized = activation_max.maximize_activation(network, channels, scale, shape)
    size, crops = min(shape[1], activation_max.STRIP_SIZE), []
    boxes = activation_max.receptive_field_box(network, channels, optimized)
    for clip, (y, x) in zip(activation_max.as_frames(optimized), boxes, strict=True):  # enlarged to a whole strip
        crops.append(activation_max.resize_frames(clip[None, :, y, x], size))
    return {
        "optimized": activation_max.make_strip(torch.cat(crops)),
        "optimized_responses": activation_max.peak_responses(network, channels, optimized).astype(np.float32),
    }


def _state_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}


def analyze_attributions(
    run: Run, test: EvalClips, device: torch.device, videos: Sequence[str], per_class: int, steps: int
) -> InsightRecord:
    """Return maps of all METHODS for `videos`, their checks, and the evidence in `per_class` test clips of a class.

    `videos` are names in the manifest or paths of files. A map explains the true class of a test video, and the
    predicted class of a file. Without videos, `default_videos` are used. `steps` are those of integrated gradients.
    """
    network = for_attribution(open_network(run, device))
    names = list(videos or default_videos(test))
    frames, labels = zip(*(_load_video(test, name) for name in names), strict=True)
    frames = torch.cat([video.cpu() for video in frames])
    clips, cropped = center_crop(frames.to(device), run.spec), crop_frames(frames, run.spec)
    predicted = network(clips).argmax(1).tolist()
    targets = [pred if label is None else label for label, pred in zip(labels, predicted, strict=True)]
    label = torch.tensor(targets, device=device)
    gap_steps = sorted({*GAP_STEPS, steps})
    gaps = [completeness_gap(network, clips, label, COMPLETE[0], count).cpu() for count in gap_steps]
    deeplift = completeness_gap(network, clips, label, COMPLETE[1]).cpu().expand(len(gaps), -1)
    rows = checkpoints.spread_per_class(test.clips.label, run.scores.groups, per_class)
    evidence = attributions.measure_evidence(network, test, rows) | {"groups": run.scores.groups[rows]}
    correlation = attributions.sanity_correlations(network, clips[:SANITY_CLIPS], label[:SANITY_CLIPS])
    arrays = _compute_maps(network, clips, cropped, label, test.classes, METHODS, steps) | {
        "videos": np.array(names),
        "gap_steps": np.array(gap_steps),
        "gaps": torch.stack([torch.stack(gaps), deeplift]).float().numpy(),  # (COMPLETE, steps, videos)
        "correlation": correlation.numpy(),
        "resolution": np.array([attributions.effective_resolution(network, clips, method) for method in METHODS]),
        "classes": np.array(test.classes),
    }
    arrays |= {f"evidence_{name}": values for name, values in evidence.items()}
    return InsightRecord({"steps": steps, "sanity_corr_max": attributions.SANITY_CORR_MAX}, arrays)


def analyze_video(
    video: Path | str, weights: Run | Path | str, class_name: str | None = None, clip: np.ndarray | None = None,
    weights_folder: Path | str = "weights",
) -> InsightRecord:  # fmt: skip
    """Return maps of the QUICK methods for one class in one clip of the file `video`; `overlay_figure` draws them.

    `weights` and `weights_folder` are those of `load`. `class_name` None is the most probable class of the clip. `clip`
    are the clip's frame numbers (T,), None is the center clip. Raises R21DError for unreadable weights or videos, and
    for a class that the network does not have.

    For example:

        >>> from r21d_analysis.interpret.attribution_figures import overlay_figure
        >>> from r21d_analysis.interpret.inspect_run import analyze_video
        >>> record = analyze_video("video.mp4", "runs/RUN")
        >>> overlay_figure([record]).savefig("maps.png")
    """
    loaded = weights_for_frames(weights, weights_folder)
    classes, _ = class_names(loaded)
    if class_name is not None and class_name not in classes:
        raise R21DError(f"{loaded.path}: has no class {class_name}, but {', '.join(classes[:5])} …")
    spec, target = spec_for_video(loaded, probe(video).fps), pick_device("auto")
    frames = read_clip(Path(video), spec, clip)
    network = for_attribution(model_from_weights(loaded)).requires_grad_(False)
    network.to(target).to(memory_format=torch.channels_last_3d)
    clips, cropped = center_crop(frames.to(target), spec), crop_frames(frames, spec)
    with torch.no_grad():
        index = network(clips).argmax(1).item() if class_name is None else classes.index(class_name)
    label = torch.tensor([index], device=target)
    arrays = _compute_maps(network, clips, cropped, label, classes, QUICK, QUICK_STEPS)
    metadata = {"spec": json.loads(spec.replace(variant=loaded.variant, depth=loaded.depth).to_json())}
    if not loaded.spec:
        metadata["name"] = loaded.path.stem
    return InsightRecord(metadata, arrays | {"videos": np.array([str(video)])})


def _compute_maps(
    network: VideoResNet, clips: Tensor, frames: Tensor, label: Tensor, classes: Sequence[str], methods: Sequence[str],
    steps: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return the arrays of overlays for `clips` and their uint8 `frames` (n, T, crop, crop, 3)."""
    names, targets = np.array(classes), label.cpu().numpy()
    with torch.no_grad():
        probabilities = network(clips).softmax(1).cpu().numpy()
    index = np.linspace(0, clips.shape[2] - 1, min(clips.shape[2], MAX_FRAMES)).round().astype(int)
    size, maps = min(clips.shape[3], MAX_SIZE), []
    for method in methods:
        pairs = zip(clips.split(1), label.split(1), strict=True)
        full = torch.cat([attributions.attribute(network, *pair, method, steps) for pair in pairs])
        small = adaptive_avg_pool2d(full[:, index], size)
        maps.append(small / small.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12))
    return {
        "methods": np.array(methods),
        "target": names[targets],
        "pred": names[probabilities.argmax(1)],
        "probability": probabilities[np.arange(len(targets)), targets].astype(np.float32),  # of the target
        "frames": activation_max.resize_frames(frames[:, index], size).numpy(),  # (videos, T, S, S, 3)
        # (videos, methods, T, S, S), maximum 1, in steps that a figure can show: they compress to less than half
        "maps": (torch.stack(maps, 1).mul(255).round() / 255).cpu().numpy().astype(np.float16),
    }


def default_videos(test: EvalClips) -> list[str]:
    """Return a test item of the last class of each family; without families, of four classes evenly spaced."""
    last = [members[-1] for members in test.families.values() if set(members) <= set(test.classes)]
    spaced = np.linspace(0, len(test.classes) - 1, min(4, len(test.classes))).round().astype(int)
    labels = [test.classes.index(name) for name in last] or spaced
    return [str(test.item_names[np.flatnonzero(test.clips.label == label)[0]]) for label in labels]


def _load_video(test: EvalClips, name: str) -> tuple[Tensor, int | None]:
    """Return the center clip of a test item, uint8 (1, T, H, W, 3), and its label; for a file the label is None.

    A video's name alone is its first item.
    """
    names = test.names(np.arange(len(test.clips)))
    if len(rows := np.flatnonzero((test.item_names == name) | (names == name))):
        row = int(rows[0])
        return next(test.source.iter_batches([test.clips[row : row + 1]]))[1].cpu(), int(test.clips.label[row])
    if not Path(name).is_file():
        raise R21DError(f"{name}: neither a test video of the manifest, such as {names[0]}, nor a file")
    if test.spec.modality != "rgb":
        raise R21DError(f"{name}: a video file, but the network's input is flow; name a test video, such as {names[0]}")
    return read_clip(Path(name), test.spec), None
