"""Weights of every layout are recognised, compute what their own network computes, and say what they did not fill."""

import argparse
import io
import os
import pickle
import re
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem
from torchvision.models.video.resnet import VideoResNet as TheirVideoResNet

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.models import load
from r21d_core.models.convert import _torchvision_key, identify_architecture
from r21d_core.models.load import load_weights_into, model_from_weights, read_weights
from r21d_core.models.network import VideoResNet
from r21d_core.models.zoo import Published
from r21d_core.study.spec import Spec, parse_settings
from r21d_core.study.variants import DEPTHS, FIVE_LETTERS, NETWORKS, VARIANTS, stage_spec, variant_name
from tests.networks import randomize_batch_norms

HERE = Path("in memory")


def lively(network):
    randomize_batch_norms(network, min_var=0.01)  # eps shows in small ones
    nn.init.normal_(network.fc.bias)
    return network.eval().requires_grad_(False)


def small(variant="R(2+1)D", depth=10, width=4, num_classes=6, **options):
    return lively(VideoResNet(variant, depth, width, num_classes=num_classes, **options))


def as_theirs(network):
    """The state dict under torchvision's names, which the oracles of this file and its neighbour hold to be right."""
    state = network.state_dict()
    stem = {"stem.3.weight": None} if "conv1.3.weight" in state else {}
    named = _torchvision_key(stem)
    return {named(name): tensor for name, tensor in state.items()}


def saved(content, folder, name="weights.pth", **options):
    torch.save(content, folder / name, **options)
    return folder / name


def test_authors_34_layers_compute_the_same():
    """Built from torchvision's class with what the authors do otherwise: M_i for each convolution, and eps 1e-3."""

    class OfEachConv(Conv2Plus1D):
        def __init__(self, inputs, outputs, _, stride=1, padding=1):
            super().__init__(inputs, outputs, inputs * outputs * 27 // (inputs * 9 + outputs * 3), stride, padding)

    oracle = TheirVideoResNet(BasicBlock, [OfEachConv] * 4, [3, 4, 6, 3], R2Plus1dStem, num_classes=359)
    for module in lively(oracle).modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    clips = torch.randn(1, 3, 5, 16, 24)
    weights = identify_architecture(oracle.state_dict(), HERE)
    assert (weights.layout, weights.eps, weights.depth, weights.num_classes) == ("authors", 1e-3, 34, 359)
    assert (weights.variant, weights.stem_midplanes, weights.midplanes_per_block) == ("R(2+1)D", 45, False)
    network = model_from_weights(weights).eval()
    assert sum(p.numel() for p in network.parameters()) == 63_697_175 - 41 * 513
    with torch.no_grad():
        expected = oracle(clips)
        torch.testing.assert_close(network(clips), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        for module in network.modules():
            module.eps = 1e-5
        assert (network(clips) - expected).abs().max() > 1e-3 * expected.abs().max()  # the test sees eps


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("theirs", [False, True])
def test_the_twelve_are_identified_and_compute_the_same(variant, theirs, tmp_path):
    network = small(variant, frames=5)
    state = as_theirs(network) if theirs else network.state_dict()
    weights = read_weights(saved(state, tmp_path))
    assert (weights.variant, weights.depth, weights.width, weights.num_classes) == (variant, 10, 4, 6)
    assert weights.frames == (5 if variant == "R2D" else None)
    clips, again = torch.randn(2, 3, 5, 16, 16), model_from_weights(weights).eval()
    for module in again.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.eps == (1e-5 if theirs and variant != "R(2+1)D" else 1e-3)
            module.eps = 1e-3
    assert torch.equal(again(clips), network(clips))


@settings(deadline=None, max_examples=12)  # the first example imports, and 34 layers take a while
@given(
    variant=st.sampled_from(sorted(NETWORKS)) | st.from_regex(FIVE_LETTERS, fullmatch=True),
    depth=st.sampled_from(sorted(DEPTHS)), width=st.integers(1, 9), frames=st.integers(4, 9),
    num_classes=st.integers(1, 9), in_channels=st.integers(1, 4), stem=st.none() | st.integers(1, 99),
    per_block=st.booleans(), torchvision=st.booleans(),
)  # fmt: skip
def test_architecture_is_read_from_shapes(
    variant, depth, width, frames, num_classes, in_channels, stem, per_block, torchvision
):
    letters = stage_spec(variant, depth)[0]
    with torch.device("meta"):
        network = VideoResNet(
            variant, depth, width, num_classes=num_classes, frames=frames, in_channels=in_channels, stem_midplanes=stem,
            midplanes_per_block=per_block,
        )  # fmt: skip
    state = as_theirs(network) if torchvision else network.state_dict()
    weights = identify_architecture(state, HERE)
    assert (weights.variant, weights.depth, weights.width) == (variant_name(variant), depth, width)
    assert (weights.num_classes, weights.in_channels) == (num_classes, in_channels)
    assert weights.frames == (frames if letters[0] == "c" else None)
    assert weights.stem_midplanes == ((stem or max(45 * width // 64, 1)) if letters[0] == "p" else None)
    assert weights.midplanes_per_block == (per_block and "p" in letters[2:])
    assert list(weights.state) == list(network.state_dict())
    assert all(ours is theirs for ours, theirs in zip(weights.state.values(), state.values(), strict=True))


def test_a_checkpoint_says_what_shapes_cannot(tmp_path):
    spec = Spec(variant="R2D", depth=10, width=4, frames=3)
    checkpoint = {"spec": asdict(spec), "model": small("R2D", frames=3).state_dict(), "state": {}}
    weights = read_weights(saved(checkpoint, tmp_path))
    assert (weights.variant, weights.frames, weights.layout, weights.eps) == ("R2D", 3, "checkpoint", 1e-3)
    assert weights.spec == spec
    assert read_weights(saved(checkpoint["model"], tmp_path)).variant == "MC2"


@pytest.mark.parametrize("fields", [{"later": 1}, {"frames": -1}, {"variant": "later"}, {1: 2}])
def test_spec_of_another_version_names_the_file(fields, tmp_path):
    with pytest.raises(R21DError, match=r"weights\.pth: its spec is not one of this version \(.+\); use"):
        read_weights(saved({"spec": fields, "model": small().state_dict()}, tmp_path))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.01)},
        lambda state: {"module." + key: value for key, value in state.items()},
        lambda state: {"state_dict": {"module._orig_mod." + key: value for key, value in state.items()}},
        lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
        lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
    ],
)
@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.parametrize("zipped", [False, True])  # PyTorch wrote no zip files before 1.6
def test_wrapped_weights_are_read(wrap, theirs, zipped, tmp_path):
    network = small()
    state = as_theirs(network) if theirs else network.state_dict()
    path = saved(wrap(state), tmp_path, _use_new_zipfile_serialization=zipped)
    again = model_from_weights(read_weights(path)).state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda state: state.update(classifier=torch.zeros(1)), "classifier matches no known layout"),
        (lambda state: state.update({"fc2.bias": torch.zeros(1)}), "fc2.bias matches no known layout"),
        (lambda state: state.update({"layer1.0.conv3.0.weight": torch.zeros(1)}),
         "layer1.0.conv3.0.weight matches no weight of MC3 of 10 layers"),
        (lambda state: state.pop("layer3.0.conv2.1.bias"), "no key layer3.0.conv2.1.bias, which MC3 of 10 layers has"),
        (lambda state: state.pop("fc.weight"), "no key fc.weight"),
        (lambda state: state.pop("stem.0.weight"), "no key stem.0.weight"),
        (lambda state: state.update({"stem.0.weight": torch.zeros(4, 3, 7, 7)}),
         "stem.0.weight has shape (4, 3, 7, 7), expected 5 dimensions"),
        (lambda state: state.update({"layer4.0.conv2.0.weight": torch.zeros(32, 32, 3, 3, 3)}),
         "layer4.0.conv2.0.weight has shape (32, 32, 3, 3, 3), expected (32, 32, 1, 3, 3) in MC3 of 10 layers"),
        (lambda state: state.update({"layer4.0.conv1.0.weight": torch.zeros(32, 16, 3, 3, 3)}),
         "layer4.0.conv2.0.weight has shape (32, 32, 1, 3, 3), expected (32, 32, 3, 3, 3) in 33223 of 10 layers"),
        (lambda state: state.update({"layer4.0.conv1.0.weight": torch.zeros(32, 16, 5, 3, 3)}),
         "layer4.0.conv1.0.weight has shape (32, 16, 5, 3, 3), expected (32, 16, 3, 3, 3) in 33223 of 10 layers"),
        (lambda state: state.update({"layer4.1.conv1.0.weight": torch.zeros(1)}),
         "has [1, 1, 1, 2] blocks in its four stages, expected one of [[1, 1, 1, 1]"),
        (lambda state: state.update(step=3), "step is a int, expected a state dict of tensors only"),
        (lambda state: state.clear(), "contains no state dict, only dict"),
        (lambda state: state["stem.1.running_var"].fill_(np.nan), "stem.1.running_var has values that are not finite"),
        (lambda state: state["fc.weight"].view(-1)[5:6].fill_(np.inf), "fc.weight has values that are not finite"),
    ],
)  # fmt: skip
def test_misfitting_key_is_named(harm, says, tmp_path):
    state = as_theirs(small("MC3"))
    harm(state)
    path = saved(state, tmp_path)
    with pytest.raises(R21DError) as raised:
        read_weights(path)
    assert str(raised.value).startswith(f"{path}: {says}")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


class Command:
    def __reduce__(self):
        return (os.system, ("exit 1",))  # of a module that PyTorch blocks, which it reports in other words


def caffe2(protocol):
    return pickle.dumps({"blobs": {"conv1_middle_w": np.zeros((2, 2), np.float32)}}, protocol)


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"")
    return buffer.getvalue()


def torch_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_told_and_the_advice_serves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = small("R3D")
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 2, 16, 16)), "net.pt")
    with pytest.raises(R21DError, match=r"^net\.pt: a network in TorchScript; expected a file of its state") as raised:
        read_weights("net.pt")
    (advice,) = re.findall(r", which (torch.+) writes$", str(raised.value))
    exec(advice, {"torch": torch, "FILE": "weights.pt"})
    state = read_weights("weights.pt").state
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["weights.pt2", "weights.onnx"])
def test_state_dict_is_read_whatever_its_file_is_called(tmp_path, name):
    network = small("R3D")
    torch.save(network.state_dict(), tmp_path / name)
    assert read_weights(tmp_path / name).state.keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pth", lambda: b"", "not a complete file of PyTorch weights"),
        ("a.pth", lambda: b"<html>404</html>", "not a complete file of PyTorch weights"),
        ("a.pth", lambda: torch_bytes(small().state_dict())[:-2000], "not a complete file of PyTorch weights"),
        ("a.pth", lambda: torch_bytes([1, 2]), "contains no state dict, only list"),
        ("a.pth", lambda: torch_bytes({"state_dict": Evil()}), "a Python object that could run code"),
        ("a.pth", lambda: torch_bytes(Command()), r"contains \w+\.system, a Python object that could run code"),
        ("a.pth", lambda: pickle.dumps(Evil()), "not a complete file"),
        ("r2plus1d.pkl", lambda: caffe2(2), "a Caffe2 pickle"),
        ("r2plus1d", lambda: caffe2(0), "a Caffe2 pickle"),
        ("net.onnx", lambda: b"\x08\x0a", r"which onnxruntime\.InferenceSession opens; name the run folder"),
        ("a.zip", lambda: zipped("RUN/spec.json", "RUN/scores.npz"), r"a pack, .* without their weights; name a run"),
        ("a.zip", lambda: zipped("RUN/spec.json", "RUN/checkpoint.pt"), r"extract it .* and name one run's folder"),
        ("a.zip", lambda: zipped("RUN/notes.txt"), "not a complete file of PyTorch weights"),
        ("gone.pth", None, r"gone\.pth: No such file"),
        ("", None, "Is a directory"),
    ],
)
def test_other_files_are_refused(name, content, says, tmp_path):
    if content:
        (tmp_path / name).write_bytes(content())
    with pytest.raises(R21DError, match=says) as raised:
        read_weights(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))


def test_a_published_file_with_other_content_is_damaged(tmp_path, monkeypatch):
    path = saved(small().state_dict(), tmp_path, "tiny-00000000.pth")
    row = Published("tiny", "https://nowhere.example/tiny-00000000.pth", "", 0, 0, 0, "", "")
    assert read_weights(path).sha256
    monkeypatch.setattr(load, "PUBLISHED", (row,))
    message = r"damaged, as its SHA-256 begins with .* download it again from https://nowhere"
    with pytest.raises(R21DError, match=message):
        read_weights(path)


def weights_of(network):
    return identify_architecture(network.state_dict(), HERE)


@pytest.mark.parametrize(
    ("variant", "options", "left"),
    [
        ("R(2+1)D", {}, set()),
        ("R3D", {"num_classes": 9}, {"fc.weight", "fc.bias"}),
        ("R(2+1)D", {"in_channels": 2}, {"conv1.0.weight"}),
        ("MC3", {"in_channels": 2, "num_classes": 9}, {"conv1.weight", "fc.weight", "fc.bias"}),
    ],
)
def test_other_classes_and_channels_keep_their_own_values(variant, options, left):
    source, target = small(variant), small(variant, **options)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    told = load_weights_into(target, weights_of(source))
    assert told.startswith("in memory (state dict): ") and told.endswith("loaded, none skipped") == (not left)
    assert all((f"{name} (" in told) == (name in left) for name in before)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in left else source.state_dict()[name]), name
    if "num_classes" in options:
        assert "fc.weight (6 classes in the file, 9 others in the network)" in told
    if "in_channels" in options:
        assert "(3 channels in the file, 2 in the network)" in told
    parameters = sum(p.numel() for name, p in target.named_parameters() if name not in left)
    assert f"{parameters:,} parameters in {len(before) - len(left)} tensors loaded" in told


@pytest.mark.parametrize(("per_block", "eps"), [(True, 1e-5), (False, 1e-3)])
def test_unknown_eps_is_that_of_who_counts_planes_so(tmp_path, per_block, eps):
    torch.save(small("R(2+1)D", midplanes_per_block=per_block).state_dict(), tmp_path / "weights.pth")
    weights = read_weights(tmp_path / "weights.pth")
    assert weights.eps is None and model_from_weights(weights).bn1.eps == eps


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"variant": "R3D"}, r"variant is R\(2\+1\)D for these weights, and R3D in the network; set variant="),
        ({"depth": 18}, "depth is 10 for these weights, and 18"),
        ({"width": 8}, "width is 4 for these weights, and 8"),
        ({"stem_midplanes": 83}, "stem_midplanes is 2 for these weights, and 83"),
        ({"midplanes_per_block": True}, "midplanes_per_block is False for these weights, and True"),
        ({"eps": 1e-5}, "eps is 0.001 for these weights, and 1e-05"),
        ({"variant": "R2D", "frames": 16}, "frames is 8 for these weights, and 16"),
    ],
)
def test_another_architecture_is_refused_and_changes_nothing(options, says, tmp_path):
    variant = "R2D" if "frames" in options else "R(2+1)D"
    spec = asdict(Spec(variant=variant, depth=10, width=4))
    weights = read_weights(saved({"spec": spec, "model": small(variant).state_dict()}, tmp_path))
    target = small(**options)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(R21DError, match=says):
        load_weights_into(target, weights)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_torchvision_weights_want_their_own_eps_and_midplanes():
    weights = identify_architecture(as_theirs(small(midplanes_per_block=True)), HERE)
    with pytest.raises(R21DError, match=r"midplanes_per_block is True .*; set midplanes_per_block=True, eps=1e-05, or"):
        load_weights_into(small(), weights)
    with pytest.raises(R21DError, match=r"eps is 1e-05 for these weights, and 0\.001 in the network; set eps=1e-05"):
        load_weights_into(small(midplanes_per_block=True), weights)
    assert "none skipped" in load_weights_into(small(midplanes_per_block=True, eps=1e-5), weights)
    assert "none skipped" in load_weights_into(small(eps=1e-5), weights_of(small())), "a bare state dict has no eps"


def test_file_is_described_by_the_weights_command(tmp_path, monkeypatch, capsys):
    """Not only a published name; the settings are those of a Spec for a run that starts from the file."""
    network = small("R(2+1)D", num_classes=7, midplanes_per_block=True, in_channels=2)
    file = saved(as_theirs(network), tmp_path, "r2plus1d_18.pth")
    assert main(["weights", str(file)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert head == f"{file}: R(2+1)D, 10 layers, 7 classes" and rows["layout"] == "torchvision"
    assert rows["input"] == "clips of any number of frames, 2 channels"
    assert rows["parameters"] == f"{sum(p.numel() for p in network.parameters()):,}"
    spec = Spec().replace(**parse_settings(rows["settings"].split(", ")))
    assert spec == Spec(depth=10, width=4, midplanes_per_block=True, eps=1e-5)
    assert main(["weights", str(saved(small("R2D", frames=16).state_dict(), tmp_path))]) == 0
    assert ", frames=16, " in capsys.readouterr().out, "R2D has those of its first convolution"
    monkeypatch.setattr(load, "PUBLISHED", (Published("tiny", f"x-{rows['SHA-256'][:8]}.pth", "", 0, 0, 0, "", ""),))
    assert main(["weights", str(file), "--download"]) == 0
    assert "torchvision, published as tiny\n" in capsys.readouterr().out
    assert main(["weights", str(tmp_path / "gone.pth")]) == 1
    assert "gone.pth: neither an existing file" in capsys.readouterr().err
