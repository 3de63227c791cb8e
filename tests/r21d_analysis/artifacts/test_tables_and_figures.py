"""Tables and figures match the records and escape names."""

import re
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from bs4 import BeautifulSoup
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager

from r21d_analysis import style
from r21d_analysis.artifacts import curves, figures, folds, measures, streams, tables, temporal_probe
from r21d_analysis.artifacts.catalog import show_catalog
from r21d_analysis.artifacts.clip_figures import top_five_figure
from r21d_analysis.report import NOTEBOOKS
from r21d_analysis.statistics import aggregate
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.inference import SeedVariance
from r21d_analysis.statistics.power import detectable_difference
from r21d_analysis.study import missing_line
from r21d_core import R21DError
from r21d_core.runs.run import find_runs
from r21d_core.study.experiments import EXPERIMENTS, variant_comparison
from r21d_core.study.paper import paper
from r21d_core.study.recipes import CONFIRMATORY
from r21d_core.study.spec import Spec
from r21d_core.study.variants import NETWORKS
from tests.runs import NASTY, finish, make_runs


@pytest.fixture
def runs(tmp_path):
    return make_runs(variant_comparison("small", "set", variants=("f-R2D", "R3D", "R(2+1)D"), seeds=(0, 1)), tmp_path)


def test_tables_escape_names(runs):
    html = tables.show_variant_table(runs).to_html()
    assert "&lt;script&gt;" in html and NASTY not in html
    assert "paper, Kinetics-400" in html and f"{group_by_seed(runs)[0].video_at(1):.1f}" in html
    assert NASTY not in tables.deviations_from_paper([run.spec.replace(data=NASTY) for run in runs], "").data


def test_only_columns_of_long_texts_are_wrapped():
    long = "a check; the verdict is that of all videos"
    html = style.style_table(pd.DataFrame({"network": ["R3D"], "verdict": [long], "seeds": [5]})).to_html()
    (wrapped,) = re.findall(r"#T_\w+ (\S+) \{[^}]*white-space: normal", html)
    assert wrapped == ".col1"
    assert "normal" not in style.style_table(pd.DataFrame({"verdict": [long[:30]]})).to_html()


def test_wide_tables_have_what_all_rows_share_in_their_caption():
    """Whatever is measured stays a column, as do all columns of a table of one row and of one that is not wide."""
    same = {"videos": [4999] * 2, "seeds": ["1 seed", "1 seed"], "p, Holm": [np.nan, np.nan], "video@5": [100.0, 100.0]}
    table = pd.DataFrame({f"column {number}": [1.5, 2.5] for number in range(style.WIDE - 3)} | same)
    wide = style.style_table(table, "As measured")
    assert wide.caption == "As measured; the same in all rows: videos 4,999, 1 seed, p, Holm –"
    heads = [head.text for head in BeautifulSoup(wide.to_html(), "html.parser").select("thead th")]
    assert heads == [f"column {number}" for number in range(style.WIDE - 3)] + ["video@5"]
    assert list(wide.data) == list(table), "the Styler keeps them"
    for other in (table.iloc[:, 1:], table[:1]):
        assert style.style_table(other, "As measured").caption == "As measured"


def test_table_2_fits_beside_the_files_of_jupyterlab(runs):
    """In a window of 1440 pixels its widest words and numbers take less than 975, at 7 pixels a character."""
    html = BeautifulSoup(tables.show_variant_table(runs).to_html(), "html.parser")
    rows = [[cell.text.strip() for cell in row.select("th, td")] for row in html.select("tr")[1:]]
    heads = [max(map(len, head.split()), default=0) for head in rows[0]]
    width = [max(head, *map(len, column)) for head, *column in zip(heads, *rows[2:], strict=True)]
    assert sum(7 * letters + 6 for letters in width) < 975


def test_columns_of_words_are_aligned_to_the_left():
    words = {"network": ["R3D", "MC3"], "verdict": ["–", "none"]}
    numbers = {
        "seeds": [5, 3],
        "gap": [1.5, np.nan],
        "interval": ["-1.9 to +1.3", "–"],
        "needed": ["1,200", "more seeds"],
    }
    html = style.style_table(pd.DataFrame(words | numbers)).to_html()
    rules = re.findall(r"([^{}]+)\{([^}]*)\}", html)
    aligned = [names for names, css in rules if "text-align: left" in css and ".col" in names]
    assert sorted(re.findall(r"\.col(\d)", " ".join(aligned))) == ["0", "1"]


def test_dollars_in_tables_are_no_formula(runs, tmp_path):
    """Jupyter sets what stands between two dollars as mathematics, unless the table has a class that forbids it."""
    html = [style.style_table(pd.DataFrame({"class": ["$a_b$"]})).to_html()]
    html += [tables.deviations_from_paper([run.spec for run in runs], "variant_comparison").data]
    html += [show_catalog(str(tmp_path)).to_html()]
    for table in html:
        assert re.search('<table[^>]* class="[^"]*mathjax_ignore', table), table[:300]


def test_caption_names_frozen_stages(tmp_path):
    """Also where all rows have them, as a linear probe is no finetuned network."""
    specs = [Spec(data="set", epochs=2, init_from="mine.pt", frozen_stages=stages) for stages in (5, 0)]
    specs += [specs[1].replace(epochs=epochs) for epochs in (3, 0)]
    runs = make_runs(specs, tmp_path)
    assert "finetuned with frozen_stages=5 on 2,000,000 clips;" in tables.protocol_line(runs[:1])
    assert "; finetuned on 2,000,000 clips;" in tables.protocol_line(runs[1:2])
    both = "; finetuned on 2,000,000 / 3,000,000 clips / evaluated only, with the weights of another run;"
    assert both in tables.protocol_line(runs[1:])
    finish(runs[0], device="Other")
    assert [tables.protocol_line(some).rpartition("; ")[2] for some in (runs, runs[1:])] == [
        "on Other, TestGPU", "on TestGPU"
    ]  # fmt: skip


def test_protocol_line_names_a_demonstration(runs, tmp_path):
    line = tables.protocol_line(runs)
    parts = "24 of 25 videos", "3 clips of 16 frames at stride 2", "mean of softmax", "25 fps", "TestGPU", "small"
    assert all(part in line for part in parts)
    demo = make_runs(variant_comparison("demo", variants=("R3D",)), tmp_path / "demo")
    assert "DEMONSTRATION" in tables.protocol_line(demo) and "DEMONSTRATION" not in line
    longer = make_runs(variant_comparison("small", "set", variants=("R3D",), frames=32), tmp_path / "32")
    assert "3 clips of 16 / 32 frames at stride 2, " in tables.protocol_line(runs + longer)
    both = tables.protocol_line(runs + demo)
    assert "profile small" in both and "DEMONSTRATION" in both


def test_equal_results_have_no_interval(runs):
    table = tables.comparison_table([finish(run, runs[0].scores) for run in runs])
    assert table.data.iloc[0, 1:3].tolist() == ["+0.0", "–"] and table.data.iloc[0, 5] == "–"
    assert "2 seeds; 2 tests" in table.caption and "nan" not in table.to_html().lower().replace("nano", "")


def test_networks_of_several_settings_are_not_compared(runs, tmp_path):
    other = make_runs([run.spec.replace(lr=0.3, epochs=4) for run in runs], tmp_path / "other")
    with pytest.raises(R21DError, match=r"^f-R2D: its runs differ in epochs, lr; compare runs of one setting$"):
        tables.comparison_table(runs + other)
    with pytest.raises(R21DError, match=r"^R\(2\+1\)D: its runs differ in epochs, lr; compare"):  # which is subtracted?
        tables.compare(runs + [run for run in other if run.spec.variant == "R(2+1)D"])


def test_tables_of_one_run_say_what_their_intervals_lack(runs, tmp_path):
    """And have nothing in bold; where one network has one run, the others' variance is not its own."""
    show_streams = partial(streams.show_stream_table, table=4)
    for show in (tables.show_variant_table, temporal_probe.probe_table, folds.show_fold_table, show_streams):
        one, two = (show(some) for some in ([run for run in runs if run.spec.seed == 0], runs))
        assert tables.ONE_RUN in one.caption and tables.ONE_RUN not in two.caption, show
        assert "pooled" not in one.caption and "font-weight" not in one.to_html()
    assert "font-weight: bold" in tables.show_variant_table(runs).to_html()
    other = make_runs(variant_comparison("small", "set", variants=("C3D",)), tmp_path / "other")
    caption = tables.show_variant_table(runs + other).caption
    assert "those of other papers each by itself (not C3D, of one run), or each" in caption
    splits = variant_comparison("small", "set-split1", variants=("R3D", "R(2+1)D"), splits=(1, 2, 3))
    assert tables.describe_intervals(make_runs(splits, tmp_path / "splits"))[1], "splits have several runs"


def test_caption_has_the_range_of_what_the_tests_find(runs):
    points = sorted(detectable_difference(estimate, 2) for estimate in tables.compare(runs)["estimate"])
    assert points[0] < points[1] - 0.1
    found = f"2 seeds, {points[0]:.1f} to {points[1]:.1f} points at 80 % power; 2 tests"
    assert found in tables.comparison_table(runs).caption


def test_recordings_needed_are_explained_by_their_own_table(runs, monkeypatch):
    """The notebook shows another table with `splits`, which has no such column; so its text does not explain it."""
    table = tables.comparison_table(runs)
    assert "recordings needed" in table.data and "; recordings needed: those that would show" in table.caption
    assert "recordings needed:" not in tables.comparison_table([run for run in runs if run.spec.seed == 0]).caption
    for count, shown in ((816_027.0, "over 10,000"), (9_999.0, "9,999"), (np.inf, "more seeds")):
        monkeypatch.setattr(tables, "required_recordings", lambda *_, count=count: count)
        assert set(tables.comparison_table(runs).data["recordings needed"]) == {shown}
    assert "recordings needed" not in (NOTEBOOKS / "variant_comparison.ipynb").read_text("utf-8").lower()


def test_differences_are_those_of_the_comparison(runs):
    axes = figures.differences(runs).axes[0]
    points = [bar[0].get_xdata()[0] for bar in axes.containers]
    assert [f"{value:+.1f}" for value in points] == list(tables.comparison_table(runs).data.iloc[:, 1])
    (printed,) = (line.get_xdata() for line in axes.lines if line.get_markersize() == style.PAPER_TICK["ms"])
    gaps = [paper(2, name, "video@1 16f") - paper(2, "R(2+1)D", "video@1 16f") for name in ("f-R2D", "R3D")]
    assert list(printed) == pytest.approx(gaps)
    assert "a comparison needs" in figures.differences(runs[:2]).data


def test_families_have_their_chance(tmp_path):
    families = {"few": ["a", "b"], "many": ["c", "d", "e", "f"]}
    runs = make_runs(variant_comparison("demo", variants=("R3D", "R(2+1)D")), tmp_path, families)
    table = tables.family_table(runs)
    assert table["chance"].tolist() == [50, 25, 50, 25] and table["videos"].tolist() == [8, 16, 8, 16]
    assert table["low"].isna().equals(table["accuracy"] == 100), "where all are right no variance is known"
    sound = table.dropna()
    assert (sound["low"] <= sound["accuracy"]).all() and (sound["accuracy"] <= sound["high"]).all()
    figure = figures.family_bars(runs)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["few", "many"]
    assert "demonstration" in figure.get_suptitle()
    others = {"of the data, not of the task": ["disc", "square"]}
    for number, families in enumerate([{}, others]):
        without = make_runs(variant_comparison("small"), tmp_path / str(number), families)
        assert "form no families" in figures.family_bars(without).data


@pytest.mark.parametrize("x", ["gmac", "clips_per_second"])
def test_accuracy_against_cost_draws_every_network(runs, x):
    figure = figures.accuracy_against_cost(runs, x=x)
    ours = figure.axes[-1]
    assert {bar[0].get_markerfacecolor() for bar in ours.containers} == {"none"}, "a point under another is seen"
    drawn = sorted((round(float(bar[0].get_xdata()[0]), 3), float(bar[0].get_ydata()[0])) for bar in ours.containers)
    wanted = {
        "gmac": lambda group: group.mean("macs") / 1e9,
        "clips_per_second": lambda group: max(run.summary["inference_clips_per_second"] for run in group.runs),
    }
    assert drawn == sorted((round(wanted[x](group), 3), group.video_at(1)) for group in group_by_seed(runs))
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1, "one scale of cost for both panels"


def test_axis_of_speeds_names_several(tmp_path):
    runs = make_runs(variant_comparison("small", "set", variants=("R3D", "MC3", "R(2+1)D")), tmp_path)
    for speeds in ((8459, 9857, 15398), (6141, 7866, 26958), (2957, 4278, 19915), (1923, 2735, 3794)):
        for run, speed in zip(runs, speeds, strict=True):
            finish(run, inference_clips_per_second=float(speed))
        (axes,) = figures.accuracy_against_cost(runs, x="clips_per_second").axes
        low, high = axes.get_xlim()
        assert 3 <= sum(low <= tick <= high for tick in axes.get_xticks()) <= 5


def test_only_accuracies_on_actions_stand_beside_the_papers(runs, tmp_path):
    speed = make_runs(variant_comparison("small", "set", task="speed", variants=("33p22", "R3D")), tmp_path)
    assert len(figures.accuracy_against_cost(runs).axes) == 2 and len(figures.accuracy_against_cost(speed).axes) == 1


def test_speeds_are_of_one_device(tmp_path):
    runs = make_runs(variant_comparison("small", "set", variants=("f-R2D", "R3D", "MC3"), seeds=(0, 1, 2)), tmp_path)
    for run in (runs[0], *runs[6:]):  # the first seed of f-R2D, and all of MC3
        finish(run, device="Faster", train_clips_per_second=9e9, inference_clips_per_second=9e9)
    finish(runs[1], inference_clips_per_second=100.0)  # beside other work
    finish(runs[3], train_clips_per_second=None)  # resumed
    ours = figures.accuracy_against_cost(runs, x="clips_per_second").axes[0]
    speeds = {bar.get_label(): bar[0].get_xdata()[0] for bar in ours.containers}
    assert speeds == {"f-R2D": 320, "R3D": 350}
    here, elsewhere = ours.get_xlabel().splitlines()
    assert "TestGPU" in here and elsewhere.endswith("another device: MC3")
    table = tables.variant_table(runs)
    assert "clips/s" not in str(table["here"].columns) and "Faster" not in table.columns.levels[0]
    assert table["TestGPU", "inference clips/s"].dropna().to_dict() == {"f-R2D": 320, "R3D": 350}
    assert table["TestGPU", "training clips/s"]["R3D"] == runs[4].summary["train_clips_per_second"]
    assert table["TestGPU", "training clips/s"].dropna().to_dict() == {"f-R2D": 100, "R3D": 100}
    for run in runs[6:8]:  # three runs on each of three devices
        finish(run, device="Other")
    finish(runs[1], device="Faster")
    finish(runs[3], device="Other")
    assert measures.speed_device(runs) == measures.speed_device(runs[3:] + runs[:3]) == "Faster"


def test_training_curves_have_a_panel_for_each_network(runs):
    figure = curves.error_curves(runs, by="network")
    assert [axes.get_title() for axes in figure.axes if axes.axison] == ["f-R2D", "R3D", "R(2+1)D"]
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), [100, 50, 100 / 3])
    for axes in figure.axes[:3]:
        look = style.VARIANT_STYLE[axes.get_title()]
        assert {(line.get_color(), line.get_marker()) for line in axes.lines} == {(look["color"], look["marker"])}
    legends = [curves.error_curves(runs, by=by).legends[0].get_texts() for by in ("network", "recipe")]
    names = [[text.get_text() for text in texts] for texts in legends]
    assert names[0] == ["training", "test"], "the titles are the networks"
    assert names[1] == ["f-R2D", "R3D", "R(2+1)D", *names[0]]


def test_palette_is_that_of_seaborn():
    assert sns.color_palette("colorblind") == style.PALETTE


def test_every_named_network_has_a_look_of_its_own():
    named = [name for _, names, _ in style.KINDS.values() for name in names]
    assert sorted(named) == sorted(NETWORKS), "a network with a name needs a look: add it to style.KINDS"
    assert len({tuple(style.VARIANT_STYLE[name].values()) for name in named}) == len(named)


def test_tables_have_minus_signs_in_numbers_alone():
    """Names keep their hyphens, and so do the data, which are copied and exported."""
    names = ["f-R2D -1", "<-2>"]
    table = pd.DataFrame({"name": names, "gap": [-1.25, np.nan], "interval": ["-2.0 to -0.5", "–"], "n": ["-3", "1"]})
    shown = style.style_table(table, formats={"gap": "{:+.2f}"})
    cells = BeautifulSoup(shown.to_html(), "html.parser").find_all("td")
    texts = ["f-R2D -1", "−1.25", "−2.0 to −0.5", "−3", "<-2>", "–", "–", "1"]
    assert [cell.text for cell in cells] == texts and shown.data["interval"][0] == "-2.0 to -0.5"  # pyright: ignore


# To Oklab (Ottosson, 2020), in which 0.02 is a just noticeable difference: from linear sRGB to cones, and from these.
CONES = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.63]])
OKLAB = np.array([[0.2105, 0.7936, -0.0041], [1.978, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])
VISION = {  # how linear sRGB looks (Machado et al., 2009)
    "normal": np.eye(3),
    "deuteranopia": np.array([[0.3673, 0.8606, -0.228], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.052]]),
}


def color_distances(a, b):
    """The distance in Oklab of two colors, by vision."""
    colors = np.transpose([to_rgb(a), to_rgb(b)])
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = {name: OKLAB @ np.cbrt(CONES @ np.clip(matrix @ linear, 0, 1)) for name, matrix in VISION.items()}
    return {name: np.linalg.norm(lab[:, 0] - lab[:, 1]) for name, lab in seen.items()}


def test_kinds_of_close_colors_differ_in_their_markers():
    """Also to those who do not see red or green."""
    looks = {kind: (color, set(marks)) for kind, (color, _, marks) in style.KINDS.items()}
    looks["others"] = style.GRAY, {style.VARIANT_STYLE.default_factory()["marker"] for _ in range(20)}
    close = set()
    for (name, (color, markers)), (other, (its_color, its_markers)) in combinations(looks.items(), 2):
        distance = min(color_distances(color, its_color).values())
        close |= {(name, other)} if distance < 0.07 else set()
        assert distance >= 0.07 or markers.isdisjoint(its_markers), (name, other)
    assert ("MC", "others") in close and ("R2D", "MC") not in close


def test_streams_have_colors_of_their_own():
    colors = [look["color"] for look in streams.STREAM_STYLE.values()]
    for color in colors:
        for other in (*style.COLORS.values(), style.GRAY):
            assert color_distances(color, other)["normal"] > 0.1, (color, other)
    for pair in combinations(colors, 2):
        assert min(color_distances(*pair).values()) > 0.1, pair


def test_letters_come_from_an_installed_font(monkeypatch):
    """Of names of classes that matplotlib's own font cannot write."""
    others = [font for font in fontManager.ttflist if font.name not in style.CJK_FONTS]
    monkeypatch.setattr(fontManager, "ttflist", others)
    assert style.font_families() == ["sans-serif"], "matplotlib warns of a family that it does not find"
    installed = [FontEntry(name=name) for name in ("Noto Serif", "Noto Sans CJK SC")]
    monkeypatch.setattr(fontManager, "ttflist", others + installed)
    assert style.font_families() == ["sans-serif", "Noto Sans CJK SC"]


def test_missing_line_names_unfinished_runs(runs, tmp_path):
    more = runs + find_runs(variant_comparison("small", "set", variants=("MC3",)), tmp_path)
    line = missing_line(more, "r21d train …")
    assert line.startswith("6 of 7 runs are finished; missing: MC3-18 (seed 0, 16 frames, 10 clips)")
    assert missing_line(runs, "r21d train …") == "6 of 6 runs are finished."
    assert isinstance(curves.error_curves(more, by="network"), Figure)


@pytest.mark.parametrize(
    ("runs", "option"),
    [("../runs", ""), ("../results/my runs", " --runs 'results/my runs'"), ("../../elsewhere", " --runs ../elsewhere"),
     ("/elsewhere", " --runs /elsewhere")],
)  # fmt: skip
def test_missing_line_keeps_the_folder(runs, option):
    line = missing_line(find_runs(variant_comparison(), runs), "r21d train …")
    assert line.endswith(f"to make them: r21d train …{option}")


def test_network_that_was_not_run_has_a_row(tmp_path):
    specs = variant_comparison("small", "set", variants=("f-R2D", "MC3", "R(2+1)D"), seeds=(0, 1, 2))
    made = make_runs([spec for spec in specs if spec.variant != "MC3"][:5], tmp_path)
    runs = find_runs(specs, tmp_path)
    table = tables.variant_table(runs)
    assert table.index.tolist() == ["f-R2D", "MC3", "R(2+1)D"]
    seeds = table["here", "seeds"].tolist()
    assert seeds[0].startswith("3 (") and seeds[1] == "not run" and seeds[2].startswith("2 of 3 (")
    row = table.loc["MC3"]
    assert row["paper, Kinetics-400", "video@1, 16 frames"] == paper(2, "MC3", "video@1 16f")
    assert row[tables.COST, "parameters (M)"] == pytest.approx(11_695_440 / 1e6 - (400 - 6) * 513 / 1e6)
    assert row[tables.COST, "GMAC/clip"] == pytest.approx(43.343, abs=1e-3)
    assert row["here"].drop("seeds").isna().all()
    html = tables.show_variant_table(runs).to_html()
    assert "not run" in html and "–</td>" in html and ">24</td>" in html and "nan" not in html.lower()
    html = tables.comparison_table(runs).to_html()
    assert html.index(">f-R2D<") < html.index(">MC3<") and html.count("–</td>") == 6 and "not run" in html
    assert "needs MC3" in tables.comparison_table(runs, "MC3").data
    assert "minus f-R2D" in tables.comparison_table(runs, "f-R2D").to_html()
    done = tables.variant_table(made).loc[["f-R2D", "R(2+1)D"], "here"].drop(columns="seeds")
    assert table.loc[["f-R2D", "R(2+1)D"], "here"].drop(columns="seeds").equals(done), "the others are as they were"


def test_accuracies_of_the_paper_stand_after_those_here(tmp_path):
    """At the end of a dozen columns they would be off a screen."""
    runs = make_runs(variant_comparison("small", "set", variants=("R3D", "MC3"), frames=8), tmp_path)
    sides, names = zip(*tables.show_variant_table(runs).columns, strict=True)
    assert [*dict.fromkeys(sides)][:3] == ["here", tables.PAPER, tables.COST]
    assert names.index("video@1, 8 frames") <= 8


def test_only_actions_stand_beside_the_papers_accuracies(tmp_path):
    for task, names in (("action", ["clip@1, 8 frames", "video@1, 8 frames", "parameters (M)"]),
                        ("speed", ["parameters (M)"])):  # fmt: skip
        specs = variant_comparison("small", "set", variants=("R3D",), task=task, frames=8)
        assert [*tables.variant_table(make_runs(specs, tmp_path / task))["paper, Kinetics-400"]] == names


def test_networks_of_other_papers_leave_intervals_as_they_are(tmp_path, monkeypatch):
    specs = variant_comparison("small", "set", variants=("f-R2D", "R(2+1)D", "C3D"), seeds=(0, 1, 2))
    ours, all_of_them = (make_runs(specs[:count], tmp_path / str(count)) for count in (6, 9))
    alone, beside = (tables.variant_table(runs)["here"] for runs in (ours, all_of_them))
    assert beside.iloc[:2].equals(alone)
    assert "shown, those of other papers each by itself, or" in tables.show_variant_table(all_of_them).to_html()
    assert "shown, or" in tables.show_variant_table(ours).to_html()
    monkeypatch.setattr(aggregate, "pooled_seed_variance", lambda groups: SeedVariance(1e4, 1e4, 99))
    gaps = tables.compare(all_of_them).set_index("network")["estimate"]
    assert gaps["f-R2D"].seed_part > 1000 > gaps["C3D"].seed_part, "of C3D and R(2+1)D alone"


def test_rows_of_one_network_have_the_settings_that_differ(tmp_path):
    specs = [spec for lr in (0.1, 0.2) for spec in variant_comparison("small", "set", variants=("R3D",), lr=lr)]
    html = tables.show_variant_table(make_runs(specs, tmp_path)).to_html()
    assert "R3D, lr=0.1" in html and "R3D, lr=0.2" in html and "seed=" not in html


def test_rows_of_one_network_have_the_origin_of_their_weights(tmp_path):
    (scratch,) = variant_comparison("demo", variants=("R3D",))
    pretrained = scratch.replace(data="source").finetune_spec(data=scratch.data)
    specs = [scratch, scratch.replace(init_from="r3d_18"), pretrained, pretrained.replace(lr=0.1)]
    rows = tables.variant_table(make_runs(specs[:3], tmp_path)).index.tolist()
    assert rows == ["R3D, from scratch", "R3D, pretrained on r3d_18", "R3D, pretrained on source"]
    assert tables.variant_table(make_runs(specs, tmp_path)).index[3] == "R3D, lr=0.1, pretrained on source"


def test_network_outside_table_2_is_shown_without_paper_values(tmp_path):
    runs = make_runs(variant_comparison("small", "set", variants=("33p22", "R3D"), seeds=(0,)), tmp_path)
    table = tables.variant_table(runs)
    assert table.loc["33p22", "paper, Kinetics-400"].isna().all()
    assert table.loc["33p22", "here"].equals(table.loc["33p22", "here"].dropna())
    assert "33p22" in tables.show_variant_table(runs).to_html()
    legend = figures.accuracy_against_cost(runs).legends[0]
    labels = [text.get_text() for text in legend.get_texts()]
    assert "33p22" in labels and len(labels) == len({*labels}), "each once, for both panels"
    assert not legend.findobj(LineCollection), "points without the bars of their intervals"
    assert isinstance(curves.error_curves(runs), Figure)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_paper_profile_differs_from_the_paper_in_no_setting(experiment):
    data = {"sports1m": "sports1m", "transfer": "hmdb51-split1"}.get(experiment, "kinetics-400")
    found = tables.deviations_table(EXPERIMENTS[experiment]("paper", data, precision="fp32"), experiment)
    own = {"temporal_probe": {"task"}, "rate_pretraining": {"task", "clips_per_epoch"}, "recipe_trials": {"data"}}
    assert set(found["setting"]) == own.get(experiment, set()), "those of the experiments that the paper lacks"


def test_deviations_are_from_the_runs_of_the_same_table():
    def rows(experiment, profile="small", data="ucf101-7b-split1", **options):
        table = tables.deviations_table(EXPERIMENTS[experiment](profile, data, **options), experiment)
        return set(table.itertuples(index=False, name=None))

    table_2 = rows("variant_comparison")
    assert not [row for row in table_2 if row[0] == "frames"], "Table 2 has 8 and 16 frames"
    assert ("epochs", "45", "18") in table_2 and ("weight_decay", "0.0001 (authors' code)", "0.001") in table_2
    assert ("lr_decay_epochs", "10.0", "7.0") in table_2
    actions = rows("variant_comparison", **CONFIRMATORY["ucf101-14"])
    assert {("frame_stride_max", "0", "2"), ("lr_schedule", "step", "cosine")} <= actions
    assert not [row for row in actions if row[0] == "lr_decay_epochs"], "the cosine has no steps"
    assert ("frames", "32", "16", "all") in rows("clip_count")
    assert ("eval_clips", "101 (ours)", "13", "tested") in rows("clip_count", "demo", "builtin")
    assert not [row for row in rows("optimization_curves") if row[0] == "depth"], "Figure 3 has 18 and 34 layers"
    table_4 = rows("sports1m", variants=("s3d", "R(2+1)D"))
    assert {("depth", "34", "18"), ("eval_clips", "100", "10"), ("data", "sports1m", "ucf101-7b")} <= table_4
    assert not [row for row in table_4 if row[0] == "modality"]
    table_5 = rows("kinetics", source="ucf101-7a-split1")
    assert ("lr", "0.001", "0.004", "finetuned") in table_5
    assert ("lr", "0.01", "0.02", "from scratch, pretraining") in table_5
    assert ("frames", "32 (authors' code)", "8", "all") in table_5
    assert ("clips_per_epoch", "1000000 (ours)", "640", "finetuned") in table_5
    assert ("eval_clips", "269 (ours)", "10", "from scratch, finetuned") in table_5, "dense"
    table_6 = rows("transfer", source="ucf101-7a-split1")
    assert ("data", "ucf101, hmdb51", "ucf101-7b", "from scratch, finetuned") in table_6
    assert ("epochs", "8 (authors' code)", "15", "finetuned") in table_6
    assert ("clips_per_epoch", "100000 (authors' code), 40000 (authors' code)", "640", "finetuned") in table_6
    assert ("eval_clips", "269 (ours), 100", "10", "pretraining") in table_6, "Kinetics and Sports-1M"
    assert {("epochs", "45 (ours)", "30", "from scratch"), ("epochs", "45", "30", "pretraining")} <= table_6
    divided = rows("transfer", variants=("mvit_v2_s",))
    assert {("lr", "0.01 (ours)", "0.002", "from scratch"), ("lr", "0.01", "0.002", "pretraining")} <= divided
    assert ("lr", "0.0008 (authors' code), 0.0016 (authors' code)", "0.0004", "finetuned") in divided
    demo = rows("transfer", "demo", "builtin")
    batches = ("32 (ours)", "from scratch"), ("32", "pretraining"), ("32 (authors' code)", "finetuned")
    assert {("batch_size", printed, "16", role) for printed, role in batches} <= demo
    assert ("task", "action", "speed", "pretraining") in rows("rate_pretraining")
    assert ("flip", "True (authors' code)", "False") in rows("variant_comparison", data="miracl-vc1-split1")
    lengths = rows("clip_length", "demo", "builtin")
    assert ("frames", "8, 16, 24, 32, 40, 48", "4, 12", "from scratch") in lengths
    assert ("epochs", "15 (ours)", "3", "finetuned") in lengths
    on_flow = rows("clip_length", "demo", "builtin", modality="flow")
    assert {("modality", "rgb", "flow", "all"), ("epochs", "45", "12", "from scratch")} <= on_flow, "of the same role"


def test_deviations_name_every_other_setting():
    papers, ours = variant_comparison("paper", "kinetics-400", precision="fp32"), variant_comparison("small")
    assert "No setting differs" in tables.deviations_from_paper(papers, "variant_comparison").data
    html = tables.deviations_from_paper([spec.replace(data="kinetics-400") for spec in ours], "variant_comparison").data
    assert "<li>Convolutions compute in bf16" in html
    assert "<td>crop_area</td>" in html and "<td>data</td>" not in html


def test_text_contrasts_with_light_and_dark_pages():
    def luminance(color, over=None, alpha=1.0):
        mixed = [alpha * a + (1 - alpha) * b for a, b in zip(to_rgb(color), to_rgb(over or color), strict=True)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mixed]
        return np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05

    pages = {
        "white": "black",
        "#f5f5f5": "black",
        "#111": "white",
        "#222": "white",
    }  # JupyterLab, every other row
    paler = float(style.PAPER.split()[-1])
    for page, text in pages.items():
        contrasts = sorted((luminance(page), luminance(text, page, paler)))
        assert contrasts[1] / contrasts[0] > 4.5
    for page in ("white", "#111"):  # no gray has more than 4.35 on both
        contrasts = sorted((luminance(page), luminance(style.GRAY)))
        assert contrasts[1] / contrasts[0] > 4.3


@pytest.mark.parametrize("clips", [1, 10, 100])
def test_figure_shows_frames_and_probabilities(clips):
    frames = np.random.default_rng(0).integers(0, 256, (clips, 20, 20, 3), np.uint8)
    names, shares = ["cost in $ and $", "<b>bold</b>", "c", "d", "e"], [0.5, 0.2, 0.1, 0.1, 0.05]
    figure = top_five_figure(frames, names, shares)
    assert isinstance(figure, Figure)
    *strip, bars = [axes for part in figure.subfigs for axes in part.axes]
    assert len(strip) == min(10, clips)
    shown = [axes.images[0].get_array() for axes in strip]
    assert np.array_equal(shown[0], frames[0]) and np.array_equal(shown[-1], frames[-1])
    assert [bar.get_width() for bar in bars.patches] == [100 * share for share in shares]
    figure.canvas.draw()
    assert [label.get_text() for label in bars.get_yticklabels()] == names
    assert [text.get_text() for text in bars.texts] == ["50.0%", "20.0%", "10.0%", "10.0%", "5.0%"]
