"""Classifying one video gives what the evaluation of a run gives for it."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.special import softmax

from r21d_analysis.artifacts.topk_figure import top_five_figure
from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data.decode import read_all
from r21d_core.engine import classify as module
from r21d_core.engine.classify import classify
from r21d_core.models.network import VideoResNet
from r21d_core.models.zoo import Published, kinetics400
from tests.bad_videos import write_video
from tests.r21d_core.engine.test_train import SPEC
from tests.r21d_core.models.test_load import as_theirs, small


@pytest.fixture
def noise(tmp_path):
    return write_video(tmp_path / "noise.mp4", np.random.default_rng(0).integers(0, 256, (21, 48, 64, 3), np.uint8))


@pytest.fixture
def file(tmp_path):
    """Random weights of a small R3D for 400 classes under torchvision's names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(as_theirs(small("R3D", num_classes=400)), tmp_path / "r3d.pth")
    return tmp_path / "r3d.pth"


@pytest.mark.parametrize("task", ["action", "speed"])
def test_prediction_equals_the_evaluation_of_the_run(task, tiny, fit):
    run = fit(SPEC.replace(task=task, epochs=1, eval_clips=5), cache="host")
    scores, labels = run.scores, 1 if task == "action" else 4
    for number, video in enumerate(tiny.split("test")):
        # for speed each video has one item per rate, the first of which is its own
        expected = softmax(scores.logits[number * labels].astype(np.float64), axis=-1).mean(0)
        for weights in (run, run.folder, run.folder / "checkpoint.pt"):
            prediction = classify(video.path, weights, clips=5, device="cpu")
        assert [name for name, _ in prediction.top] == [scores.classes[index] for index in np.argsort(-expected)]
        np.testing.assert_allclose([share for _, share in prediction.top], -np.sort(-expected), rtol=1e-4)
        assert "classes of the run" in prediction.protocol
        assert f"from {video.frames} at 25 frames" in prediction.protocol


def test_top_five_equal_a_numpy_implementation(noise, file):
    """Compare with numpy and one forward pass, written from the definition of the protocol."""
    prediction = classify(noise, file, clips=3, frames=8, device="cpu")
    pixels = read_all(noise, (128, 171))
    cropped = pixels[:, 8:120, 29:141]
    scaled = (cropped / 255 - [0.43216, 0.394666, 0.37645]) / [0.22803, 0.22145, 0.216989]
    clips = np.stack([scaled[start : start + 8] for start in (0, 6, 13)]).transpose(0, 4, 1, 2, 3)
    network = VideoResNet("R3D", 10, 4, num_classes=400, eps=1e-5).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.load_state_dict(small("R3D", num_classes=400).state_dict())
    with torch.no_grad():
        expected = network(torch.from_numpy(clips).float()).softmax(1).mean(0)
    best = expected.argsort(descending=True)[:5]
    assert [name for name, _ in prediction.top] == [kinetics400()[index] for index in best]
    np.testing.assert_allclose([share for _, share in prediction.top], expected[best], rtol=1e-4)
    assert np.array_equal(prediction.frames, cropped[[4, 10, 17]])
    assert "R3D-10 (torchvision); 3 clips of 8 frames, stride 1, from 21 at 25 frames a second" in prediction.protocol


def test_published_weights_set_clip_length_and_stride(noise, file, monkeypatch):
    sha = module.read_weights(file).sha256[:8]
    row = Published("r3d", f"http://nowhere.example/r3d-{sha}.pth", "torchvision", "R3D", 10, 12, 400, "", "", 15)
    assert "3 clips of 16 frames, stride 1," in classify(noise, file, clips=3, device="cpu").protocol
    monkeypatch.setattr(module, "PUBLISHED", (row,))
    for options, expected in ({}, "12 frames, stride 2,"), ({"frames": 4, "frame_stride": 3}, "4 frames, stride 3,"):
        assert f"3 clips of {expected}" in classify(noise, file, clips=3, device="cpu", **options).protocol


def test_unnamed_outputs_are_numbered(noise, tmp_path):
    torch.save(small("R3D", num_classes=7).state_dict(), tmp_path / "r3d.pth")
    prediction = classify(noise, tmp_path / "r3d.pth", clips=1, frames=4, device="cpu")
    assert len(prediction.top) == 5 and all(name.startswith("output ") for name, _ in prediction.top)
    assert "do not name their classes" in prediction.protocol


@pytest.mark.parametrize(
    ("options", "says"),
    [({"clips": 0}, "clips = 0, expected 1 or more"), ({"frames": 0}, "frames = 0"), ({"device": "abacus"}, "abacus")],
)
def test_impossible_options_are_refused(options, says, noise, file):
    with pytest.raises(R21DError, match=says):
        classify(noise, file, **options)


def test_weights_for_flow_are_refused(noise, tmp_path):
    torch.save(small("R3D", in_channels=2).state_dict(), tmp_path / "flow.pth")
    with pytest.raises(R21DError, match=r"flow\.pth: takes 2 channels"):
        classify(noise, tmp_path / "flow.pth")


def test_command_prints_the_top_five(noise, file, tmp_path, capsys):
    command = ["classify", str(noise), "--weights", str(file), "--clips", "2", "--frames", "4", "--device", "cpu"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "mean of softmax" in lines[5]
    shares = [float(line.split("%")[0]) for line in lines[:5]]
    assert shares == sorted(shares, reverse=True)
    assert all(line.split("%  ")[1] in kinetics400() for line in lines[:5])

    (tmp_path / "broken.mp4").write_bytes(noise.read_bytes()[:500])
    for video in ("broken.mp4", "gone.mp4"):
        assert main(["classify", str(tmp_path / video), *command[2:]]) == 1
        said = capsys.readouterr().err
        assert said.startswith("r21d: ") and video in said and len(said.splitlines()) == 1
    assert main(["classify", str(noise), "--weights", "r3d_18", "--cache-dir", str(tmp_path)]) == 1
    assert f"{tmp_path / 'r3d_18-b3b3357e.pth'}: no such file" in capsys.readouterr().err


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
