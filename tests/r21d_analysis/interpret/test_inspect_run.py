"""A look into a run is kept small, read where no checkpoint is, and drawn without a network."""

import base64
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
import torch
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure
from PIL import Image

from r21d_analysis.interpret import activation_max, attribution_figures, captions, checkpoints, compute, filter_figures
from r21d_analysis.interpret.artifact import InsightRecord, load_record, save_record, without_frames
from r21d_analysis.interpret.attributions import for_attribution
from r21d_analysis.interpret.inspect_run import usual_videos
from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.engine.train import train
from r21d_core.runs.run import find_run
from tests.r21d_analysis.artifacts.test_tables_and_figures import NASTY
from tests.r21d_core.engine.test_classify import TINY
from tests.r21d_core.models.test_network import small

ROOT = Path(__file__).parents[3]
VARIANTS = ("f-R2D", "R3D", "R(2+1)D")
OPTIONS = {"device": "cpu"}


@pytest.fixture(scope="module")
def trained(tiny_manifest, tmp_path_factory):
    """A folder with a finished run of each of VARIANTS, and their looks."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [train(TINY.replace(variant=name), load_manifest(tiny_manifest), folder, device="cpu") for name in VARIANTS]
    filters = compute.load_or_compute_filters(runs, tiny_manifest, **OPTIONS)
    maps = compute.load_or_compute_attributions(runs, tiny_manifest, per_class=2, **OPTIONS)
    return folder, filters, maps


@pytest.fixture
def runs(trained, tmp_path):
    """Copies of the runs, to be changed."""
    shutil.copytree(trained[0], tmp_path / "runs")
    return [find_run(tmp_path / "runs", TINY.replace(variant=name)) for name in VARIANTS]


def test_network_of_a_run_says_what_its_scores_say(runs, tiny_manifest):
    spec = runs[2].spec
    network = checkpoints.open_network(runs[2], torch.device("cpu"))
    test = checkpoints.open_test_clips(spec, load_manifest(tiny_manifest), torch.device("cpu"))
    read = list(test.read(batch=3))
    assert np.concatenate([rows for rows, *_ in read]).tolist() == [0, 1, 2, 3]
    logits = torch.cat([network(clips) for *_, clips in read])
    middle = runs[2].scores.logits[:, 2]  # of 5 clips
    np.testing.assert_allclose(logits, middle, atol=1e-4)
    backwards = torch.cat([network(clips) for *_, clips in test.read(np.array([3, 0]))])
    torch.testing.assert_close(backwards, logits[[3, 0]])
    shown = torch.cat([frames for _, frames, _ in read])
    assert torch.equal(activation_max.as_frames(torch.cat([clips for *_, clips in read])), shown)
    path = test.videos[1].path
    assert torch.equal(checkpoints.cropped(checkpoints.read_clip(path, spec), spec)[0], shown[1])


def test_records_are_small_and_hold_no_network(trained):
    for kept in (*trained[1], *trained[2]):
        assert kept.metadata["spec"]["data"] == "tiny" and len(kept.metadata["weights"]) == 64
    for path in trained[0].glob("*/*.npz"):
        assert path.stat().st_size < 2e6


def test_record_without_frames_keeps_what_was_measured_and_says_so(trained):
    for kept, name in ((trained[1][2], "strips"), (trained[2][2], "frames")):
        passed_on = without_frames(kept)
        assert (passed_on[name] == 128).all() and passed_on[name].shape == kept[name].shape
        for other in set(kept.arrays) - {name}:
            np.testing.assert_array_equal(passed_on[other], kept[other])
        assert "grey where frames" in captions.told_words([passed_on]).data
        assert "grey where frames" not in captions.told_words([kept]).data


def test_network_blind_to_order_loses_nothing_by_it(trained):
    blind = trained[2][0]
    for change in ("shuffled", "reversed"):
        np.testing.assert_allclose(blind[f"evidence_{change}"], blind["evidence_original"], atol=1e-4)
    assert "nothing to it" in captions.lost_words([blind]).data or "no evidence" in captions.lost_words([blind]).data
    assert trained[1][0]["n_filters"].sum() == 0
    assert "no filter along time" in captions.orders_words(trained[1][:1]).data
    assert "along time" in filter_figures.orders_figure(trained[1][:1]).data


def test_clips_that_excite_are_the_strongest(trained, tiny_manifest):
    kept = trained[1][1]
    test = checkpoints.open_test_clips(TINY.replace(variant="R3D"), load_manifest(tiny_manifest), torch.device("cpu"))
    network = checkpoints.open_network(find_run(trained[0], TINY.replace(variant="R3D")), torch.device("cpu"))
    x = torch.cat([clips for *_, clips in test.read()])
    with torch.no_grad():
        first = network.relu(network.bn1(network.conv1(x)))
        values, labels = first.amax((2, 3, 4)).numpy(), test.clips.label
    channel = kept["channel"][0]
    between = sum((labels == one).sum() * (values[labels == one].mean(0) - values.mean(0)) ** 2 for one in (0, 1))
    assert channel == np.argmax(between / values.var(0) / len(values)) and kept["stage"][0] == "conv1"
    best = np.argsort(-values[:, channel], kind="stable")[:3]
    np.testing.assert_allclose(kept["responses"][0], values[best, channel], rtol=1e-5)
    assert kept["videos"][0].tolist() == test.names(best).tolist()
    place = np.unravel_index(first[best[0], channel].argmax().item(), first.shape[2:])
    np.testing.assert_allclose(kept["places"][0, 0], (np.array(place) + 0.5) / first.shape[2:], atol=1e-3)


def test_made_up_clips_drive_their_filter(monkeypatch):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = for_attribution(small("R(2+1)D").float())
    wanted, shape = [("conv1", 0), ("conv2_x", 3), ("conv4_x", 1)], (8, 16, 16)
    made = activation_max.maximize_activation(network, wanted, np.ones(3), shape)
    monkeypatch.setattr(activation_max, "STEPS", 0)
    noise = activation_max.maximize_activation(network, wanted, np.ones(3), shape)
    before, after = (activation_max._middle_response(network, wanted, clips) for clips in (noise, made))
    assert (after > before + 1).all()
    assert made.abs().max() < 3, "colours stay in the range of real ones"
    (rows, columns), _, (whole, _) = activation_max.receptive_field_box(network, wanted, made)
    assert (rows, columns) == (slice(5, 12), slice(5, 12)), "conv1 sees 7 × 7 about the middle of 16 × 16"
    assert whole == slice(0, 16)
    peaks = activation_max.peak_responses(network, wanted, made)
    assert (peaks >= after.detach().numpy() - 1e-5).all()


def test_kept_is_read_until_weights_or_settings_change(runs, tiny_manifest, monkeypatch):
    looked = []

    def look(run, test, videos, per_class, device):
        looked.append(run.spec.variant)
        return InsightRecord({}, {"a": np.ones(1)})

    monkeypatch.setattr(compute, "analyze_attributions", look)
    again = {"per_class": 2, **OPTIONS}
    assert len(compute.load_or_compute_attributions(runs, tiny_manifest, **again)) == 3 and not looked
    (found,) = compute.load_or_compute_attributions(runs[:1], tiny_manifest, **again | {"per_class": 1})
    assert looked == ["f-R2D"] and found.metadata["per_class"] == 1
    path = runs[1].folder / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    saved["model"]["fc.bias"] += 1
    torch.save(saved, path)
    compute.load_or_compute_attributions(runs[1:2], tiny_manifest, **again)
    assert looked == ["f-R2D", "R3D"]
    for run in runs:
        (run.folder / "checkpoint.pt").unlink()
    found = compute.load_or_compute_attributions(
        runs, None, **again | {"per_class": 7}
    )  # neither data nor weights are there
    assert len(found) == 3 and len(looked) == 2 and found[2].metadata["per_class"] == 2


def test_what_is_missing_or_damaged_is_a_line(runs, tiny_manifest, capsys):
    for name in ("checkpoint.pt", "filters.npz"):
        (runs[0].folder / name).unlink()
    (runs[1].folder / "filters.npz").write_bytes(b"PK")
    shutil.rmtree(runs[2].folder)
    assert compute.load_or_compute_filters(runs, tiny_manifest, **OPTIONS) == []
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("is left out of " in line for line in lines)
    assert f"r21d insight {runs[0].folder.name}" in lines[0] and "not a record of this kind" in lines[1]
    assert compute.load_or_compute_attributions(runs[1:2], tiny_manifest, videos=["gone.mp4"], **OPTIONS) == []
    assert "gone.mp4: neither a test video" in capsys.readouterr().out


def test_data_of_ones_own_are_found_where_manifests_are_written(runs, tiny_manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (runs[0].folder / "filters.npz").unlink()
    command = ["insight", str(runs[0].folder), "--device", "cpu", "--per-class", "2"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert said.startswith("f-R2D-10, seed 0, is left out of filters.npz: data tiny: ") and "--manifest" in said
    manifest = load_manifest(tiny_manifest)
    write_manifest(Path("data") / "tiny.csv", replace(manifest.card, root=str(manifest.root)), manifest.videos)
    assert main(command) == 0 and "2 of 2 records are there" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"modality": "flow"}, {"lr": 0.5}])
def test_a_checkpoint_of_something_else_is_refused(runs, change):
    with pytest.raises(R21DError, match=r"another spec"):
        checkpoints.open_network(type(runs[0])(runs[0].spec.replace(**change), runs[0].folder), torch.device("cpu"))


def test_a_network_of_flow_has_maps_but_no_filters(tiny_manifest, tmp_path, capsys):
    manifest = load_manifest(tiny_manifest)
    write_manifest(tmp_path / "tiny.csv", replace(manifest.card, root=str(manifest.root)), manifest.videos)
    path = tmp_path / "tiny.csv"  # in a folder of its own, where its flow goes
    run = train(TINY.replace(variant="R3D", modality="flow"), load_manifest(path), tmp_path / "runs", device="cpu")
    (kept,) = compute.load_or_compute_attributions([run], path, per_class=2, **OPTIONS)
    assert np.isfinite(kept["maps"].astype(float)).all() and kept["frames"].shape[-1] == 3
    assert (kept["frames"][..., 2] == 128).mean() > 0.9, "a field has two channels"
    video = str(kept["videos"][0])
    assert isinstance(attribution_figures.overlay_figure([kept], video), Figure)
    assert (
        "R3D-10, seed 0, flow" in captions.sanity_words([kept]).data
        and "fields of flow" in captions.told_words([kept]).data
    )
    assert "appearance" not in captions.lost_words([kept]).data
    assert compute.load_or_compute_filters([run], path, **OPTIONS) == []
    assert "is left out of " in capsys.readouterr().out
    own = str(manifest.videos[0].path)
    assert compute.load_or_compute_attributions([run], path, videos=[own], **OPTIONS) == []
    assert "a file of frames, and the run sees flow" in capsys.readouterr().out


def test_videos_that_are_mapped_by_default(tiny_manifest):
    test = checkpoints.open_test_clips(TINY, load_manifest(tiny_manifest), torch.device("cpu"))
    assert [name.split("/")[0] for name in usual_videos(test)] == ["dark", "bright"]
    families = {"light": ("dark", "bright"), "other": ("x",)}
    (name,) = usual_videos(type(test)(**vars(test) | {"families": families}))
    assert name.startswith("bright/")


def test_command_line_and_a_file_of_ones_own(runs, tiny_manifest, capsys, tmp_path):
    video = load_manifest(tiny_manifest).split("test")[1]
    shutil.copy(video.path, tmp_path / "own.mp4")
    command = ["insight", str(runs[2].folder), "--manifest", str(tiny_manifest), "--device", "cpu", "--per-class", "1"]
    assert main([*command, "--videos", f"{video.video},{tmp_path / 'own.mp4'}"]) == 0
    assert "2 of 2 records are there" in capsys.readouterr().out
    kept = load_record(runs[2].folder / "attributions.npz")
    assert kept["target"][0] == video.label and kept["target"][1] == kept["pred"][1]
    assert np.array_equal(kept["frames"][0], kept["frames"][1])
    assert len(kept["evidence_original"]) == 2
    assert main([*command, "--videos", "gone.mp4"]) == 1
    assert main(["insight", str(tmp_path)]) == 1 and "no spec.json" in capsys.readouterr().err
    assert main(["insight", str(tmp_path / "runs")]) == 1
    assert f"name some, such as {tmp_path / 'runs' / 'demo-'}" in capsys.readouterr().err


def test_figures_and_words(trained):
    _, filters, maps = trained
    video = str(maps[0]["videos"][0])
    drawn = [
        getattr(filter_figures, f"{name}_figure")(filters) for name in ("stem", "spectrum", "orders", "separability")
    ]
    drawn += [filter_figures.excited_figure(filters[:1]), attribution_figures.overlay_figure(maps, video)]
    drawn += [getattr(attribution_figures, f"{name}_figure")(maps) for name in ("gap", "sanity", "lost", "tiles")]
    for figure in drawn:
        assert isinstance(figure, Figure)
        figure.canvas.draw()
    for name in ("stem", "spectrum", "orders", "separability", "excited"):
        assert "R3D-10, seed 0" in getattr(captions, f"{name}_words")(filters).data
    for name in ("gap", "sanity", "lost", "tiles"):
        assert "R3D-10, seed 0" in getattr(captions, f"{name}_words")(maps).data
    assert "R3D-10" in captions.overlay_words(maps, video).data
    assert (
        "DEMONSTRATION" in captions.told_words(maps).data
        and maps[0].metadata["weights"][:12] in captions.told_words(maps).data
    )
    bars = [bar.get_height() for bar in drawn[2].axes[0].patches]
    np.testing.assert_allclose(np.reshape(bars, (3, -1)).sum(axis=0), 100)
    counts = filters[1]["counts"][0]
    assert bars[0] == pytest.approx(100 * counts[0] / counts.sum())
    for table in (filter_figures.orders_table(filters), filter_figures.separability_table(filters)):
        assert "conv2_x" in table.to_html()


def test_overlays_play(trained):
    maps = trained[2]
    played = attribution_figures.play_overlays(maps, str(maps[0]["videos"][0]))
    assert isinstance(played, HTML)
    data = base64.b64decode(re.search(r'src="data:image/webp;base64,([^"]*)"', played.data)[1])
    assert Image.open(io.BytesIO(data)).n_frames > 1
    assert isinstance(attribution_figures.play_overlays(maps, "another"), Markdown)


def test_verdicts_follow_the_correlations(trained):
    kept = trained[2][1]
    methods = [str(name) for name in kept["methods"]]
    line = np.linspace(0.9, 0.1, 6)
    table = np.tile(line, (len(methods), 1))
    table[methods.index("DeepLift")] = 0.7
    table[methods.index("occlusion in time")] = 0.9  # has too few values to be judged
    arrays = {**kept.arrays, "correlation": table, "resolution": np.full(len(methods), 100)}
    arrays["resolution"][methods.index("occlusion in time")] = 4
    text = captions.sanity_words([InsightRecord(kept.metadata, arrays)]).data
    assert "worthless here: DeepLift**" in text and "Not judged" in text.split("occlusion in time")[0]
    arrays["correlation"] = np.tile(line, (len(methods), 1))
    assert "no method keeps" in captions.sanity_words([InsightRecord(kept.metadata, arrays)]).data


def test_names_from_outside_are_escaped(trained):
    kept = trained[2][1]
    spoiled = {name: np.array([NASTY, *kept[name][1:]]) for name in ("videos", "target", "pred", "classes")}
    maps = [InsightRecord(kept.metadata, {**kept.arrays, **spoiled})]
    assert "<script>" not in attribution_figures.play_overlays(maps, NASTY).data
    for text in (captions.overlay_words(maps, NASTY).data, captions.lost_words(maps).data):
        assert "<script>" not in re.sub(r"`[^`]*`", "", text), "only within code, where Markdown escapes"
    for figure in (attribution_figures.overlay_figure(maps, NASTY), attribution_figures.lost_figure(maps)):
        figure.canvas.draw()


def test_without_records_a_line_says_so():
    for name in ("stem", "spectrum", "orders", "separability", "excited"):
        assert "Nothing to draw" in getattr(filter_figures, f"{name}_figure")([]).data
        assert "Nothing to draw" in getattr(captions, f"{name}_words")([]).data
    for name in ("gap", "sanity", "lost", "tiles"):
        assert "Nothing to draw" in getattr(attribution_figures, f"{name}_figure")([]).data
        assert "Nothing to draw" in getattr(captions, f"{name}_words")([]).data
    assert "Nothing to draw" in attribution_figures.play_overlays([], "").data
    assert "Nothing to draw" in attribution_figures.overlay_figure([], "").data


def test_kept_survives_the_disk(tmp_path):
    kept = InsightRecord({"a": 1}, {"x": np.arange(3), "names": np.array(["b"])})
    save_record(tmp_path / "x.npz", kept)
    found = load_record(tmp_path / "x.npz")
    assert found.metadata == kept.metadata and found["x"].tolist() == [0, 1, 2] and found["names"][0] == "b"
    with pytest.raises(R21DError, match=r"y\.npz: no such record"):
        load_record(tmp_path / "y.npz")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the notebook machinery's own making
@pytest.mark.parametrize("name", ["filters", "attributions"])
def test_notebook_without_runs_says_what_to_do(name, tmp_path):
    executed = papermill.execute_notebook(
        ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "out.ipynb", {"runs": str(tmp_path)}, cwd=ROOT / "notebooks",
        progress_bar=False,
    )  # fmt: skip
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert "to make them: r21d train variant_comparison" in text
    assert not any("image/png" in output.get("data", {}) for output in outputs)
    assert "Nothing to draw" in nbformat.writes(executed)
