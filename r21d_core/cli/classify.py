"""`r21d classify`: the most probable classes of video files and folders, and their features."""

import io
import json
import time
from pathlib import Path

from r21d_core import R21DError, load
from r21d_core.cli.options import CACHE_DIR, DEVICE, WORKERS, add_command, printable

SAVE_SECONDS = 30.0  # between writes of the predictions so far


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "classify", "print or write the five most probable classes of videos")
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="video file, or folder of videos, at any depth")
    add("--weights", required=True, metavar="NAME_OR_PATH", help="published weights, a file of weights or a run folder")
    add("--out", type=Path, help="CSV or JSON file to write; default: print the classes")
    add(
        "--features",
        type=Path,
        help="NPZ file to write: `videos` and `features`, (n, 8*width), of those that can be read",
    )
    add("--clips", type=int, default=10, help="clips whose probabilities are averaged; default 10")
    add("--frames", type=int, help="clip length; default: as the weights were trained")
    add("--frame-stride", type=int, help="distance of a clip's frames; default: nearest to the training's frame rate")
    add("--workers", **WORKERS)
    add("--device", **DEVICE)
    add("--cache-dir", **CACHE_DIR)


def run(options) -> None:
    from r21d_core.data.folder import recording_names
    from r21d_core.data.official_splits import list_videos

    if options.out and options.out.suffix not in (".csv", ".json"):
        raise R21DError(f"--out {options.out}: expected a name that ends in .csv or .json")
    if options.features and options.features.suffix != ".npz":
        raise R21DError(f"--features {options.features}: expected a name that ends in .npz")
    videos = list_videos(options.paths)
    predictor = load(options.weights, device=options.device, folder=options.cache_dir)
    predictions = predictor.iter_predictions(
        videos, clips=options.clips, frames=options.frames, frame_stride=options.frame_stride, workers=options.workers
    )
    known = _trained_on(predictor.weights)
    rows: list[dict] = []
    features: list = []  # of the rows without an error
    errors, saved = [], -SAVE_SECONDS  # so that a file that cannot be written is an error at the first video

    def save() -> None:
        if options.out:
            _write(options.out, rows)
        if options.features:
            _write_features(options.features, rows, features, predictor.model.fc.in_features)

    try:
        for video, prediction in zip(videos, predictions, strict=True):
            name = printable(str(video))
            if isinstance(prediction, R21DError):
                errors.append(printable(str(prediction)))
                rows.append({"video": name, "error": errors[-1]})
            else:
                rows.append({"video": name, **_cells(prediction.top), "protocol": prediction.protocol})
                features.append(prediction.features)
                if known:
                    rows[-1]["trained_on"] = min(recording_names(video) & known, default="")
                if not options.out:
                    _print(prediction, name if len(videos) > 1 else "")
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    finally:  # whatever ends the loop, what is finished is kept
        if rows:
            save()
            for path in filter(None, (options.out, options.features)):
                print(f"{path}: {len(rows) - len(errors)} of {len(videos)} videos")
    if seen := sum(bool(row.get("trained_on")) for row in rows):
        where = "; the column trained_on has them" if options.out else ""
        # Names are all that a run keeps; a video of the same name in a folder of the same name may be another one.
        print(f"Warning: {seen} of these {len(rows)} videos have the names of recordings of the run's training{where}")
    if errors:
        count = f"{len(errors)} of {len(videos)} videos could not be classified:\n" if len(videos) > 1 else ""
        raise R21DError(count + "\n".join(errors))


def _trained_on(weights) -> set[str]:
    """The recordings that the weights of a run were trained on; empty if they are unknown."""
    from r21d_core.runs.run import Run

    try:
        return Run(weights.spec, weights.path.parent).trained_on if weights.spec else set()
    except R21DError:
        return set()


def _cells(top: list[tuple[str, float]]) -> dict[str, str | float]:
    """The classes and probabilities as `class_1`, `probability_1`, `class_2` and so on."""
    ranks = enumerate(((name, round(probability, 6)) for name, probability in top), 1)
    return {f"{key}_{n}": value for n, pair in ranks for key, value in zip(("class", "probability"), pair, strict=True)}


def _print(prediction, title: str) -> None:
    from tqdm import tqdm

    lines = [f"{probability:6.1%}  {name}" for name, probability in prediction.top]
    tqdm.write("\n".join([title] * bool(title) + [*lines, prediction.protocol]))  # above the progress bar


def _write(path: Path, rows: list[dict]) -> None:
    from r21d_core.data.rows import write_rows
    from r21d_core.runs.files import spreadsheet_safe, write_atomically

    if path.suffix == ".json":
        write_atomically(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    else:
        columns = max((tuple(row) for row in rows), key=len)  # of a video that was classified
        columns += ("error",) if "error" not in columns else ()
        write_rows(path, columns, ([spreadsheet_safe(row.get(key)) for key in columns] for row in rows))


def _write_features(path: Path, rows: list[dict], features: list, width: int) -> None:
    import numpy as np

    from r21d_core.runs.files import write_atomically

    read = [row for row in rows if "error" not in row]
    names, protocols = (np.array([row[key] for row in read], str) for key in ("video", "protocol"))
    np.savez(file := io.BytesIO(), videos=names, features=np.reshape(features, (-1, width)), protocols=protocols)
    write_atomically(path, file.getvalue())
