"""From a folder of videos to a trained network and its errors: the functions of the notebook `your_videos`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.explorer.comparison import Comparison
from r21d_analysis.explorer.figures import confusion_figure
from r21d_analysis.explorer.predictions import confusion_matrix, matrix_classes, score_runs, select_items, take_classes
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.inference import format_interval
from r21d_analysis.study import read_settings
from r21d_analysis.style import NO_RUNS, close_figure, figure_style, note, panel_grid, style_table
from r21d_core import R21DError, count_noun
from r21d_core.data.decode import read_frames
from r21d_core.data.folder import from_folder
from r21d_core.data.manifest import describe_recordings, load_manifest, write_new_manifest
from r21d_core.data.official_splits import examples
from r21d_core.data.rows import read_rows
from r21d_core.data.verify import COLUMNS, verify_videos
from r21d_core.runs.run import Run
from r21d_core.study.recipes import TRANSFER

FRAME_SIZE = (96, 128)  # of the pictures of videos
# Fields of a Spec that weights determine: the network, and the clips that it was trained on.
NETWORK = ("depth", "width", "midplanes_per_block")
INPUT = ("frames", "frame_stride", "frame_height", "frame_width", "crop")


def make_manifest(folder: Path | str, manifest: Path | str = "", test_fraction: float = 0.25) -> Path:
    """Return the checked manifest of a folder of videos; list and check the folder first where that is missing.

    `folder` is one of `from_folder`, by default the example of built-in videos; `manifest` is by default
    ../data/NAME.csv. Prints what was found. An existing manifest is taken as it is, and videos of the folder that it
    lacks are named. Raises R21DError as `from_folder` and `verify_videos`, and for the manifest of another folder.
    """
    if not folder:
        from r21d_core.data.synthetic import make_example

        folder = make_example("../data")
    listing = from_folder(folder, test_fraction=test_fraction)
    path = Path(manifest or f"../data/{listing.card.name}.csv")
    if not path.exists():
        print(*listing.notes, sep="\n", end="\n" * bool(listing.notes))
        write_new_manifest(path, listing.card, listing.videos)
    loaded = load_manifest(path)
    if loaded.root != Path(listing.card.root):
        raise R21DError(f"{path}: lists the videos of {loaded.root}; name another file by the parameter `manifest`")
    if not all(video.frames for video in loaded.videos):
        print(verify_videos(path))
        print(describe_recordings(load_manifest(path).videos))
        return path
    quarantine = path.with_suffix(".quarantine.csv")
    aside = {cells[0] for _, cells in read_rows(quarantine, COLUMNS)} if quarantine.exists() else set()
    listed = {video.video for video in loaded.videos} | aside
    skipped = f"; {len(aside)} more, set aside, with the reasons, in {quarantine}" if aside else ""
    print(f"{path}: checked earlier, {count_noun(len(loaded.videos), 'video')}{skipped}")
    print(describe_recordings(loaded.videos))
    if new := [video.video for video in listing.videos if video.video not in listed]:
        print(f"not in {path}: {len(new)} of the folder{examples(new)}; delete it to list the folder again")
    return path


def starting_point(
    weights: Path | str, manifest: Path | str, profile: str, variants: str, settings: Mapping[str, object] | str
) -> dict:
    """Return the parameters `variants` and `settings` of `open_study` for a run that starts from `weights`.

    Weights are published ones, a run folder or a file; they determine the network and its clips, and the recipe is
    that of TRANSFER. Without weights the run starts from scratch. Fields in `settings` take precedence. The path of
    weights becomes absolute, as it is part of the Spec, and of the command for the folder above the notebooks.
    """
    if not weights:
        return {"variants": variants, "settings": settings}
    from r21d_core.engine.classify import spec_for_video, weights_for_frames

    loaded = weights_for_frames(weights)
    rates = [video.fps for video in load_manifest(manifest).videos if video.fps]
    spec = spec_for_video(loaded, median(rates) if rates else None)
    fields = {name: getattr(source, name) for source, names in ((loaded, NETWORK), (spec, INPUT)) for name in names}
    fields |= {"eps": loaded.eps} if loaded.eps else {}
    start = str(Path(weights).resolve() if Path(weights).exists() else weights)  # or a published name
    fields |= TRANSFER.get(profile, {}) | {"init_from": start} | read_settings(settings)  # `open_study` refuses others
    return {"variants": loaded.variant, "settings": fields}


def confusion(run: Run) -> Figure | Markdown:
    """Return the confusion matrix of a run's test videos with video@1, or a note that the run is not finished."""
    if not run.is_complete:
        return note(f"nothing to draw: {NO_RUNS}")
    scored, (group,) = score_runs((run,)), group_by_seed([run])
    count, accuracy = max(scored.predictions), group.accuracy
    whole = confusion_matrix(scored, count)
    counts = take_classes(whole, members := matrix_classes(whole))
    text = f"video@1 {accuracy.value:.1f} %, 95 % interval {format_interval(accuracy.low, accuracy.high)}; "
    text += f"{count_noun(len(scored.scores.labels), 'video')}, {count_noun(count, 'clip')} each"
    names = [scored.scores.classes[index] for index in members]
    return confusion_figure(names, counts, counts.sum(axis=1), note=text)


def worst_videos(run: Run, n: int = 8) -> Styler | Markdown:
    """Return a table of the `n` test videos that the run is most confidently wrong about."""
    if not run.is_complete:
        return note(f"no table: {NO_RUNS}")
    table, count = _errors(run), len(run.scores.labels)
    caption = f"{len(table)} of {count} test videos are classified wrongly; these with the highest confidence."
    return style_table(table.head(n), caption, {"confidence": "{:.1f} %"})


@figure_style()
def worst_frames(run: Run, manifest: Path | str, n: int = 6) -> Figure | Markdown:
    """Return the center frames of the first `n` videos of `worst_videos`, from the files that `manifest` lists.

    Raises R21DError for a video that `manifest`, perhaps written after the run, does not list.
    """
    if not run.is_complete:
        return note(f"nothing to draw: {NO_RUNS}")
    table = _errors(run).head(n)
    if table.empty:
        return note("nothing to draw: every test video is classified correctly")
    videos = {video.video: video for video in load_manifest(manifest).videos}
    figure, panels = panel_grid(len(table), 1.7, 1.8, max_columns=6)
    for axes, row in zip(panels, table.to_dict("records"), strict=True):
        if not (video := videos.get(row["video"])):
            expected = f"a test video of {run.folder}; restore the manifest that the run was trained on"
            raise R21DError(f"{manifest}: does not list {row['video']}, {expected}")
        axes.imshow(read_frames(video.path, [(video.frames or 1) // 2], FRAME_SIZE)[0])
        axes.set_axis_off()
        axes.set_title(f"{row['class']}\npredicted {row['prediction']}", size=8)
    return close_figure(figure)


def worst_video(run: Run, manifest: Path | str) -> Path:
    """Return the first file of `worst_videos`, or of the test videos if all are classified correctly."""
    names = [*_errors(run)["video"], *run.scores.videos]
    return Path(os.path.relpath(load_manifest(manifest).root / names[0]))


def _errors(run: Run) -> pd.DataFrame:
    """The wrong test videos with class, prediction, confidence in per cent and the rank of the class, surest first."""
    scored = score_runs((run,))
    comparison = Comparison(scored, None, "", "", count=max(scored.predictions))
    table = comparison.items_view(select_items(scored, None, comparison.count, show="A wrong")).table
    return table.rename(columns={"A prediction": "prediction", "A %": "confidence", "A rank": "rank of class"})
