"""The documentation site is built without warnings, needs no other host, and explains the suite's words."""

import io
import json
import os
import re
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from r21d_analysis.artifacts.folds import compose
from r21d_analysis.claims.table import MARKS
from r21d_core.cli import build_parser
from r21d_core.models.cost import cost
from r21d_core.runs.metrics import video_at
from r21d_core.runs.run import STATES, load_runs
from r21d_core.study.experiments import EXPERIMENTS
from r21d_core.study.spec import CHOICES
from r21d_core.study.variants import LETTERS, NETWORKS, VARIANTS

ROOT = Path(__file__).parents[1]


def test_site_is_built_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "WARNING" not in result.stderr, result.stderr
    assert "unrecognized" not in result.stderr, result.stderr
    pages = [page for page in tmp_path.rglob("*.html") if "reports" not in page.parts]
    assert len(pages) > 20 and "open_study" in (tmp_path / "docs/api/analysis.html").read_text()
    reports = tmp_path / "reports" / "index.html"
    links = re.findall(r'<a href="(\.\./[^"#]*)"', reports.read_text())
    assert links and all((reports.parent / link).resolve().is_file() for link in links), links
    for page in pages:
        linked = re.findall(r'href="(?!\w+:)([^"#]+)', page.read_text()) if page.name != "404.html" else []
        assert [link for link in linked if not (page.parent / unquote(link)).is_file()] == [], page
        other = r'<(?:script|img|iframe)[^>]* src="(\w+:)?//|<link rel="(?:style|pre)[^>]*//'
        assert not re.search(other, page.read_text()), f"{page.name} needs another host"


def test_api_pages_name_every_package_and_module():
    paths = [path.parent for path in ROOT.glob("r21d_*/*/__init__.py")]
    paths += [path.with_suffix("") for path in ROOT.glob("r21d_*/*.py") if not path.stem.startswith("__")]
    pages = "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)$", pages, re.M))
    assert {".".join(path.relative_to(ROOT).parts) for path in paths if path.name != "cli"} <= shown
    nav = (ROOT / "mkdocs.yml").read_text()
    assert all(f"docs/api/{path.name}" in nav for path in (ROOT / "docs/api").glob("*.md"))


def test_glossary_has_the_words_of_the_suite():
    text = (ROOT / "docs/glossary.md").read_text()
    words = [*CHOICES["profile"], *CHOICES["task"], *STATES, *MARKS, "Spec", "Midplanes", "Frame stride", "video@1"]
    words += ["Fold", "Confirmatory", "Family of classes", "Contrast", "Holm", "Undecided"]
    assert [word for word in words if not re.search(rf"[`*]{re.escape(word)}\b", " ".join(text.split()))] == []


def test_glossary_has_the_letters_of_the_code():
    rows = re.findall(r"^\| `(\w)` \| (.*) \| (.*) \|$", (ROOT / "docs/glossary.md").read_text(), re.M)
    names = [", ".join(n for n, letters in NETWORKS.items() if {*letters[1:]} == {letter}) for letter in LETTERS]
    assert rows == [*zip(LETTERS, map(compose, LETTERS), names, strict=True)]


def test_documented_commands_and_options_exist():
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("notebooks/*.ipynb")]
    records = re.compile(r"<!-- \S+ -->.*?<!-- end -->", re.S)
    texts = {page: records.sub("", page.read_text()) for page in pages}
    found = re.compile(r"\br21d ((?:[a-z]+ ?)+[^`\n#|]*)")
    commands = {(page.relative_to(ROOT), command) for page, text in texts.items() for command in found.findall(text)}
    root = build_parser()
    assert len(commands) > 50
    for page, command in sorted(commands):
        parser, words = root, command.split()
        while parser._subparsers and words:
            parser = parser._subparsers._group_actions[0].choices.get(words.pop(0))
            assert parser, f"{page}: r21d {command}"
        unknown = [word for word in words if word.startswith("--") and word not in parser._option_string_actions]
        assert not unknown, f"{page}: r21d {command}: no option {unknown[0]}"


def test_notebooks_are_executed_in_their_folder():
    """The paths in a notebook are relative to it; from elsewhere it finds no runs."""
    pages = {page: page.read_text() for page in (ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("docs/*.md"))}
    commands = [
        (page.name, *found) for page in pages for found in re.findall(r"papermill (.*?)(\S+\.ipynb)", pages[page])
    ]
    outside = [(page, notebook) for page, options, notebook in commands if "--cwd notebooks" not in options]
    assert len(commands) > 2 and [row for row in outside if "/" in row[1]] == []


def test_commands_of_the_paper_have_the_runs_of_the_howto():
    """Its runs have the paper's recipe; the sentence counts a run that two commands share once."""
    text = (ROOT / "docs/howto.md").read_text().split("### As published")[1].split("\n## ")[0]
    lines = re.findall(r"^r21d train (\w+) --profile paper --manifest data/(\S+)\.csv(.*)# .*: (\d+) runs$", text, re.M)
    specs = []
    for name, data, options, count in lines:
        settings = dict(re.findall(r"--set (\w+)=(\S+)", options))
        specs.append(EXPERIMENTS[name]("paper", data, **settings))
        assert len(specs[-1]) == int(count), name
    every = {spec for of_command in specs for spec in of_command}
    assert f"these are {len(every)} runs" in " ".join(text.split())
    whole = [spec for spec in every if spec.epochs * spec.clips_per_epoch == 45_000_000]
    of_table_6 = [spec for spec in whole if spec.data.startswith(("ucf101", "hmdb51"))]
    says = f"{len(whole)} of them train on 45 million clips, {len(of_table_6)} of these from scratch for Table 6"
    assert says in " ".join(text.split())


def test_cost_of_table_2_is_that_of_the_records():
    """Hours on an H100 by the runs in small.zip, those on an H200 and of decoding by the records of benchmarks."""
    text = (ROOT / "docs/howto.md").read_text().split("#### What Table 2 costs")[1].split("\n## ")[0]
    words, rate, records = " ".join(text.split()), {}, {}
    alike = {"frame_stride": 1, "epochs": 18, "depth": 18, "task": "action", "modality": "rgb", "init_from": ""}
    by_rate = []  # R2D's speeds with 8 frames on the other task
    for run in load_runs(ROOT / "results/small.zip"):
        if run.is_complete and (run.spec.variant, run.spec.frames, run.spec.task) == ("R2D", 8, "speed"):
            by_rate.append(run.summary["train_clips_per_second"])
        is_alike = all(getattr(run.spec, key) == value for key, value in alike.items())
        if is_alike and run.is_complete and "H100" in run.summary["device"]:
            key = "H100", run.spec.variant, run.spec.frames
            records.setdefault(key, []).append(run.summary["train_clips_per_second"])
    per_core = {}
    for path in (ROOT / "benchmarks/records").glob("h200-*.json"):
        for row in json.loads(path.read_text())["rows"]:
            if row["bench"] == "train" and row["what"] == "ours, as the engine runs it" and row["batch"] == 32:
                records["H200", row["variant"], row["frames"]] = [row["clips_per_second"]]
            if row["bench"] == "loader":
                per_core.setdefault(row["frames"], []).append(row["clips_per_second"] / row["workers"])
    for variant in VARIANTS:
        columns = [(device, variant, frames) for frames in (8, 16) for device in ("H100", "H200")]
        rate |= {key: statistics.mean(records[key]) for key in columns if key in records}
        cells = [f"{12_500 / rate[key]:.1f} h ({rate[key]:,.0f})" if key in rate else "–" for key in columns]
        assert f"| {variant} | {' | '.join(cells)} |" in text
    assert all(len(speeds) == (3 if key[0] == "H100" else 1) for key, speeds in records.items() if key in rate)
    hours = {
        f: sum(12_500 / r for (gpu, _, frames), r in rate.items() if (gpu, frames) == ("H100", f)) for f in (8, 16)
    }
    days, all_days = [hours[f] / 24 for f in (8, 16)], sum(hours.values()) / 24
    assert f"| all twelve | {hours[8]:.1f} h | – | {hours[16]:.1f} h | – |" in text
    assert f"{days[0]:.1f} days for 8 frames and {days[1]:.1f} for 16, {all_days:.1f} in all" in words
    ratios = [rate["H100", v, f] / r for (gpu, v, f), r in rate.items() if gpu == "H200" and v != "R2D"]
    least, most = min(ratios), max(ratios)
    assert len(ratios) == 6 and f"{least:.2f} to {most:.2f} times as long, R2D left out" in words
    assert f"that would be {least * all_days:.1f} to {most * all_days:.1f} days" in words
    (low8, high8), (low16, high16) = (sorted(per_core[frames]) for frames in (8, 16))
    assert f"{low8:.0f} to {high8:.0f} clips/s of 8 frames, and {low16:.0f} to {high16:.0f} of 16" in words
    ours, r2d = ([rate[gpu, v, f] for f in (8, 16)] for gpu, v in (("H200", "R(2+1)D"), ("H100", "R2D")))
    of8, of16 = ([f"{speed[at] / high:.0f} to {speed[at] / low:.0f}" for speed in (ours, r2d)]
                 for at, (low, high) in enumerate([(low8, high8), (low16, high16)]))  # fmt: skip
    assert f"{of8[0]} cores with 8 frames and {of16[0]} with 16. R2D takes {of8[1]} and {of16[1]}" in words
    mean = statistics.mean(by_rate)
    assert len(by_rate) == 3 and f"have {mean:,.0f} clips/s, which would be {12_500 / mean:.1f} h" in words
    more = cost("R2D", frames=16).macs / cost("R2D", frames=8).macs - 1
    assert f"16 of them take {100 * more:.0f} % more multiply-adds" in words
    on_16 = [f"{12_500 / high / 16:.1f} to {12_500 / low / 16:.1f}" for low, high in ((low8, high8), (low16, high16))]
    assert f"on 16 cores {on_16[0]} hours with 8 frames, {on_16[1]} with 16" in words


def test_code_of_the_howto_on_records_prints_what_it_says(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs/howto.md").read_text().split("\n## Read records")[1].split("\n## ")[0]
    first, second = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict = {}
    exec(first, names)
    assert len(names["measure"](names["runs"])) == len(names["compare"](names["runs"], "R3D")) + 1 == 12
    exec(second, names)
    assert capsys.readouterr().out.strip() == second.strip().rpartition("# ")[2]


def test_code_of_the_records_page_reads_packs_alone():
    """Every way to store an item occurs in these runs: in `diagnostic` logits too."""
    reader, checksum = re.findall(r"```python\n(.*?)```", (ROOT / "docs/records.md").read_text(), re.S)
    assert re.findall(r"^(?:import|from) .*$", reader, re.M) == ["import io, zipfile", "import numpy as np"]
    names: dict = {}
    exec(reader.rpartition("\n\n\n")[0], names)
    exec(checksum, names)
    levels = set()
    for pack in sorted((ROOT / "results").glob("*.zip")):
        runs = load_runs(pack)
        for run in runs if pack.stem == "diagnostic" else (runs[0], runs[-1]):
            accuracy = names["video_at_1"](pack, run.folder.name)
            assert accuracy == video_at(run.scores, 1) == run.summary["accuracies_before_quantization"]["video@1"]
            assert names["own_checksum"](run.read("summary.json")) == run.summary["sha256"]["summary.json"]
            levels |= {*np.load(io.BytesIO(run.read("scores.npz")))["levels"].tolist()}
    assert levels == {*range(6)}
    exec(f"result = {reader.strip().rpartition(chr(10))[2]}".replace('"results', f'"{ROOT}/results'), names)
    assert 0 < names["result"] < 1, "the call in the page names a run that exists"


def test_records_page_has_every_key_of_the_records():
    sections = (ROOT / "docs/records.md").read_text().split("\n## ")[1:]
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "results").glob("*.zip")):
        with zipfile.ZipFile(path) as pack:
            last = {name.split("/")[1]: name for name in pack.namelist()}  # one file of each kind
            for file, content in ((file, pack.read(name)) for file, name in last.items()):
                found.setdefault(file, set()).update(keys_of_record(file, content))
    assert len(found) == 8 and all(found[file] for file in found.keys() - {"spec.json", "trained_on.txt"})
    for file, keys in found.items():
        (section,) = [section for section in sections if file in section.partition("\n")[0]]
        assert [key for key in keys if f"`{key}`" not in section] == [], file


def keys_of_record(file, content):
    """Of a file of a run; none of spec.json, whose fields are in `Spec`."""
    if file.endswith(".npz"):
        arrays = np.load(io.BytesIO(content))
        protocol = json.loads(str(arrays["protocol"])) if file == "scores.npz" else {}
        names = {re.sub(r"^multiples_\d+$", "multiples_N", name) for name in arrays.files}
        return {name for name in names | protocol.keys() if not name.endswith("_shape")}
    if file in ("spec.json", "trained_on.txt"):
        return set()
    return {*json.loads(content.splitlines()[0] if file == "history.jsonl" else content)}
