"""Texts of the drawings and sums of the tables, against the paper."""

from itertools import pairwise

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from r21d_analysis.artifacts import architecture, architecture_figures
from r21d_analysis.artifacts.architecture_figures import LETTERS
from r21d_core import R21DError
from r21d_core.models.architecture import midplanes
from r21d_core.models.cost import cost
from r21d_core.study.paper import paper
from r21d_core.study.variants import ABLATIONS, VARIANTS


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def sheets(axes, letter):
    """How many sheets of a letter's look are drawn: (its hatched front ones, all of its color)."""
    _, color, hatch = LETTERS[letter]
    sheets = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    of = [patch for patch in sheets if to_hex(patch.get_facecolor()) == to_hex(color)]
    return sum((patch.get_hatch() or "") == hatch for patch in of), len(of)


WIDENING = "1×3×3, M = {}\n3×1×1, 128\n1×3×3, M = 288\n3×1×1, 128\n× {}"  # has midplanes of its own


@pytest.mark.parametrize(
    ("variant", "depth", "frames", "expected"),
    [
        ("R3D", 18, 8, ["3×7×7, 64", "3×3×3, 512\n3×3×3, 512\n× 2 blocks", "8×56×56", "1×7×7", "2×2×2"]),
        ("R2D", 18, 16, ["16×7×7, 64", "1×56×56", "1×3×3, 64\n1×3×3, 64\n× 2 blocks", "2-D, whole clip"]),
        ("f-R2D", 34, 16, ["1×7×7, 64", "16×7×7", "1×3×3, 256\n1×3×3, 256\n× 6 blocks"]),
        ("MC4", 18, 8, ["4×28×28", "4×14×14", "4×7×7", "1×3×3, 512\n1×3×3, 512\n× 2 blocks"]),
        ("R(2+1)D", 18, 8, ["1×7×7, M = 45\n3×1×1, 64", "2×14×14", "(2+1)D"]),
        ("R(2+1)D", 34, 8, [WIDENING.format(230, "1 block") + "\n\n" + WIDENING.format(288, "3 blocks")]),
    ],
)
def test_drawing_has_kernels_and_sizes(variant, depth, frames, expected):
    figure = architecture_figures.draw_network(variant, depth, frames=frames)
    assert not set(expected) - set(texts(figure))
    count = cost(variant, depth, frames=frames)
    assert any(f"{count.parameters:,} parameters" in text for text in texts(figure))


@pytest.mark.parametrize("variant", [*ABLATIONS, "cplnh"])
def test_ablations_are_drawn(variant):
    drawn = texts(architecture_figures.draw_network(variant))
    assert "ablation" in drawn and any(text.startswith(f"{variant}, 18 layers") for text in drawn)
    stages = architecture.stages_of(variant, 18, 64, 8)
    for before, after in pairwise(stages):
        expected = [-(-n // stride) for n, stride in zip(before.size, after.stride, strict=True)]
        assert list(after.size) == expected, "the branches of a block are not one after the other"


def test_stacks_have_a_sheet_for_each_frame():
    axes = architecture_figures.draw_network("MC4", frames=8).axes[0]
    assert sheets(axes, "3") == (3, 8 + 8 + 4)
    assert sheets(axes, "2")[1] == 4 + 4
    assert sheets(architecture_figures.draw_network("R(2+1)D", frames=16).axes[0], "p") == (5, 16 + 16 + 8 + 4 + 2)
    looks = {(to_hex(color), hatch) for _, color, hatch in LETTERS.values()}
    assert len(looks) == len(LETTERS) and len({hatch for _, hatch in looks}) == len(LETTERS)


@pytest.mark.parametrize("frames", [8, 48])
def test_texts_of_a_drawing_do_not_overlap(frames):
    figure = architecture_figures.draw_network("R(2+1)D", 34, frames=frames)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > 40
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_all_twelve_are_drawn_with_their_stages():
    figure = architecture_figures.draw_all(frames=16)
    panels = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in figure.axes}
    assert set(panels) == set(VARIANTS)
    for variant, lines in panels.items():
        assert lines[1::3] == [LETTERS[letter][0].split(",")[0] for letter in VARIANTS[variant]]
        assert lines[-1] == f"T = {cost(variant, frames=16).final_shape[1]}"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [name for name, *_ in LETTERS.values()]


def test_factorization_gives_midplanes_and_weights():
    lines = "\n".join(texts(architecture_figures.draw_factorization(64, 128)))
    parts = "= 221,184 weights", "64 → 230", "= 132,480 weights", "= 88,320 weights", "together 220,800", "99.8 %"
    assert all(part in lines for part in parts)
    assert "⌊3·3²·64·128 / (3²·64 + 3·128)⌋ = ⌊221,184 / 960⌋ = 230" in lines
    with pytest.raises(R21DError, match="0 → 64: expected 1 or more"):
        architecture_figures.draw_factorization(0, 64)


def test_stage_table_is_the_papers_table_1():
    table = architecture.stage_table()
    assert table["output T×H×W"].tolist() == ["8×56×56", "8×56×56", "4×28×28", "2×14×14", "1×7×7"]
    assert table.loc["conv1", "R3D-18"] == "3×7×7, 64" and table.loc["conv1", "stride"] == "1×2×2"
    filters = [64, 128, 256, 512]
    for depth, blocks in ((18, [2, 2, 2, 2]), (34, [3, 4, 6, 3])):
        expected = [f"[3×3×3, {f}; 3×3×3, {f}] × {n}" for f, n in zip(filters, blocks, strict=True)]
        assert table[f"R3D-{depth}"].tolist()[1:] == expected


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("depth", "width", "frames"), [(18, 64, 8), (34, 64, 16), (10, 8, 8)])
def test_layers_sum_to_the_total(variant, depth, width, frames):
    table, total = architecture.layer_table(variant, depth, width, frames), cost(variant, depth, width, frames, 400)
    layers = table.drop("total")
    assert table.index[-3:].tolist() == ["fc", "batch norm", "total"]
    assert layers["weights"].sum() == table.loc["total", "weights"] == total.parameters
    assert layers["GMAC"].sum() * 1e9 == pytest.approx(table.loc["total", "GMAC"] * 1e9) == pytest.approx(total.macs)
    assert layers.drop("batch norm")["weights"].sum() == total.conv_fc_weights


def test_midplanes_follow_the_formula_except_the_stem():
    table = architecture.midplanes_table()
    stem, blocks = table.loc["conv1"], table.drop("conv1")
    assert (stem["M by the formula"], stem["M here"]) == (83, 45) and "not the formula's 83" in stem["remark"]
    assert (blocks["M by the formula"] == blocks["M here"]).all()
    assert blocks["M here"].tolist() == [midplanes(*shape) for shape in zip(blocks.inputs, blocks.outputs, strict=True)]
    assert table["times"].sum() == 17
    assert table.loc["conv3_x.0.conv1", "working"] == "⌊3·3²·64·128 / (3²·64 + 3·128)⌋ = ⌊221,184 / 960⌋"
    total = cost("R(2+1)D")
    shortcuts = sum(conv.weights for conv in total.convs if "shortcut" in conv.name)
    assert (table["weights"] * table["times"]).sum() + shortcuts + 513 * 400 == total.conv_fc_weights


def test_torchvisions_midplanes_give_its_parameters():
    table = architecture.midplanes_table()
    fewer = table["times"] * (table["M here"] - table["M in torchvision"]) * (9 * table.inputs + 3 * table.outputs + 2)
    assert cost("R(2+1)D").parameters - fewer.sum() == 31_505_325
    marked = table[table["remark"].str.contains("torchvision")]
    assert marked["M in torchvision"].tolist() == [230, 460, 921] and marked.index.str.endswith(".0.conv2").all()


def test_counts_match_table_2_except_mc5():
    table = architecture.counts_table()
    assert table.index.tolist() == list(VARIANTS)
    for variant in VARIANTS:
        assert table.loc[variant, "paper (M)"] == paper(2, variant, "parameters (M)")
    assert table.loc["R(2+1)D", ["parameters", "conv + fc weights"]].tolist() == [33_370_839, 33_344_679]
    assert table.loc["MC5", "agrees"] == "no: rounds to 16.8; with batch norm to 16.9"
    assert (table.drop("MC5")["agrees"] == "yes").all()
    assert table.loc["MC4", "final T"] == "4, 8"
    assert table.loc["R3D", "GMAC, 16 frames"] == pytest.approx(40.697, abs=5e-4)
    assert "paper (M)" not in architecture.counts_table(34)


def test_errors_of_the_paper_are_as_the_notebook_says():
    full = {name for name in VARIANTS if f"{cost(name).parameters / 1e6:.1f}" != str(paper(2, name, "parameters (M)"))}
    assert full == {"rMC2", "rMC3", "R(2+1)D"}  # these tell that the paper leaves batch norm out
    assert f"{cost('R2D', frames=16).conv_fc_weights / 1e6:.1f}" == "11.5"
    assert f"{cost('R(2+1)D', stem_midplanes=83).conv_fc_weights / 1e6:.1f}" == "33.4"


def test_styled_tables_are_complete():
    html = architecture.show(architecture.layer_table("R(2+1)D", 34)).to_html()
    assert "conv5_x.2.conv2.3" in html and "63,697,175" in html and "38.089" in html
    assert "&lt;NA&gt;" not in html and "nan" not in html
    html = architecture.show(architecture.counts_table()).to_html()
    assert "16.9" in html and "opacity: 0.7" in html


def test_unknown_network_raises():
    with pytest.raises(R21DError, match="did you mean R3D"):
        architecture_figures.draw_network("R3")
