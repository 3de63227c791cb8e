"""Insight records: computed from checkpoints, stored small, and read without a network."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.pyplot import imread

from r21d_analysis.interpret import (
    activation_max,
    attribution_figures,
    checkpoints,
    filter_figures,
    inspect_run,
    layer_figures,
)
from r21d_analysis.interpret.attributions import for_attribution
from r21d_analysis.interpret.filters import input_frames
from r21d_analysis.interpret.inspect_run import default_videos, load_or_compute
from r21d_analysis.interpret.records import ATTRIBUTIONS, FILTERS, InsightRecord, load_record, save_record
from r21d_analysis.study import open_study
from r21d_core import R21DError, load
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.data.transforms import crop_frames
from r21d_core.engine.build import build_model
from r21d_core.engine.train import train
from r21d_core.runs.run import find_run
from r21d_core.study.schedule import shrinkage
from tests.networks import TINY
from tests.r21d_analysis.interpret.conftest import OPTIONS, VARIANTS
from tests.r21d_core.models.test_network import small

ROOT = Path(__file__).parents[3]


@pytest.fixture
def runs(trained, tmp_path):
    """Copies of the runs that tests may change."""
    shutil.copytree(trained[0], tmp_path / "runs")
    return [find_run(tmp_path / "runs", TINY.replace(variant=name)) for name in VARIANTS]


def test_loaded_network_reproduces_the_scores(runs, tiny_manifest):
    spec = runs[2].spec
    network = checkpoints.open_network(runs[2], torch.device("cpu"))
    test = checkpoints.open_test_clips(spec, load_manifest(tiny_manifest), torch.device("cpu"))
    read = list(test.iter_batches(batch_size=3))
    assert np.concatenate([rows for rows, *_ in read]).tolist() == [0, 1, 2, 3]
    logits = torch.cat([network(clips) for *_, clips in read])
    middle = runs[2].scores.logits[:, 2]  # of 5 clips
    np.testing.assert_allclose(logits, middle, atol=1e-4)
    backwards = torch.cat([network(clips) for *_, clips in test.iter_batches(np.array([3, 0]))])
    torch.testing.assert_close(backwards, logits[[3, 0]])
    shown = torch.cat([frames for _, frames, _ in read])
    assert torch.equal(activation_max.as_frames(torch.cat([clips for *_, clips in read])), shown)
    path = test.videos[1].path
    assert torch.equal(crop_frames(checkpoints.read_clip(path, spec), spec)[0], shown[1])


def test_records_are_small_and_name_data_and_recordings(trained, tiny_manifest):
    for record in (*trained[1], *trained[2]):
        assert record.metadata["spec"]["data"] == "tiny" and len(record.metadata["weights"]) == 64
    groups = [video.group for video in load_manifest(tiny_manifest).split("test")]
    assert all(record["evidence_groups"].tolist() == groups for record in trained[2])
    for path in trained[0].glob("*/*.npz"):
        assert path.stat().st_size < 2e6


def test_network_on_single_frames_ignores_their_order(trained):
    record = trained[2][0]
    for change in ("shuffled", "reversed"):
        np.testing.assert_allclose(record[f"evidence_{change}"], record["evidence_original"], atol=1e-4)
        np.testing.assert_array_equal(record[f"evidence_correct_{change}"], record["evidence_correct"])
    assert trained[1][0]["n_filters"].sum() == 0
    assert "along time" in layer_figures.orders_figure(trained[1][:1]).data


def test_top_clips_have_the_largest_responses(trained, tiny_manifest):
    record = trained[1][1]
    test = checkpoints.open_test_clips(TINY.replace(variant="R3D"), load_manifest(tiny_manifest), torch.device("cpu"))
    network = checkpoints.open_network(find_run(trained[0], TINY.replace(variant="R3D")), torch.device("cpu"))
    x = torch.cat([clips for *_, clips in test.iter_batches()])
    with torch.no_grad():
        first = network.relu(network.bn1(network.conv1(x)))
        values, labels = first.amax((2, 3, 4)).numpy(), test.clips.label
    channel = record["channel"][0]
    between = sum((labels == one).sum() * (values[labels == one].mean(0) - values.mean(0)) ** 2 for one in (0, 1))
    assert channel == np.argmax(between / values.var(0) / len(values)) and record["stage"][0] == "conv1"
    best = np.argsort(-values[:, channel], kind="stable")[:3]
    np.testing.assert_allclose(record["responses"][0], values[best, channel], rtol=1e-5)
    assert record["videos"][0].tolist() == test.names(best).tolist()
    place = np.unravel_index(first[best[0], channel].argmax().item(), first.shape[2:])
    np.testing.assert_allclose(record["places"][0, 0], (np.array(place) + 0.5) / first.shape[2:], atol=1e-3)


def test_optimized_clips_activate_their_filter(monkeypatch):
    network = for_attribution(small("R(2+1)D").float())
    wanted, shape = [("conv1", 0), ("conv2_x", 3), ("conv4_x", 1)], (8, 16, 24)
    weak = activation_max.maximize_activation(network, wanted[:1], np.full(1, 1e6), shape)
    made = activation_max.maximize_activation(network, wanted, np.ones(3), shape)
    monkeypatch.setattr(activation_max, "STEPS", 0)
    noise = activation_max.maximize_activation(network, wanted, np.ones(3), shape)
    before, after = (activation_max._center_activation(network, wanted, clips) for clips in (noise, made))
    assert (after > before + 1).all()
    least = activation_max._center_activation(network, wanted[:1], weak)
    assert after[0] > least[0] + 1, "with a large scale the activation counts less than the penalty"
    assert made.abs().max() < 3, "colors stay in the range of images"
    (rows, columns), _, (whole, _) = activation_max.receptive_field_box(network, wanted, made)
    assert (rows, columns) == (slice(5, 12), slice(9, 16)), "conv1 sees 7 × 7 pixels at the center of 16 × 24"
    assert whole == slice(0, 16)
    peaks = activation_max.peak_responses(network, wanted, made)
    assert (peaks >= after.detach().numpy() - 1e-5).all()


def test_record_is_reused_until_weights_or_settings_change(runs, tiny_manifest, monkeypatch):
    analyzed = []

    def analyze(run, test, device, videos, per_class, steps):
        analyzed.append(run.spec.variant)
        return InsightRecord({}, {"a": np.ones(1)})

    monkeypatch.setattr(inspect_run, "analyze_attributions", analyze)
    again = {"per_class": 2, **OPTIONS}
    assert len(load_or_compute(ATTRIBUTIONS, runs, tiny_manifest, **again)) == 3 and not analyzed
    (found,) = load_or_compute(ATTRIBUTIONS, runs[:1], tiny_manifest, **again | {"per_class": 1})
    assert analyzed == ["f-R2D"] and found.metadata["per_class"] == 1
    path = runs[1].folder / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    saved["model"]["fc.bias"] += 1
    torch.save(saved, path)
    load_or_compute(ATTRIBUTIONS, runs[1:2], tiny_manifest, **again)
    assert analyzed == ["f-R2D", "R3D"]
    for run in runs:
        (run.folder / "checkpoint.pt").unlink()
    found = load_or_compute(ATTRIBUTIONS, runs, None, **again | {"per_class": 7})  # without data and weights
    assert len(found) == 3 and len(analyzed) == 2 and found[2].metadata["per_class"] == 2


def test_other_file_of_numpy_is_no_record(tmp_path):
    with open(tmp_path / "filters.npz", "wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(R21DError, match=r"filters\.npz: not an insight record \(.*; delete it and run"):
        load_record(tmp_path / "filters.npz")


def test_missing_or_damaged_runs_are_reported(runs, tiny_manifest, capsys):
    for name in ("checkpoint.pt", "filters.npz"):
        (runs[0].folder / name).unlink()
    (runs[1].folder / "filters.npz").write_bytes(b"PK")
    shutil.rmtree(runs[2].folder)
    assert load_or_compute(FILTERS, runs, tiny_manifest, **OPTIONS) == []
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("is left out of " in line for line in lines)
    assert f"r21d insight {runs[0].folder.name}" in lines[0] and "not an insight record" in lines[1]
    assert load_or_compute(ATTRIBUTIONS, runs[1:2], tiny_manifest, videos=["gone.mp4"], **OPTIONS) == []
    assert "gone.mp4: neither a test video" in capsys.readouterr().out


def test_manifest_is_found_in_the_data_folder(runs, tiny_manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (runs[0].folder / "filters.npz").unlink()
    command = ["insight", str(runs[0].folder), "--device", "cpu", "--per-class", "2"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "f-R2D-10, seed 0, is left out of filters.npz: data tiny: " in said and "--manifest" in said
    manifest = load_manifest(tiny_manifest)
    write_manifest(Path("data") / "tiny.csv", replace(manifest.card, root=str(manifest.root)), manifest.videos)
    assert main(command) == 0 and "2 of 2 records exist" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"modality": "flow"}, {"lr": 0.5}])
def test_checkpoint_of_another_spec_is_refused(runs, change):
    with pytest.raises(R21DError, match=r"another spec"):
        checkpoints.open_network(type(runs[0])(runs[0].spec.replace(**change), runs[0].folder), torch.device("cpu"))


def test_flow_network_has_maps_but_no_filters(tiny_manifest, tmp_path, capsys):
    manifest = load_manifest(tiny_manifest)
    write_manifest(tmp_path / "tiny.csv", replace(manifest.card, root=str(manifest.root)), manifest.videos)
    path = tmp_path / "tiny.csv"  # in a folder of its own, where its flow goes
    run = train(TINY.replace(variant="R3D", modality="flow"), load_manifest(path), tmp_path / "runs", device="cpu")
    (record,) = load_or_compute(ATTRIBUTIONS, [run], path, per_class=2, **OPTIONS)
    assert np.isfinite(record["maps"].astype(float)).all() and record["frames"].shape[-1] == 3
    assert (record["frames"][..., 2] == 128).mean() > 0.9, "a field has two channels"
    video = str(record["videos"][0])
    assert isinstance(attribution_figures.overlay_figure([record], video), Figure)
    assert "R3D-10, seed 0, flow" in attribution_figures.sanity_table([record]).to_html()
    assert "flow fields" in filter_figures.records_table([record]).to_html()
    assert load_or_compute(FILTERS, [run], path, **OPTIONS) == []
    assert "is left out of " in capsys.readouterr().out
    own = str(manifest.videos[0].path)
    assert load_or_compute(ATTRIBUTIONS, [run], path, videos=[own], **OPTIONS) == []
    assert "a video file, but the network's input is flow" in capsys.readouterr().out


def test_letters_of_ablations_have_records_and_figures(tiny_manifest, tmp_path, capsys):
    """All that `train` takes; each network has four of the letters."""
    specs = [TINY.replace(variant=letters) for letters in ("prsbt", "pnlhd")]
    runs = [train(spec, load_manifest(tiny_manifest), tmp_path, device="cpu") for spec in specs]
    folders = [str(run.folder) for run in runs]
    options = ["--manifest", str(tiny_manifest), "--per-class", "1", "--device", "cpu", "--no-optimize"]
    assert main(["insight", *folders, *options]) == 0
    assert "4 of 4 records exist" in capsys.readouterr().out
    records = [load_record(run.folder / FILTERS) for run in runs]
    assert all((record["n_filters"] > 0).all() and len(record["temporal_angle"]) == 9 for record in records)
    drawn = filter_figures.stem_figure, filter_figures.spectrum_figure, layer_figures.orders_figure
    for figure in (draw(records) for draw in (*drawn, layer_figures.angles_figure, layer_figures.separability_figure)):
        assert isinstance(figure, Figure)
        figure.canvas.draw()
    table = layer_figures.separability_table(records).data["prsbt-10, seed 0"]
    missing = table.index[table["one kernel, untrained"].isna()]
    assert [*missing] == [f"conv{stage}_x.0.conv{number}" for stage in (3, 4) for number in (1, 2)], "P3D's two forms"


def test_default_videos_are_of_last_classes(tiny_manifest):
    test = checkpoints.open_test_clips(TINY, load_manifest(tiny_manifest), torch.device("cpu"))
    assert [name.split("/")[0] for name in default_videos(test)] == ["dark", "bright"]
    families = {"light": ("dark", "bright"), "other": ("x",)}
    (name,) = default_videos(type(test)(**vars(test) | {"families": families}))
    assert name.startswith("bright/")


def test_items_of_one_video_at_several_rates_have_maps_each(tiny_manifest):
    """The default items are one video at each rate, which its name alone does not tell apart."""
    test = checkpoints.open_test_clips(TINY.replace(task="speed"), load_manifest(tiny_manifest), torch.device("cpu"))
    items = default_videos(test)
    assert [name.split(", ")[1] for name in items] == list(test.classes) and len({*items}) == len(items) == 4
    loaded = [inspect_run._load_video(test, name) for name in items]
    assert [label for _, label in loaded] == [0, 1, 2, 3]
    assert not any(torch.equal(loaded[0][0], frames) for frames, _ in loaded[1:])
    assert inspect_run._load_video(test, items[0].split(", ")[0])[1] == 0, "a video's name alone is its first item"


def test_command_line_needs_no_ipython(runs, tiny_manifest):
    code = "import sys; sys.modules['IPython'] = None; from r21d_core.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--manifest", tiny_manifest, "--device", "cpu", "--per-class", "1", "--no-optimize"]
    command = ["insight", runs[0].folder, *options]
    for name in (FILTERS, ATTRIBUTIONS):
        (runs[0].folder / name).unlink()
    result = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert "2 of 2 records exist" in result.stdout and not result.returncode, result.stderr


def test_command_line_accepts_videos_and_files(runs, tiny_manifest, capsys, tmp_path):
    video = load_manifest(tiny_manifest).split("test")[1]
    shutil.copy(video.path, tmp_path / "own.mp4")
    command = ["insight", str(runs[2].folder), "--manifest", str(tiny_manifest), "--device", "cpu", "--per-class", "1"]
    assert main([*command, "--videos", f"{video.video},{tmp_path / 'own.mp4'}"]) == 0
    assert "2 of 2 records exist" in capsys.readouterr().out
    record = load_record(runs[2].folder / "attributions.npz")
    assert record["target"][0] == video.label and record["target"][1] == record["pred"][1]
    assert np.array_equal(record["frames"][0], record["frames"][1])
    assert len(record["evidence_original"]) == 2
    with pytest.raises(R21DError, match=r"y\.npz: no such record"):
        load_record(tmp_path / "y.npz")
    assert main([*command, "--videos", "gone.mp4"]) == 1
    assert main(["insight", str(tmp_path)]) == 1 and "no spec.json" in capsys.readouterr().err
    assert main(["insight", str(tmp_path / "runs")]) == 1
    assert f"name some, such as {tmp_path / 'runs' / 'demo-'}" in capsys.readouterr().err


def test_code_of_the_howto_draws_maps_of_a_video(runs, tiny_manifest, tmp_path, monkeypatch, capsys):
    """Of the most probable class of its center clip, and all that `r21d insight --videos` computes."""
    section = (ROOT / "docs" / "howto.md").read_text().split("\n## See what a class rests on")[1].split("\n## ")[0]
    quick, of_record = re.findall(r"```python\n(.*?)```", section, re.S)
    runs[2].folder.rename(tmp_path / "runs" / "RUN")
    monkeypatch.chdir(tmp_path)
    shutil.copy(load_manifest(tiny_manifest).split("test")[1].path, "video.mp4")
    names: dict = {}
    exec(quick, names)
    likeliest = load("runs/RUN").predict("video.mp4", clips=1).top[0]
    record = names["record"]
    assert (str(record["target"][0]), str(record["pred"][0])) == (likeliest[0],) * 2
    assert record["probability"][0] == pytest.approx(likeliest[1], rel=1e-4)
    command = ["insight", "runs/RUN", "--manifest", str(tiny_manifest), "--per-class", "1", "--no-optimize"]
    assert main([*command, "--videos", "video.mp4"]) == 0
    assert "'See what a class rests on'" in capsys.readouterr().out
    exec(of_record, names)
    heights = [len(imread(name)) for name in ("maps.png", "all-maps.png")]
    assert 100 < heights[0] < heights[1], "two methods, and seven"


def test_optimized_clips_may_be_left_out(runs, tiny_manifest, capsys, monkeypatch):
    """The record is complete otherwise, and is computed again only where the clips are asked for."""
    path = runs[2].folder / FILTERS
    whole = load_record(path)
    path.unlink()
    command = ["insight", str(runs[2].folder), "--manifest", str(tiny_manifest), "--device", "cpu", "--per-class", "2"]
    assert main([*command, "--no-optimize"]) == 0
    record = load_record(path)
    assert set(whole.arrays) - set(record.arrays) == {"optimized", "optimized_responses"}
    np.testing.assert_array_equal(record["strips"], whole["strips"])
    (same,) = load_or_compute(FILTERS, runs[2:], tiny_manifest, **OPTIONS)
    assert "optimized" not in same.arrays, "a notebook takes the record as it is"
    figure = filter_figures.activations_figure([record])
    assert "clips were not optimized" in figure.get_suptitle()
    assert len(figure.axes) == record["responses"].size and all(axes.images for axes in figure.axes)
    capsys.readouterr()
    monkeypatch.setattr(activation_max.time, "perf_counter", partial(next, count(0, 10)))  # ten seconds a step
    assert main(command) == 0 and "optimized" in load_record(path).arrays
    assert re.search(r"10 clips for filters takes about [1-9]\d* min; .* --no-optimize", capsys.readouterr().out)
    assert main([*command, "--no-optimize"]) == 0 and "optimized" in load_record(path).arrays


def test_file_of_weights_names_the_command_for_a_run(tmp_path, capsys):
    (tmp_path / "mine.pt").write_bytes(b"")
    assert main(["insight", str(tmp_path / "mine.pt")]) == 1
    assert f"--set epochs=0 --set init_from={tmp_path / 'mine.pt'}" in capsys.readouterr().err


def test_taps_that_saw_one_frame_keep_their_initial_direction(trained, tiny_manifest):
    """Only weight decay changes them, by one factor."""
    run, record = find_run(trained[0], TINY.replace(variant="R3D")), trained[1][1]
    frames = input_frames(record.metadata["spec"])
    untrained = [layer for layer in record["layer"] if frames[layer] == 1]
    assert untrained == ["conv4_x.0.conv2", "conv5_x.0.conv1", "conv5_x.0.conv2"]
    with torch.random.fork_rng(devices=[]):
        initial = build_model(run.spec, 2, torch.device("cpu")).state_dict()
    state = checkpoints.open_network(run, torch.device("cpu")).state_dict()
    for layer in record["layer"]:
        taps = [weights[f"{layer}.weight"][:, :, [0, 2]].flatten() for weights in (state, initial)]
        ratio = taps[0] / taps[1]
        assert (ratio.std() / ratio.mean().abs() < 1e-4) == (layer in untrained), layer
        assert (float(1 - ratio.mean()) == pytest.approx(shrinkage(run.spec), abs=1e-6)) == (layer in untrained), layer
    change = torch.linalg.norm(state[f"{layer}.weight"] - initial[f"{layer}.weight"])
    assert record["temporal_change"][-1] == pytest.approx(float(change / initial[f"{layer}.weight"].norm()), rel=1e-4)
    vectors = state[f"{layer}.weight"].flatten(), initial[f"{layer}.weight"].flatten()
    cosine = float(torch.nn.functional.cosine_similarity(*(vector.double() for vector in vectors), dim=0))
    assert record["temporal_angle"][-1] == record["spatial_angle"][-1] == pytest.approx(np.degrees(np.arccos(cosine)))
    arrays = {key: value for key, value in record.arrays.items() if "angle" not in key}
    older = layer_figures.turned(InsightRecord(record.metadata, arrays))
    np.testing.assert_allclose(older, record["temporal_angle"], rtol=0.05)
    table = layer_figures.orders_table([record]).data
    cells = zip(table["stage"], table["only center taps trained"], strict=True)
    assert [f"{stage}.{name}" for stage, names in cells for name in filter(None, names.split(", "))] == untrained


@pytest.mark.parametrize(("name", "count"), [("filters", 8), ("attributions", 8)])
def test_notebook_without_runs_says_what_to_do(name, count, tmp_path, execute):
    outputs, printed = execute(name, runs=str(tmp_path))
    assert "to make them: r21d train variant_comparison" in printed
    *notes, papers = map(str, outputs)  # the paper's numbers come last
    assert len(notes) == count and all("Nothing to draw" in text for text in notes) and "<table" in papers


def test_runs_with_records_are_named_where_others_are_chosen(capsys):
    """And the named parameters open them."""
    pack = ROOT / "results" / "actions.zip"
    study = open_study("variant_comparison", variants="R3D, R(2+1)D", runs=pack)
    assert load_or_compute(FILTERS, study.runs, study.manifest) == []
    _, said = capsys.readouterr().out.split(f"In {pack} these runs have filters.npz; their parameters are\n")
    named = re.search(
        r"  the manifest of (\S+), profile = \"(.*?)\", task = \"(.*?)\", settings = \"(.*?)\": (.*)", said
    )
    data, profile, task, settings, networks = named.groups()
    assert "R3D, seed 0, 1, 2, 3, 4" in networks and data == "ucf101-14-split3"
    options = {"profile": profile, "task": task, "settings": settings, "manifest": f"{data}.csv", "seeds": "0, 4"}
    study = open_study("variant_comparison", variants="R3D", runs=pack, **options)
    assert len(load_or_compute(FILTERS, study.runs)) == 2
    assert "these runs have" not in capsys.readouterr().out


def test_clips_of_a_class_come_from_its_recordings_in_turn():
    """Not the first ones, which are of one speaker of MIRACL-VC1."""
    label, group = np.array([0, 0, 0, 0, 0, 1, 1, 1]), np.array(["a", "a", "a", "b", "c", "d", "d", "d"])
    rows = {n: checkpoints.spread_per_class(label, group, n).tolist() for n in (1, 2, 3, 4, 9)}
    assert rows[1] == [0, 5] and rows[2] == [0, 3, 5, 6] and rows[3] == [0, 3, 4, 5, 6, 7]
    assert rows[4] == [0, 1, 3, 4, 5, 6, 7] and rows[9] == [*range(8)]
    label, speaker = np.repeat([0, 1], 4), np.array(["a"] * 6 + ["b"] * 2)  # who is in several classes
    assert checkpoints.spread_per_class(label, speaker, 2).tolist() == [0, 1, 4, 6]


def test_evidence_has_labels_and_recordings_of_its_clips(runs, tiny_manifest, monkeypatch):
    monkeypatch.setattr(checkpoints, "spread_per_class", lambda *_: np.array([1, 2]))
    (runs[0].folder / ATTRIBUTIONS).unlink()
    (record,) = load_or_compute(ATTRIBUTIONS, runs[:1], tiny_manifest, **OPTIONS)
    scores = runs[0].scores
    assert record["evidence_groups"].tolist() == scores.groups[1:3].tolist()
    assert record["evidence_label"].tolist() == scores.labels[1:3].tolist()


def test_record_has_its_numbers_exact_and_its_pictures_close(tmp_path):
    rng = np.random.default_rng(0)
    pictures = np.repeat(np.repeat(rng.integers(0, 256, (4, 2, 6, 6, 3), np.uint8), 8, axis=2), 8, axis=3)
    arrays = {"frames": pictures, "optimized": pictures[0], "maps": rng.normal(size=(3, 5)), "labels": np.array(["ä"])}
    record = InsightRecord({"spec": {}}, arrays)
    save_record(tmp_path / "a.npz", record)
    save_record(tmp_path / "b.npz", record)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    stored = load_record(tmp_path / "a.npz")
    assert stored.metadata == record.metadata and stored.arrays.keys() == arrays.keys()
    for name in ("maps", "labels"):
        np.testing.assert_array_equal(stored[name], arrays[name])
    for name in ("frames", "optimized"):
        error = np.abs(stored[name].astype(int) - arrays[name])
        assert stored[name].shape == arrays[name].shape and stored[name].dtype == np.uint8
        assert 0 < error.max() <= 2, "JPEG of flat blocks"
    tall = InsightRecord({}, {"frames": np.repeat(pictures[..., :1, :], 700, axis=0)})  # 268,800 rows
    save_record(tmp_path / "tall.npz", tall)
    np.testing.assert_array_equal(load_record(tmp_path / "tall.npz")["frames"], tall["frames"])
