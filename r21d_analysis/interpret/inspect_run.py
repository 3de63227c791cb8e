"""A look into one trained network, as a small record that figures are drawn from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from r21d_analysis.interpret import activation_max, attributions
from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.attributions import COMPLETE, METHODS, for_attribution
from r21d_analysis.interpret.checkpoints import EvalClips, cropped, open_network, read_clip
from r21d_analysis.interpret.filters import GROUPS, filter_statistics
from r21d_analysis.interpret.perturbation import measure_evidence
from r21d_core import R21DError
from r21d_core.data.decode import probe
from r21d_core.data.transforms import center_crop
from r21d_core.engine.classify import class_names, spec_for_video, weights_for_frames
from r21d_core.engine.device import pick_device
from r21d_core.models.load import model_from_weights
from r21d_core.models.network import VideoResNet
from r21d_core.runs.run import Run

CHANNELS, CLIPS = 2, 3  # filters shown of each group, and clips shown of each filter
FRAMES, SIZE = 8, 56  # of a map that is kept, at the most
GAP_STEPS = (4, 8, 16, 32)
CHECKED = 2  # clips whose maps are drawn anew with shuffled weights
QUICK, QUICK_STEPS = ("Grad-CAM", "integrated gradients"), 8  # where somebody waits for it


def analyze_filters(run: Run, test: EvalClips, device: torch.device) -> InsightRecord:
    """The filters of the network of `run`, and what excites CHANNELS of each group.

    Of a group are taken the filters whose largest response differs most between the classes of the test set, in
    proportion to how it differs at all. Raises R21DError for a network of flow, whose filters are no pictures.
    """
    if run.spec.modality != "rgb":
        raise R21DError(f"{run.folder}: sees {run.spec.modality}; filters are shown of networks that see frames")
    network = for_attribution(open_network(run, device))
    state = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    found = activation_max.responses(network, test)
    wanted, rows = [], []
    for name in GROUPS:
        values = found[name][0]
        telling = activation_max.eta_squared(values, test.clips.label)
        for channel in np.argsort(-telling, kind="stable")[:CHANNELS]:
            wanted.append((name, int(channel)))
            rows.append(np.argsort(-values[:, channel], kind="stable")[:CLIPS])
    rows = np.array(rows)
    best = np.array([found[name][0][row, channel] for (name, channel), row in zip(wanted, rows, strict=True)])
    places = np.array([found[name][1][row, channel] for (name, channel), row in zip(wanted, rows, strict=True)])
    frames = torch.cat([frames.cpu() for _, frames, _ in test.read(rows.ravel())])
    shape = frames.shape[1:4]
    imagined = activation_max.maximize_activation(network, wanted, best[:, 0], shape)
    arrays = (
        filter_statistics(state, run.spec.eps)
        | {
            "stage": np.array([name for name, _ in wanted]),
            "channel": np.array([channel for _, channel in wanted]),
            "responses": best.astype(np.float32),  # (filters, CLIPS)
            "places": places.astype(np.float16),  # (filters, CLIPS, 3)
            "labels": np.array(test.classes)[test.clips.label[rows]],
            "videos": test.names(rows),
            "strips": activation_max.strip(frames).reshape(
                *rows.shape, -1, *activation_max.strip(frames[:1]).shape[2:]
            ),
            "optimized": _parts_seen(
                activation_max.as_frames(imagined), activation_max.receptive_field_box(network, wanted, imagined)
            ),
            "optimized_responses": activation_max.peak_responses(network, wanted, imagined).astype(np.float32),
        }
    )
    return InsightRecord({"test_clips": len(test.clips), "steps": activation_max.STEPS}, arrays)


def _parts_seen(frames: Tensor, parts: Sequence[tuple[slice, slice]]) -> np.ndarray:
    """The strips of clips (n, T, H, W, 3), each of its own part, all of the size that a whole one has."""
    size = min(frames.shape[2], activation_max.STRIP_SIZE)
    cut = [
        activation_max.shrink(one[None, :, rows, columns], size)
        for one, (rows, columns) in zip(frames, parts, strict=True)
    ]
    return activation_max.strip(torch.cat(cut))


def analyze_attributions(
    run: Run, test: EvalClips, videos: Sequence[str], per_class: int, device: torch.device
) -> InsightRecord:
    """Maps of all METHODS for `videos`, how far to believe them, and what `per_class` test clips of a class rest on.

    `videos` are names as in the manifest or paths of files; a map explains the class of the video's folder or label,
    of a file the class that the network finds. Without any, the last class of each family, or four classes, have one.
    """
    network = for_attribution(open_network(run, device))
    shown, clips, asked = [], [], []
    names = list(videos or usual_videos(test))
    for name in names:
        frames, label = _one(test, name)
        clip = center_crop(frames.to(device), run.spec)
        shown.append(cropped(frames, run.spec).cpu())
        clips.append(clip)
        asked.append(int(network(clip).argmax()) if label is None else label)
    clips, label = torch.cat(clips), torch.tensor(asked, device=device)
    shown = torch.cat(shown)
    gaps = [
        [attributions.completeness_gap(network, clips, label, COMPLETE[0], steps).cpu().numpy() for steps in GAP_STEPS],
        [attributions.completeness_gap(network, clips, label, COMPLETE[1]).cpu().numpy()] * len(GAP_STEPS),
    ]
    weighed = measure_evidence(network, test, test.some(per_class), f"{run.spec.variant}: weighing evidence")
    arrays = (
        _maps(network, clips, shown, label, test.classes, METHODS, attributions.STEPS)
        | {
            "videos": np.array(names),
            "gap_steps": np.array(GAP_STEPS),
            "gaps": np.array(gaps, np.float32),  # (COMPLETE, steps, videos)
            "correlation": attributions.randomisation_check(network, clips[:CHECKED], label[:CHECKED]).numpy(),
            "resolution": np.array([attributions.effective_resolution(network, clips, method) for method in METHODS]),
            "classes": np.array(test.classes),
            **{f"evidence_{name}": values for name, values in weighed.items()},
        }
    )
    told = {
        "steps": attributions.STEPS,
        "sanity_corr_max": attributions.SANITY_CORR_MAX,
        "sanity_clips": min(CHECKED, len(names)),
    }
    return InsightRecord(told, arrays)


def analyze_video(
    video: Path | str,
    weights: Run | Path | str,
    class_name: str,
    clip: np.ndarray | None = None,
    *,
    weights_folder: Path | str = "weights",
    device: str = "auto",
) -> InsightRecord:
    """Maps of QUICK methods for one class in one clip of the file `video`.

    `weights` and `weights_folder` are those of `classify`; `clip` holds the numbers (T,) of the clip's frames, without which it
    is the middle clip. Raises R21DError for weights or a video that cannot be read, and for a class the network lacks.
    """
    found = weights_for_frames(weights, weights_folder)
    classes, _ = class_names(found)
    if class_name not in classes:
        raise R21DError(f"{found.path}: has no class {class_name}, but {', '.join(classes[:5])} …")
    spec, target = spec_for_video(found, probe(video).fps), pick_device(device)
    frames = read_clip(Path(video), spec, clip)
    network = for_attribution(model_from_weights(found)).requires_grad_(False)
    network.to(target, memory_format=torch.channels_last_3d)
    label = torch.tensor([classes.index(class_name)], device=target)
    arrays = _maps(
        network, center_crop(frames.to(target), spec), cropped(frames, spec), label, classes, QUICK, QUICK_STEPS
    )
    told = {"spec": json.loads(spec.replace(variant=found.variant, depth=found.depth).to_json())}
    if not found.spec:
        told["name"] = found.path.stem
    return InsightRecord(told, arrays | {"videos": np.array([str(video)])})


def _maps(
    network: VideoResNet,
    clips: Tensor,
    shown: Tensor,
    label: Tensor,
    classes: Sequence[str],
    methods: Sequence[str],
    steps: int,
) -> dict[str, np.ndarray]:
    """What overlays are drawn from: of `clips` and the uint8 frames they are of, (n, T, crop, crop, 3)."""
    names, asked = np.array(classes), label.cpu().numpy()
    with torch.no_grad():
        said = network(clips).softmax(1).cpu().numpy()
    chosen = np.linspace(0, clips.shape[2] - 1, min(clips.shape[2], FRAMES)).round().astype(int)
    size = min(clips.shape[3], SIZE)
    maps = []
    for method in methods:
        each = zip(clips.split(1), label.split(1), strict=True)
        whole = torch.cat([attributions.attribute(network, *one, method, steps) for one in each])
        small = torch.nn.functional.adaptive_avg_pool2d(whole[:, chosen], size)
        maps.append(small / small.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12))
    return {
        "methods": np.array(methods),
        "target": names[asked],
        "pred": names[said.argmax(1)],
        "probability": said[np.arange(len(said)), asked].astype(np.float32),  # of the class asked for
        "frames": activation_max.shrink(shown[:, chosen], size).numpy(),  # (videos, T, S, S, 3)
        "maps": torch.stack(maps, 1).cpu().numpy().astype(np.float16),  # (videos, methods, T, S, S), largest 1
    }


def usual_videos(test: EvalClips) -> list[str]:
    """A video of the last class of each family; without families of four classes, evenly taken from their list."""
    chosen = [members[-1] for members in test.families.values() if set(members) <= set(test.classes)]
    every = np.linspace(0, len(test.classes) - 1, min(4, len(test.classes))).round().astype(int)
    labels = [test.classes.index(name) for name in chosen] or every
    return [str(test.names([np.flatnonzero(test.clips.label == one)[0]])[0]) for one in labels]


def _one(test: EvalClips, name: str):
    """The middle clip of a video of the test set, uint8 (1, T, H, W, 3), and its class; of a file, and None."""
    known = [video.video for video in test.videos]
    if name in known:
        row = int(np.flatnonzero(test.clips.video == known.index(name))[0])
        return next(test.source.iter_batches([test.clips[row : row + 1]]))[1].cpu(), int(test.clips.label[row])
    if not Path(name).is_file():
        raise R21DError(f"{name}: neither a test video of the manifest, such as {known[0]}, nor a file")
    if test.spec.modality != "rgb":
        raise R21DError(f"{name}: a file of frames, and the run sees flow; name a test video, such as {known[0]}")
    return read_clip(Path(name), test.spec), None
