"""Execute the notebooks on existing records, and collect them on one web page without their code.

The page begins with the outcome of the records; the notebooks follow by artifact.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
from matplotlib.figure import Figure
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from PIL import Image
from tqdm.auto import tqdm
from traitlets.config import Config

from r21d_analysis.artifacts.catalog import ARTIFACTS
from r21d_analysis.artifacts.confirmatory import PLANNED
from r21d_analysis.artifacts.confirmatory_figures import contrasts_figure
from r21d_analysis.interpret.summary import INSIGHT
from r21d_analysis.outcome import CLAIMS_PACKS, ROOT
from r21d_analysis.report_summary import describe_outcome
from r21d_analysis.style import render
from r21d_core import R21DError, count_noun, package_folder
from r21d_core.runs.files import make_folder, write_atomically
from r21d_core.runs.run import load_runs
from r21d_core.study.experiments import EXPERIMENTS
from r21d_core.study.recipes import CONFIRMATORY, LONG_SCHEDULE

NOTEBOOKS = package_folder("r21d_analysis", "notebooks")
PHOTOS = ("filters", "attributions", "explorer")  # whose figures are images, whose brightness stays
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


class Report(NamedTuple):
    """A notebook to execute with parameters; the executed copy is `name`.ipynb."""

    title: str
    name: str  # the notebook's, which may be followed by a dash and a suffix
    parameters: dict


RECORDS = ("results/demo.zip", "results/small.zip", "results/recipe.zip", "results/diagnostic.zip",
           "results/miracl.zip", "results/actions.zip")  # fmt: skip
# Parameters of the committed reports. Nothing is trained.
DEMO = {"runs": "../results/demo.zip", "train": False}
SMALL: dict = {"profile": "small", "manifest": "../data_manifests/ucf101-14-split1.csv", "seeds": "0, 1",
               "variants": "f-R2D, R3D, MC3, R(2+1)D", "runs": "../results/small.zip", "train": False}  # fmt: skip
ONE, TWO = {"variants": "R(2+1)D"}, {"variants": "R3D, R(2+1)D"}
RECIPE = SMALL | {"variants": "f-R2D, R(2+1)D", "seeds": "0", "runs": "../results/recipe.zip"}
SCHEDULES = SMALL | {"settings": {"trials": "schedules"}, "runs": "../results/recipe.zip"}
SPEECH = {
    "profile": "small", "manifest": "../data_manifests/miracl-vc1-split1.csv", "splits": "1, 2, 3, 4, 5",
    "runs": "../results/miracl.zip", "train": False,
    "settings": CONFIRMATORY["miracl-vc1"],
}  # fmt: skip
PRETRAINED = SMALL | {"seeds": "0", "source": "ucf101-7a-split1"}
FIVE = "C3D, s3d, swin3d_t, mvit_v2_s, R(2+1)D"
PRETRAINED["manifest"] = "../data_manifests/ucf101-7b-split1.csv"
TABLE_2 = SMALL | {"variants": "all", "seeds": "0, 1, 2"}
FRAMES_8, FRAMES_16, FRAMES_16_STRIDE_2 = (
    TABLE_2 | {"settings": {"frames": frames, "frame_stride": stride}} for frames, stride in ((8, 1), (16, 1), (16, 2))
)
LONG = SMALL | {"settings": LONG_SCHEDULE}  # four networks, trained before the recipe was chosen
DIAGNOSTIC = TABLE_2 | {"manifest": "", "seeds": "0", "runs": "../results/diagnostic.zip"}
DIAGNOSTIC["settings"] = {"frames": 8, "frame_stride": 1, "crop_area": 0.0, "brightness": 0.0, "clips_per_epoch": 400}
CONFIRMED = TWO | {
    "profile": "small", "manifest": "../data_manifests/ucf101-14-split3.csv", "seeds": "0",
    "runs": "../results/actions.zip",
    "settings": CONFIRMATORY["ucf101-14"] | {"frames": 8, "frame_stride": 1},
}  # fmt: skip
TRAINED_LONG = TABLE_2 | {
    "splits": "1, 2, 3", "seeds": "0", "runs": "../results/actions.zip",
    "settings": CONFIRMATORY["ucf101-14"] | {"frames": 16, "frame_stride": 1},
}  # fmt: skip
LEARNED: dict[str, dict] = {  # parameters of the reports on INSIGHT, by what the networks learned
    "actions": CONFIRMED,
    "speech": SPEECH | {"seeds": "1"},
    "playback rate": FRAMES_8 | TWO | {"task": "speed", "seeds": "1"},
    "built-in videos": DIAGNOSTIC | TWO,
}
START = {"runs": f"../{RECORDS[0]}", "records": ", ".join(f"../{pack}" for pack in RECORDS[1:]),
         "notebooks": "../notebooks"}  # fmt: skip
TINY = "Demonstration: tiny networks on the built-in videos, not comparable with the paper"
REPORTS = tuple(Report(*row) for row in (
    ("Start here", "start_here", START),
    ("The twelve networks", "architectures", {}),
    ("Full-size networks on the built-in videos", "variant_comparison-diagnostic", DIAGNOSTIC),
    ("Trials on a validation split", "recipe-small", RECIPE),
    ("Trials of three lengths of training", "recipe-schedules", SCHEDULES),
    ("Speech, MIRACL-VC1", "why_2plus1d-small", SPEECH | {"seeds": "0, 2, 3, 4, 5"}),
    ("Real videos, playback rate", "why_2plus1d-small-rate",
     TABLE_2 | {"task": "speed", "variants": "", "seeds": "0, 1, 2, 3, 4"}),
    ("Real videos, 8 frames", "variant_comparison-small-8f", FRAMES_8),
    ("Real videos, 16 frames", "variant_comparison-small-16f", FRAMES_16),
    ("Real videos, 16 frames, 200 epochs, one seed of each; five networks have more in `confirmatory`",
     "variant_comparison-small-16f-200", TRAINED_LONG),
    ("Real videos, 16 frames at stride 2", "variant_comparison-small-16f-step2", FRAMES_16_STRIDE_2),
    ("Speech, MIRACL-VC1", "variant_comparison-small-speech", SPEECH | {"variants": "all", "seeds": "0, 2, 3, 4, 5"}),
    ("Real videos, playback rate", "variant_comparison-small-rate", FRAMES_8 | {"task": "speed"}),
    ("Four networks trained longer", "variant_comparison-small-action", LONG),
    ("Four networks trained longer, playback rate", "variant_comparison-small-speed", LONG | {"task": "speed"}),
    ("Real videos", "optimization_curves-small", FRAMES_8 | TWO),
    ("Real videos", "clip_length-small", TABLE_2 | ONE),
    ("Real videos", "clip_count-small", FRAMES_8 | ONE),
    ("Real videos", "sports1m-small", SMALL | {"variants": "C3D, s3d, swin3d_t, mvit_v2_s, R3D, R(2+1)D"}),
    ("Real videos", "kinetics-small", PRETRAINED | {"variants": FIVE}),
    ("Real videos", "transfer-small", PRETRAINED | {"variants": FIVE}),
    ("Real videos", "temporal_probe-small", LONG),
    ("Real videos", "rate_pretraining-small", TABLE_2 | ONE),
    ("Real videos by clip length", "temporal_probe-small-lengths", TABLE_2 | TWO | {"settings": {"frames": "4,8,16"}}),
    *((TINY, f"{name}-demo", DEMO) for name in (
        "variant_comparison", "optimization_curves", "clip_length", "clip_count", "sports1m", "kinetics", "transfer",
        "temporal_probe")),
    *((title, f"{name}-{suffix}", {k: value for k, value in LEARNED[data].items() if k not in ("splits", "train")})
      for name in ("filters", "attributions") for _, data, suffix, title in INSIGHT),
    ("Real videos", "explorer", {"runs": "../results/actions.zip"}),
    ("The families of docs/protocol.md", "confirmatory", {}),
    ("All claims", "claims", {"runs": ", ".join(f"../results/{pack}.zip" for pack in CLAIMS_PACKS)}),
))  # fmt: skip
KERNELS = Config({"KernelManager": {"transport_encryption": "auto"}})  # without it each kernel prints a warning
LOCAL_LINK = re.compile(r"\]\((?!\w+:|[#/])([^)]+)\)")  # of Markdown
TABLE_ID, ADDRESS = re.compile(r"T_[0-9a-f]{5}(?![0-9a-f])"), re.compile(r" at 0x[0-9a-f]+>")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # the output of a cell that shows a widget


def make_report(out: Path | str) -> Path:
    """Execute REPORTS on the committed records into the folder `out`; return the page `index.html`. Nothing is trained.

    Raises R21DError outside a checkout, which alone holds the records.
    """
    records = [ROOT / pack for pack in RECORDS]
    if missing := [pack for pack in records if not pack.is_file()]:
        raise R21DError(f"{missing[0]}: the records come with a checkout; name a folder of runs with --runs")
    index = _execute_notebooks(REPORTS, Path(out), records, describe_outcome())
    figure = contrasts_figure(load_runs(ROOT / "results" / "actions.zip"), families=PLANNED)
    if isinstance(figure, Figure):  # a line of text without the runs
        figure.savefig(index.parent / "confirmatory.png", dpi=110)  # for the README
    return index


def run_suite(
    out: Path | str, runs: Path | str, profile: str = "demo", manifest: Path | str | None = None, seeds: str = "0"
) -> Path:
    """Execute every notebook on the folder `runs` into the folder `out`; return the page `index.html`.

    A notebook with an experiment first trains its missing runs; the same call continues after an interruption. Without
    `manifest` the data are the built-in videos. An experiment whose data set is not beside `manifest` is skipped with a
    message. If notebooks fail, the others are executed, and then R21DError names the failed ones.
    """
    folder, file = (os.path.relpath(path, NOTEBOOKS) if path else "" for path in (runs, manifest))
    inspected = {"profile": profile, "runs": folder, "seeds": seeds, "manifest": file}
    trained = inspected | {"train": True, "max_hours": math.inf}
    explorer = {"runs": folder} | ({"manifests": os.path.dirname(file) or "."} if manifest else {})
    parameters = {"filters": inspected, "attributions": inspected, "explorer": explorer}
    parameters |= {key: {"runs": folder} for key in ("confirmatory", "claims")}
    reports = []
    for artifact in ARTIFACTS:
        name = artifact.notebook
        if name == "your_videos":  # is about a folder of videos, not about the folder of runs
            continue
        if not artifact.experiment:
            reports.append(Report(artifact.title, name, parameters.get(name, {})))
            continue
        if manifest:
            specs = EXPERIMENTS[artifact.experiment](profile, Path(manifest).stem)
            if missing := sorted({s.data for s in specs if not Path(manifest).with_name(f"{s.data}.csv").exists()}):
                print(f"{name} is skipped: there is no {', '.join(missing)} beside {manifest}")
                continue
        reports.append(Report(artifact.title, f"{name}-{profile}", trained))
    return _execute_notebooks(reports, Path(out), [Path(runs)])


def _execute_notebooks(
    reports: Sequence[Report], out: Path, records: Sequence[Path], outcome: dict[str, Any] | None = None
) -> Path:
    """Execute `reports` into the folder `out` and write the page of all; return its path."""
    make_folder(out)
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of parameters that only open_study knows
    executed_reports, failures = [], []
    for title, name, parameters in tqdm(reports, "notebooks", leave=False):
        source, file = NOTEBOOKS / f"{name.partition('-')[0]}.ipynb", out / f"{name}.ipynb"
        try:
            executed = papermill.execute_notebook(
                source, file, parameters, cwd=source.parent, progress_bar=False, config=KERNELS
            )
        except PapermillExecutionError as error:
            failures.append(f"{file}: {error.ename}: {error.evalue}")
            continue
        for cell in executed.cells:
            if cell.cell_type == "markdown":  # its links are relative to the notebook
                cell.source = LOCAL_LINK.sub(lambda m: f"]({os.path.relpath(NOTEBOOKS / m[1], out)})", cell.source)
            if cell.cell_type == "code":  # a widget, such as a progress bar, shows nothing, and its script fails
                cell.outputs = [output for output in cell.outputs if WIDGET_VIEW not in output.get("data", {})]
        executed.metadata.pop("widgets", None)  # their state
        _make_repeatable(executed, name)
        write_atomically(file, nbformat.writes(executed) + "\n")
        executed_reports.append((title, name, executed))
    index = out / "index.html"
    write_atomically(index, build_page(executed_reports, describe_environments(records), outcome))
    if failures:
        failed = f"{len(failures)} of {len(reports)} notebooks failed; {index} contains the others:"
        raise R21DError("\n".join([failed, *failures]))
    return index


def _make_repeatable(notebook: nbformat.NotebookNode, name: str) -> None:
    """Remove what differs between two executions: times, paths, random identifiers, addresses in memory."""
    tables: dict[str, str] = {}  # the identifiers of tables, which stay unique on the page of all reports
    notebook.metadata.pop("papermill")
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.id = "injected-parameters"
        for data in (output["data"] for output in cell.get("outputs", ()) if "data" in output):
            if "text/html" in data:
                for found in TABLE_ID.findall(data["text/html"]):
                    tables.setdefault(found, f"T_{hashlib.sha256(f'{name} {len(tables)}'.encode()).hexdigest()[:8]}")
                data["text/html"] = TABLE_ID.sub(lambda m: tables[m[0]], data["text/html"])
            if "text/plain" in data:
                data["text/plain"] = ADDRESS.sub(">", data["text/plain"])


def build_page(
    reports: Sequence[tuple[str, str, nbformat.NotebookNode]],
    environments: Sequence[str],
    outcome: dict[str, Any] | None = None,
) -> str:
    """Return a self-contained HTML page: `outcome`, the (title, name, notebook)s beside the page, `environments`.

    Each report is folded. Those on the built-in videos stand below the other reports of their artifact.
    """
    sections = []
    for artifact in ARTIFACTS:
        own = [
            {"title": title, "name": name, "body": _embed(name, notebook)}
            for title, name, notebook in reports if name.partition("-")[0] == artifact.notebook
        ]  # fmt: skip
        own.sort(key=lambda report: report["name"].endswith(("-diagnostic", "-demo")))
        sections += [(artifact, own, artifact.notebook in PHOTOS)] if own else []
    first = {artifact.notebook: own[0]["name"] for artifact, own, _ in sections}
    return render("page.html", outcome=outcome, sections=sections, first=first, environments=environments)


def _embed(name: str, notebook: nbformat.NotebookNode) -> str:
    """The text and outputs of `notebook` as HTML; each figure is named by its heading."""
    heading = ""
    for cell in notebook.cells:
        headings = re.findall(r"^#+ (.*)", cell.source, re.M) if cell.cell_type == "markdown" else []
        heading = headings[-1] if headings else heading
        cell.metadata["alt"] = f"{heading}; {name}"
    excluded = dict.fromkeys(("exclude_input", "exclude_output_prompt", "exclude_anchor_links"), True)
    exporter = HTMLExporter(template_name="basic", **excluded)
    body = PNG.sub(_png_to_webp, exporter.from_notebook_node(notebook)[0])
    body = re.sub(r"(</?h)(\d)", lambda tag: f"{tag[1]}{min(6, int(tag[2]) + 2)}", body)  # below the page's headings
    return re.sub(r'(<h\d id="|id="(?=cell-id))', rf"\1{name}-", body)  # an id is unique


def _png_to_webp(png: re.Match) -> str:
    """Return the image as lossless WebP, about half as large; or lossy where this halves it again, as video frames."""
    image, files = Image.open(io.BytesIO(base64.b64decode(png[1]))), []
    for options in ({"lossless": True}, {"quality": 75}):
        webp = io.BytesIO()
        image.save(webp, "webp", **options)
        files.append(webp.getvalue())
    lossless, lossy = files
    chosen = lossy if 2 * len(lossy) < len(lossless) else lossless
    return f"data:image/webp;base64,{base64.b64encode(chosen).decode()}"


def describe_environments(folders: Sequence[Path]) -> list[str]:
    """Return a line for each folder, device, set of versions and commit, with the number of complete runs."""
    counts = Counter()
    for folder, run in ((f, run) for f in folders for run in load_runs(f) if run.is_complete):
        e = run.environment
        versions = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
        line = f"{e['device']}, Python {e['python']}, {versions}, commit {e['commit'] or 'not recorded'}"
        counts[f"{os.path.relpath(folder, ROOT)}: {line}"] += 1
    return [f"{line}: {count_noun(count, 'run')}" for line, count in counts.items()]
