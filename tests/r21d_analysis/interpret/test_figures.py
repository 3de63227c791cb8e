"""Figures, tables and captions of insight records, drawn without a network."""

import base64
import html
import io
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFTBASE, CARETRIGHTBASE
from PIL import Image

from r21d_analysis.interpret import attribution_figures, filter_figures, layer_figures
from r21d_analysis.interpret.filters import filter_statistics
from r21d_analysis.interpret.records import InsightRecord, with_unique_labels, without_frames
from r21d_core.models.network import VideoResNet
from r21d_core.study.schedule import shrinkage
from r21d_core.study.spec import Spec
from tests.runs import NASTY


def test_record_without_frames_keeps_all_numbers(trained):
    for record, name in ((trained[1][2], "strips"), (trained[2][2], "frames")):
        grey = without_frames(record)
        assert (grey[name] == 128).all() and grey[name].shape == record[name].shape
        for array in set(record.arrays) - {name}:
            np.testing.assert_array_equal(grey[array], record[array])
        assert "frames left out" in filter_figures.records_table([grey]).to_html()
        assert "frames left out" not in filter_figures.records_table([record]).to_html()


def test_frames_that_are_left_out_are_not_drawn(trained):
    filters, maps = (without_frames(records[2]) for records in trained[1:])
    video, methods = str(maps["videos"][0]), [str(name) for name in maps["methods"]]
    figure = attribution_figures.overlay_figure([maps, trained[2][1]], video)  # the second has its frames
    assert list(filter(None, (axes.get_ylabel() for axes in figure.subfigs[0].axes))) == methods
    assert "left out" in figure.get_supxlabel()
    assert isinstance(attribution_figures.play_overlays([maps, trained[2][1]], video), HTML)
    figure = filter_figures.activations_figure([filters])
    for axes in figure.axes:
        assert bool(axes.images) == axes.get_title().startswith("optimized")
    assert figure.axes[0].texts[0].get_text() == f"{filters['labels'][0, 0]}\n{filters['responses'][0, 0]:,.1f}"
    *of_text, of_clip = figure.axes[0].get_gridspec().get_width_ratios()
    assert max(of_text) < of_clip, "as narrow as the text"
    whole = filter_figures.activations_figure([trained[1][2]]).axes[0].get_gridspec()
    assert len({*whole.get_width_ratios()}) == 1


def test_figures_tables_and_captions(trained):
    _, filters, maps = trained
    video = str(maps[0]["videos"][0])
    drawn = filter_figures.stem_figure, filter_figures.spectrum_figure
    drawn += layer_figures.orders_figure, layer_figures.separability_figure
    figures = [draw(filters) for draw in drawn]
    figures += [filter_figures.activations_figure(filters[:1]), attribution_figures.overlay_figure(maps, video)]
    names = "completeness", "sanity", "evidence"
    figures += [getattr(attribution_figures, f"{name}_figure")(maps) for name in names]
    for figure in figures:
        assert isinstance(figure, Figure)
        figure.canvas.draw()
    for table in (filter_figures.records_table(maps), attribution_figures.sanity_table(maps)):
        assert "R3D-10, seed 0" in table.to_html()
    text = filter_figures.records_table(maps).to_html()
    assert "DEMONSTRATION" in text and maps[0].metadata["weights"][:12] in text
    assert "times the response to the best of 4 test clips" in figures[4].get_suptitle()
    gaps = [label.get_text() for label in figures[6].legends[0].get_texts()]
    assert f"R3D-10, seed 0, integrated gradients, 32 steps: {100 * maps[1]['gaps'][0, -1].mean():.2g} %" in gaps
    texts = [attribution_figures._gap_percent(gap) for gap in (1e-5, 0.011, 4.94, 544.6, 12345.0)]
    assert texts == ["below 0.01 %", "0.011 %", "4.9 %", "545 %", "12,345 %"]
    bars, counts = [bar.get_height() for bar in figures[2].axes[0].patches], filters[1]["counts"][0]
    np.testing.assert_allclose(np.reshape(bars, (3, -1)).sum(axis=0), 100)
    assert bars[0] == pytest.approx(100 * counts[0] / counts.sum())
    for figure in (figures[1], figures[3]):
        lines = {line.get_label(): line.get_marker() for line in figure.axes[0].lines if line.get_label()[0] != "_"}
        names = [record.label for record in filters if record.label in lines]
        assert len(names) > 1 and len({lines[name] for name in names}) == len(names), "not by color alone"
    for table in (layer_figures.orders_table(filters), layer_figures.separability_table(filters)):
        assert "conv2_x" in table.to_html()


def test_angle_of_an_older_record_leaves_weight_decay_out(trained):
    """What is known there is the change, of which weight decay is most: a turn by 30 degrees and its shortening."""
    record, recipe = trained[1][1], {"lr": 0.02, "weight_decay": 0.001, "epochs": 200, "clips_per_epoch": 1272}
    metadata = {**record.metadata, "spec": {**record.metadata["spec"], **recipe}}
    kept = 1 - shrinkage(Spec(**metadata["spec"]))
    change = np.array([1 - kept, np.hypot(1 - kept, kept * np.tan(np.radians(30))), 0.0])
    older = {"layer": np.array(["conv1", "a", "b"]), "temporal_change": change}
    assert 0.2 < kept < 0.8
    np.testing.assert_allclose(layer_figures.turned(InsightRecord(metadata, older)), [0, 30, 0], atol=1e-4)
    assert np.isnan(layer_figures.turned(InsightRecord(metadata, {"layer": older["layer"]}))).all()


def test_angles_are_drawn_of_both_parts_of_a_pair(trained):
    records = trained[1][1:]
    (axes,) = layer_figures.angles_figure(records).axes
    lines = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) > 2}
    pair = next(record for record in records if record["midplanes"].any())
    assert {*lines} == {*(record.label for record in records), f"{pair.label}, spatial"}
    for record in records:
        np.testing.assert_allclose(lines[record.label].get_ydata(), record["temporal_angle"])
    np.testing.assert_allclose(lines[f"{pair.label}, spatial"].get_ydata(), pair["spatial_angle"])
    (with_2d,) = layer_figures.angles_figure(trained[1]).axes
    assert all(trained[1][0].label not in line.get_label() for line in with_2d.lines), "f-R2D has no filter along time"
    finetuned = {name: array for name, array in pair.arrays.items() if not name.startswith(("temporal_", "spatial_a"))}
    older = {name: array for name, array in pair.arrays.items() if not name.endswith("_angle")}
    (computed,) = layer_figures.angles_figure([InsightRecord(pair.metadata, older)]).axes
    assert computed.lines[0].get_label() == f"{pair.label}, computed"
    assert "initial weights of these" in layer_figures.angles_figure([InsightRecord(pair.metadata, finetuned)]).data


def filter_record(variant="R3D", depth=18, width=4, **fields):
    """The statistics of an untrained network."""
    network = VideoResNet(variant, depth, width, num_classes=2)
    arrays = filter_statistics({name: tensor.numpy() for name, tensor in network.state_dict().items()})
    spec = Spec(variant=variant, depth=depth, width=width, **fields)
    arrays["temporal_angle"] = np.arange(len(arrays["layer"]), dtype=float)
    return InsightRecord({"spec": json.loads(spec.to_json())}, arrays)


def test_orders_are_compared_with_those_of_untrained_filters():
    """R2D's conv1 spans the clip, and of eight orders six are higher ones; five networks stand in two rows."""
    records = [filter_record("R2D", width=32), *(filter_record(seed=seed) for seed in range(4))]
    table = layer_figures.layer_table(records)
    assert table["near"][0] == "conv1" and table[["average", "higher"]].iloc[0].div(table["filters"][0]).tolist() == (
        pytest.approx([1 / 8, 6 / 8], abs=0.03)
    )
    figure = layer_figures.orders_figure(records)
    assert figure.axes[0].get_title().endswith("1 of 1 trained layers are within 3 points of untrained")
    assert [bool(axes.get_ylabel()) for axes in figure.axes[:5]] == [True, False, False, True, False]


def test_networks_of_one_label_are_told_apart():
    """Such as those of three splits, which were drawn as one network with all of their layers."""
    records = [filter_record(data="a"), filter_record(data="b"), filter_record("MC3", data="b"), filter_record(seed=1)]
    names = ["R3D-18, seed 0, data=a", "R3D-18, seed 0, data=b", "MC3-18, seed 0", "R3D-18, seed 1"]
    assert [record.label for record in with_unique_labels(records)] == names
    for figure in (layer_figures.separability_figure(records), layer_figures.angles_figure(records)):
        lines = {line.get_label(): line for line in figure.axes[0].lines}
        assert {len(lines[name].get_xdata()) for name in names} == {17}
    assert [*layer_figures.separability_table(records).data.columns.unique(0)] == names


def test_labels_of_stages_and_legends_do_not_overlap():
    """With 34 layers conv1 and conv2_x are narrow; a shallower network has its layers at those of the deeper one."""
    records = [filter_record(depth=34, data="a" * 30), filter_record(depth=34, data="b"), filter_record()]
    figure = layer_figures.separability_figure(records)
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) == 5 and all(left.x1 < right.x0 for left, right in pairwise(boxes))
    (legend,) = (legend.get_window_extent() for legend in figure.legends)
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1
    order = [*records[0]["layer"]]
    for axes in (figure.axes[0], layer_figures.angles_figure(records).axes[0]):
        places = next(line for line in axes.lines if line.get_label() == "R3D-18, seed 0").get_xdata()
        assert [order[int(place)] for place in places] == [*records[2]["layer"]]


def test_evidence_table_averages_seeds(trained):
    record = trained[2][1]
    spec = {**record.metadata["spec"], "seed": 1}
    arrays = {**record.arrays, "evidence_correct": np.ones(4, bool), "evidence_correct_frozen": np.full(4, 0.5)}
    seed_1 = InsightRecord({**record.metadata, "spec": spec}, arrays)
    arrays = {**record.arrays, "evidence_correct": np.zeros(4, bool), "evidence_correct_frozen": np.zeros(4)}
    table = attribution_figures.evidence_table([InsightRecord(record.metadata, arrays), seed_1]).data
    assert table["network"].tolist() == ["R3D-10, seed 0", "R3D-10, seed 1", "R3D-10, mean of 2 seeds (range)"]
    assert table["accuracy (%)"].tolist() == ["0", "100", "50 (0 to 100)"]
    assert table["accuracy, frozen (%)"].tolist() == ["0", "50", "25 (0 to 50)"]


def test_fractions_of_no_evidence_are_not_drawn(trained):
    """A fraction of evidence that is below zero would have the wrong sign; the table has a dash for it."""
    record = trained[2][1]
    evidence = {"evidence_occluded": np.full((2, 9), 0.5), "evidence_groups": np.arange(2)}
    clear, none = (
        InsightRecord(record.metadata, record.arrays | evidence | {"evidence_original": original})
        for original in (np.ones(2), np.array([-3.0, 2.0]))
    )
    figure = attribution_figures.occlusion_figure([clear, none])
    figure.canvas.draw()
    assert [len(axes.texts) for axes in figure.axes[:2]] == [9, 0] and figure.axes[0].texts[0].get_text() == "50"
    assert figure.axes[1].get_title() == "R3D-10, seed 0\nno clear evidence"
    assert isinstance(attribution_figures.occlusion_figure([none]), Markdown)
    gained = InsightRecord(clear.metadata, clear.arrays | {"evidence_occluded": np.full((2, 9), 1.001)})
    assert {text.get_text() for text in attribution_figures.occlusion_figure([gained]).axes[0].texts} == {"0"}, "not -0"


def test_overlays_are_animated(trained):
    maps = trained[2]
    played = attribution_figures.play_overlays(maps, str(maps[0]["videos"][0]))
    assert isinstance(played, HTML)
    data = base64.b64decode(re.search(r'src="data:image/webp;base64,([^"]*)"', played.data)[1])
    assert Image.open(io.BytesIO(data)).n_frames > 1
    assert isinstance(attribution_figures.play_overlays(maps, "another"), Markdown)
    for note in (attribution_figures.overlay_figure([], ""), filter_figures.activations_figure([])):
        assert "Nothing to draw" in note.data


@pytest.mark.parametrize(
    ("left", "groups", "arrows"),
    [(0.5, [0, 1], []), (-9, [0, 0], [210]), (9, [0, 1], [-60]), ([[-3], [4]], [0, 1], [-60, 210])],
)
def test_evidence_beyond_the_axis_has_an_arrowhead(trained, left, groups, arrows):
    """One recording has no interval; of two that differ both ends of the interval are beyond, and not the point."""
    record = trained[2][1]
    evidence = {name: np.resize(left, 2) for name in ("evidence_frozen", "evidence_shuffled", "evidence_reversed")}
    evidence |= {"evidence_original": np.ones(2), "evidence_occluded": np.broadcast_to(left, (2, 9))}
    arrays = {"classes": np.array(["a"]), "evidence_label": np.zeros(2, int), "evidence_groups": np.array(groups)}
    figure = attribution_figures.evidence_figure([InsightRecord(record.metadata, record.arrays | arrays | evidence)])
    heads = {-60: CARETLEFTBASE, 210: CARETRIGHTBASE}
    for axes in figure.axes:
        drawn = [(x, line.get_marker()) for line in axes.lines if not line.get_clip_on() for x in line.get_xdata()]
        assert sorted(drawn) == sorted(2 * [(x, heads[x]) for x in arrows]), "for all classes and for the only one"


def test_sanity_table_follows_the_correlations(trained):
    record = trained[2][1]
    methods = [str(name) for name in record["methods"]]
    falling = np.linspace(0.9, 0.1, 6)
    correlation, resolution = np.tile(falling, (len(methods), 1)), np.full(len(methods), 100)
    correlation[methods.index("DeepLift")] = 0.7
    correlation[methods.index("occlusion in time")] = 0.9
    resolution[methods.index("occlusion in time")] = 4  # too few positions to be tested
    arrays = {**record.arrays, "correlation": correlation, "resolution": resolution}
    table = attribution_figures.sanity_table([InsightRecord(record.metadata, arrays)]).data.set_index("method")
    verdicts = table["sanity check"]
    assert "not valid" in verdicts["DeepLift"] and "not tested" in verdicts["occlusion in time"]
    assert set(verdicts.drop(["DeepLift", "occlusion in time"])) == {"passed"}


def test_hostile_text_is_escaped(trained):
    text = f"{NASTY}**x**](javascript:1) `<b>`\n\n<i>$a_1$</li></ul><svg onload=1>"
    filters, record = trained[1][1], trained[2][1]
    spoiled = {name: np.array([text, *record[name][1:]]) for name in ("videos", "target", "pred", "classes")}
    metadata = {**record.metadata, "spec": {**record.metadata["spec"], "data": text, "task": text, "profile": text},
                "name": text, "device": text, "weights": text}  # fmt: skip
    maps = [InsightRecord(metadata, {**record.arrays, **spoiled})]
    filters = [InsightRecord({**metadata, "test_clips": 4}, filters.arrays)]
    tables = [layer_figures.orders_table(filters), layer_figures.separability_table(filters)]
    tables += [filter_figures.records_table(maps), attribution_figures.sanity_table(maps)]
    outputs = [table.to_html() for table in (*tables, attribution_figures.evidence_table(maps))]
    outputs += [attribution_figures.play_overlays(maps, text).data]
    for output in outputs:
        assert not re.search(r"<(script|b>`|i>|svg)", output) and text in html.unescape(output)
    for figure in (attribution_figures.overlay_figure(maps, text), attribution_figures.evidence_figure(maps)):
        figure.canvas.draw()


def test_prediction_isolates_a_name_from_the_right():
    arrays = {"pred": np.array(["بجد", "b"]), "target": np.array(["b", "b"]), "probability": np.array([0.4, 0.6])}
    record = InsightRecord({}, arrays)
    texts = [attribution_figures._describe_prediction(record, index) for index in range(2)]
    assert texts == [f"predicts \u2068{arrays['pred'][0]}\u2069; b: 40 %", "predicts b, 60 %"]
