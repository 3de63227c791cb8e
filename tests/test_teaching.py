"""The answers in docs/teaching.md are those of the records and of arithmetic; what a student trains is not compared."""

import re
from pathlib import Path

import pytest

from r21d_analysis.artifacts.confirmatory import PLANNED, confirmatory_table
from r21d_analysis.artifacts.folds import composition_table
from r21d_analysis.artifacts.tables import compare
from r21d_analysis.explorer.widget import Explorer
from r21d_analysis.style import P
from r21d_core import R21DError
from r21d_core.models.architecture import midplanes
from r21d_core.models.cost import cost, spec_cost
from r21d_core.runs.run import find_runs, load_runs
from r21d_core.study.experiments import variant_comparison, why_2plus1d

ROOT = Path(__file__).parents[1]
PARTS = (ROOT / "docs/teaching.md").read_text("utf-8").split("\n## ")
ANSWERS = [" ".join(part.split("What to see: ")[-1].split()) for part in PARTS]  # by the number of the exercise


def signed(value):
    return f"{value:+.1f}".replace("-", "−")


@pytest.fixture(scope="module")
def actions():
    return load_runs(ROOT / "results/actions.zip")


def test_one_seed_of_the_pack_is_as_the_page_says():
    runs = find_runs(variant_comparison("demo", "builtin"), ROOT / "results/demo.zip")
    found = {row.network: row.estimate for row in compare(runs, "R(2+1)D").itertuples()}
    low, high = (signed(value) for value in (found["f-R2D"].low, found["f-R2D"].high))
    assert f"is {signed(found['f-R2D'].value)} points with an interval of {low} to {high}" in ANSWERS[1]
    low, high = (signed(value) for value in (found["rMC3"].low, found["rMC3"].high))
    assert f"in the pack it is {signed(found['rMC3'].value)} ({low} to {high})" in ANSWERS[1]


def test_explorer_shows_what_the_page_says():
    """Opened as its notebook does, but for the runs of a student."""
    packs = [str(ROOT / "results" / f"{name}.zip") for name in ("actions", "small", "diagnostic")]
    shown = Explorer(", ".join(packs), str(ROOT / "data_manifests"), "R3D, R(2+1)D")
    summary = re.sub(r"<[^>]+>|\s+", " ", shown.summary.value)
    accuracies = re.findall(r"mean of 5 seeds +[\d.]+ +([\d.]+)", summary)
    gap, low, high = re.search(r"A − B \(points\) +(\S+) +(\S+) to (\S+)", summary).groups()
    assert (
        f"{accuracies[0]} and {accuracies[1]} % video@1, a difference of {gap} points ({low} to {high})" in ANSWERS[2]
    )
    count = re.search(r"zero in (\d+) of (\d+) classes with an interval; (\S+) are", shown.views["Classes"].caption)
    said = "In the tab Classes {} of {} intervals excludes zero, and {} are expected by chance"
    assert said.format(*count.groups()) in ANSWERS[2]
    shown.draw_confusion()
    name, other = re.search(r"most often \S+ × (\w+) → (\w+),", shown.views["Confusion"].caption).groups()
    assert f"the most frequent error is {name} taken for {other}" in ANSWERS[2]
    shown.data.value = "ucf101-14-split1, action"
    runs = dict(shown.a.options)
    for menu, name in ((shown.a, "R3D"), (shown.b, "R(2+1)D")):
        assert f"{name}-18, epochs 18, mean of 3 seeds" in runs
        menu.value = runs[f"{name}-18, epochs 200, mean of 5 seeds"]
    summary = re.sub(r"<[^>]+>|\s+", " ", shown.summary.value)
    gap, low, high = re.search(r"A − B \(points\) +(\S+) +(\S+) to (\S+)", summary).groups()
    assert f"With one split the study's difference is {gap} ({low} to {high})" in ANSWERS[2]


def test_networks_without_the_relu_are_as_large():
    specs = why_2plus1d("demo", "builtin", variants=("R(2+1)D", "R3D", "R(2+1)D-noReLU", "pllll"))
    parameters = [spec_cost(spec, 10).parameters for spec in specs]
    relus = composition_table(specs).data["ReLUs"]
    assert 1.01 < max(parameters) / min(parameters) < 1.02
    assert f"parameters to 2 %, and {relus.min():.0f} to {relus.max():.0f} ReLUs" in ANSWERS[3]


def test_midplanes_and_weights_are_those_by_hand():
    m = [27 * i * o // (9 * i + 3 * o) for i, o in ((64, 64), (64, 128))]
    weights = [planes * (9 * i + 3 * o) for planes, (i, o) in zip(m, ((64, 64), (64, 128)), strict=True)]
    assert m == [midplanes(64, 64, "p"), midplanes(64, 128, "p")]
    stem = 3 * 49 * 3 * 64 // (49 * 3 + 3 * 64)
    less = 27 * 64 * 128 - weights[1]
    assert f"M is {m[0]} and {m[1]}. The first pair has {weights[0]:,} weights, as many as the 3-D" in ANSWERS[4]
    assert weights[0] == 27 * 64 * 64 and f"the second has {weights[1]:,}, which is {less} fewer" in ANSWERS[4]
    assert f"In conv1 the formula gives {stem} and the authors' code has 45" in ANSWERS[4]
    ours, full = cost("R(2+1)D"), cost("R3D")
    by_formula = cost("R(2+1)D", stem_midplanes=stem)
    assert [f"{c.conv_fc_weights / 1e6:.1f}" for c in (ours, by_formula)] == ["33.3", "33.4"]
    assert round(100 * (full.conv_fc_weights / ours.conv_fc_weights - 1), 2) == 0.05
    assert f"but {full.macs / 1e9:.3f} GMAC where R(2+1)D has {ours.macs / 1e9:.3f}" in ANSWERS[4]
    tiny = [spec_cost(spec, 10).parameters for spec in variant_comparison("demo", variants=("R3D", "R(2+1)D"))]
    assert f"R3D has {100 * (tiny[0] / tiny[1] - 1):.1f} % more parameters" in ANSWERS[4]
    for call, number in re.findall(r"^(cost\(.*)  # (\d[\d,]*\d)", PARTS[4], re.M):
        assert f"{eval(call, {'cost': cost}):,}" == number


def test_code_of_the_page_prints_its_answer(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(PARTS[5].split("```python\n")[1].split("```")[0], {})
    assert ANSWERS[5].startswith(capsys.readouterr().out.strip() + ", and the test set has 98 recordings")


def test_p_values_by_hand_are_those_of_the_study(actions):
    """Holm's method on the rounded p-values of the page, without the function of the suite."""
    lists = re.search(r"With 16 frames: (.*?); with 8: (.*?)\. What", " ".join(PARTS[5].split())).groups()
    given = {}
    for frames, names in zip((16, 8), lists, strict=True):
        given |= {(name, frames): float(p) for name, p in re.findall(r"([\w-]+) ([\d.e-]+\d)", names)}
    table = confirmatory_table(actions, PLANNED[1:])
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(given, key=given.__getitem__)):
        corrected[name] = largest = min(1.0, max(largest, (len(given) - rank) * given[name]))
    found = dict(zip(zip(table["network"], table["frames"], strict=True), table[P], strict=True))
    assert corrected == pytest.approx(found, rel=0.02)
    assert "MC3's p is 0.019, with 16 frames, and f-R2D's is 0.051, with 8" in ANSWERS[5]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, ""),
        ((".mean((2, 3, 4)))", ".mean((2, 3, 4))).softmax(1)"), "without a softmax after it"),
        (("self.conv", "self.convs[0]"), "are no parameters of the network"),
        (("nn.Linear(64, num_classes)", "nn.Linear(64, 400)"), "num_classes.*here 10"),
        (("nn.Conv3d(in_channels, 64, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3))", "nn.Conv2d(3, 64, 7)"), "line"),
    ],
)
def test_mistakes_of_a_first_network_are_refused(change, says, tmp_path, monkeypatch, request):
    text = (ROOT / "docs/howto.md").read_text("utf-8").split("### A network of your own code")[1]
    code = text.split("```python\n")[1].split("```")[0]
    wrong = code.replace(*change) if change else code
    wrong = wrong.replace("self.convs[0] = nn.Conv3d", "self.convs = [None]\n        self.convs[0] = nn.Conv3d")
    module = f"first_net_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(wrong)
    monkeypatch.syspath_prepend(tmp_path)
    (spec,) = variant_comparison("demo", "builtin", variants=(f"{module}:build",))
    if change:
        assert wrong != code
        with pytest.raises(R21DError, match=says):
            spec_cost(spec, 10)
    else:
        found = spec_cost(spec, 10)
        assert f"{found.parameters:,} parameters and {found.macs / 1e9:.3f} GMAC" in ANSWERS[6]
        assert found.parameters == (9 * 49 + 1) * 64 + 65 * 10
        assert found.macs == 9 * 49 * 64 * 8 * 16 * 16 + 64 * 10
