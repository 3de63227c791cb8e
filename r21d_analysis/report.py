"""The notebooks executed on the records present, and all they show on one page for the web."""

from __future__ import annotations

import base64
import html
import io
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from PIL import Image
from tqdm.auto import tqdm

from r21d_analysis.artifacts import figures
from r21d_analysis.artifacts.catalog import ARTIFACTS
from r21d_core import R21DError
from r21d_core.runs.files import make_folder, write_atomically
from r21d_core.runs.run import find_run, load_runs
from r21d_core.study.experiments import EXPERIMENTS, LONG_SCHEDULE, variant_comparison

ROOT = Path(__file__).parent.parent
RECORDS = ("results/demo", "results/small", "results/recipe", "results/diagnostic")
DEMO = {"runs": "../results/demo", "train": False}
SMALL = {
    "profile": "small",
    "manifest": "../data_manifests/ucf101-14-split1.csv",
    "variants": "f-R2D, R3D, MC3, R(2+1)D",
    "seeds": "0, 1",
    "runs": "../results/small",
    "train": False,
}
PRETRAINED = SMALL | {
    "manifest": "../data_manifests/ucf101-7b-split1.csv",
    "source": "ucf101-7a-split1",
    "variants": "R(2+1)D",
    "seeds": "0",
}
EIGHT = SMALL | {"variants": "all", "seeds": "0, 1, 2", "settings": {"frames": 8, "frame_stride": 1}}
FOUR = SMALL | {"settings": LONG_SCHEDULE}  # of four networks, from before the recipe was chosen
DIAGNOSTIC = EIGHT | {
    "manifest": "",
    "seeds": "0",
    "runs": "../results/diagnostic",
    "settings": {"frames": 8, "frame_stride": 1, "crop_area": 0.0, "brightness": 0.0, "clips_per_epoch": 400},
}
LOOKED = {key: EIGHT[key] for key in ("profile", "manifest", "runs", "settings")}
BOTH = "../results/small, ../results/demo"
# What is reported: a title, the executed notebook's name, the notebook and its parameters. Nothing is trained for it.
REPORTS = (
    (
        "Start here",
        "start_here",
        "start_here",
        {"runs": "../results/demo", "records": "../results/small", "notebooks": "../notebooks"},
    ),
    ("Table 1, Figures 1 and 2", "architectures", "architectures", {}),
    ("Table 2 and Figure 4, demonstration", "variant_comparison-demo", "variant_comparison", DEMO),
    (
        "Table 2 and Figure 4, full size on the built-in videos",
        "variant_comparison-diagnostic",
        "variant_comparison",
        DIAGNOSTIC,
    ),
    (
        "The recipe for real videos, chosen on a validation cut",
        "recipe-small",
        "recipe",
        SMALL | {"variants": "f-R2D, R(2+1)D", "seeds": "0", "runs": "../results/recipe"},
    ),
    ("Table 2 and Figure 4, real videos, 8 frames", "variant_comparison-small-8f", "variant_comparison", EIGHT),
    (
        "Table 2 and Figure 4, real videos, 8 frames at step 2",
        "variant_comparison-small-8f-step2",
        "variant_comparison",
        EIGHT | {"settings": {"frames": 8, "frame_stride": 2}},
    ),
    (
        "Table 2 and Figure 4, real videos, 16 frames",
        "variant_comparison-small-16f",
        "variant_comparison",
        EIGHT | {"settings": {"frames": 16, "frame_stride": 1}},
    ),
    (
        "Table 2 and Figure 4, real videos, 16 frames at step 2",
        "variant_comparison-small-16f-step2",
        "variant_comparison",
        EIGHT | {"settings": {"frames": 16, "frame_stride": 2}},
    ),
    (
        "Table 2 and Figure 4, real videos, playback rate",
        "variant_comparison-small-rate",
        "variant_comparison",
        EIGHT | {"task": "speed"},
    ),
    (
        "Table 2 and Figure 4, four networks trained for longer on 16 frames",
        "variant_comparison-small-action",
        "variant_comparison",
        FOUR,
    ),
    (
        "Table 2 and Figure 4, four networks trained for longer, playback rate",
        "variant_comparison-small-speed",
        "variant_comparison",
        FOUR | {"task": "speed"},
    ),
    ("Figure 3, demonstration", "optimization_curves-demo", "optimization_curves", DEMO),
    ("Figure 3, real videos", "optimization_curves-small", "optimization_curves", EIGHT | {"variants": "R3D, R(2+1)D"}),
    ("Figure 5a and Table 3, demonstration", "clip_length-demo", "clip_length", DEMO),
    (
        "Figure 5a and Table 3, real videos",
        "clip_length-small",
        "clip_length",
        SMALL | {"variants": "R(2+1)D", "seeds": "0, 1, 2"},
    ),
    ("Figure 5b, demonstration", "clip_count-demo", "clip_count", DEMO),
    ("Figure 5b, real videos", "clip_count-small", "clip_count", EIGHT | {"variants": "R(2+1)D"}),
    ("Table 4, demonstration", "sports1m-demo", "sports1m", DEMO),
    ("Table 5, demonstration", "kinetics-demo", "kinetics", DEMO),
    ("Table 6, demonstration", "transfer-demo", "transfer", DEMO),
    ("Table 4, real videos", "sports1m-small", "sports1m", SMALL | {"variants": "R3D, R(2+1)D"}),
    ("Table 5, real videos", "kinetics-small", "kinetics", PRETRAINED),
    ("Table 6, real videos", "transfer-small", "transfer", PRETRAINED),
    ("Does it take motion? Demonstration", "temporal_probe-demo", "temporal_probe", DEMO),
    ("Does it take motion? Playback rate of real videos", "temporal_probe-small", "temporal_probe", FOUR),
    (
        "Does it take motion? Playback rate of real videos by clip length",
        "temporal_probe-small-lengths",
        "temporal_probe",
        EIGHT | {"variants": "R3D, R(2+1)D", "settings": {"frames": "4,8,16"}},
    ),
    ("What filters have learned, real videos", "filters-small", "filters", LOOKED),
    ("Where networks look, real videos", "attributions-small", "attributions", LOOKED),
    (
        "Class by class, video by video: actions of real videos",
        "explorer",
        "explorer",
        {"runs": "../results/small"},
    ),
    ("Every claim of the paper", "claims", "claims", {"runs": BOTH}),
)
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
VIEW = "application/vnd.jupyter.widget-view+json"  # of a widget that is shown
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 0 1rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; display: block; font-size: .85rem; overflow-x: auto; }
td, th { min-width: 4rem; padding: .15rem .6rem; text-align: right; vertical-align: top; }
td:first-child, th:first-child { text-align: left; }
tr { border-bottom: 1px solid #ddd; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; } h3 { font-size: 1rem; }
.anchor-link { display: none; }
pre { overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; font-size: 1.2rem; font-weight: 600; padding: .5rem 0; }
"""


def make_report(out: Path | str, root: Path = ROOT) -> Path:
    """Executed notebooks in the folder `out`, and the page `index.html` with every table and figure; its path.

    Everything is drawn from the records under `root`, with nothing trained: what is missing, the notebooks say.
    """
    index = _execute(REPORTS, Path(out), root, [root / folder for folder in RECORDS])
    twelve = [find_run(root / "results" / "demo", spec) for spec in variant_comparison("demo")]
    figures.family_bars(twelve).savefig(index.parent / "what-each-network-sees.png", dpi=110)  # the README's picture
    return index


def run_suite(
    out: Path | str,
    runs: Path | str = "runs",
    profile: str = "demo",
    manifest: Path | str | None = None,
    seeds: str = "0",
    root: Path = ROOT,
) -> Path:
    """As `make_report`, of the runs in the folder `runs`, which every notebook of an experiment first completes.

    Filters, attributions and the explorer follow with what these have made, checkpoints included.

    Stopped in any way, the same call goes on. Without a `manifest` the data are the built-in videos; an experiment
    whose data sets are not all beside it is left out, and said. A notebook that fails does not keep the others from
    their turn: when all had it, R21DError names those that failed, and their copies in `out` show why.
    """
    there = os.path.relpath(runs, root / "notebooks")
    given = {"profile": profile, "runs": there, "seeds": seeds, "train": True, "max_hours": math.inf}
    given["manifest"] = os.path.relpath(manifest, root / "notebooks") if manifest else ""
    looked = {"profile": profile, "manifest": given["manifest"], "runs": there, "seeds": seeds}
    # What trains nothing stands behind what does in ARTIFACTS, so that the runs are there.
    looks = {"filters": looked, "attributions": looked, "claims": {"runs": there}}
    looks["explorer"] = {"runs": there}
    if manifest:
        looks["explorer"]["manifests"] = os.path.relpath(Path(manifest).parent, root / "notebooks")
    rows = []
    for one in ARTIFACTS:
        if one.experiment:
            specs = EXPERIMENTS[one.experiment](profile, Path(manifest).stem) if manifest else []
            if missing := sorted({s.data for s in specs if not Path(manifest).with_name(f"{s.data}.csv").exists()}):
                print(f"{one.notebook} is left out: there is no {', '.join(missing)} beside {manifest}")
                continue
            rows.append((one.title, f"{one.notebook}-{profile}", one.notebook, given))
        else:
            rows.append((one.title, one.notebook, one.notebook, looks.get(one.notebook, {})))
    return _execute(rows, Path(out), root, [Path(runs)])


def _execute(rows: Sequence[tuple[str, str, str, dict]], out: Path, root: Path, records: Sequence[Path]) -> Path:
    """The notebooks of `rows`, which are as REPORTS, executed in `out`, and the page of all, whose path it gives."""
    make_folder(out)
    sections, failed = [], []
    for title, name, notebook, parameters in tqdm(rows, "notebooks", unit="notebook", leave=False):
        source, file = root / "notebooks" / f"{notebook}.ipynb", out / f"{name}.ipynb"
        try:
            executed = papermill.execute_notebook(source, file, parameters, cwd=source.parent, progress_bar=False)
        except PapermillExecutionError as error:
            failed.append(f"{file}: {error.ename}: {error.evalue}")
            continue
        executed.metadata.pop("papermill")  # holds paths of this machine
        if not any(VIEW in output.get("data", {}) for cell in executed.cells for output in cell.get("outputs", ())):
            executed.metadata.pop("widgets", None)  # the state of those that nobody sees
        write_atomically(file, nbformat.writes(executed) + "\n")
        sections.append((title, executed))
    index = out / "index.html"
    write_atomically(index, page(sections, environment(records)))
    if failed:
        raise R21DError(
            f"{len(failed)} of {len(rows)} notebooks failed; the others are on {index}:\n" + "\n".join(failed)
        )
    return index


def page(sections: list[tuple[str, nbformat.NotebookNode]], lines: list[str]) -> str:
    """One self-contained page: of each executed notebook its text, tables and figures, and what the runs ran on."""
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    parts = [
        f"<details><summary>{html.escape(title)}</summary>{exporter.from_notebook_node(notebook)[0]}</details>"
        for title, notebook in sections
    ]
    ran = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>R(2+1)D study</title><style>{STYLE}</style></head><body><h1>R(2+1)D study</h1>"
        f"{PNG.sub(_smaller, ''.join(parts))}<h2>What the runs ran on</h2><ul>{ran}</ul></body></html>\n"
    )


def _smaller(png: re.Match) -> str:
    """The picture as WebP without loss, which is half as large, or of clips two thirds."""
    webp = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png[1]))).save(webp, "webp", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"


def environment(folders: Sequence[Path]) -> list[str]:
    """A line for each folder of records, device, versions and commit, with the number of its runs."""
    told = Counter()
    for folder in folders:
        for run in load_runs(folder):
            if run.is_complete:
                e = run.environment
                versions = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
                commit = f"commit {e['commit']}" if e["commit"] else "commit not noted"
                told[f"{os.path.relpath(folder, ROOT)}: {e['device']}, Python {e['python']}, {versions}, {commit}"] += 1
    return [f"{line}: {count} runs" for line, count in told.items()]
