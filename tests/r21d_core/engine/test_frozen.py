"""Frozen stages: the step of PyTorch's modules by hand, whole runs, their cost; `test_distributed` has processes."""

import signal

import pytest
import torch
import torch.nn.functional as F

from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest
from r21d_core.engine import build, throughput
from r21d_core.engine import plan as planning
from r21d_core.engine import train as engine
from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.distributed import shard_batch
from r21d_core.engine.state import create_state, train_step
from r21d_core.engine.train import train
from r21d_core.models.cost import spec_cost
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet
from r21d_core.study.experiments import rate_pretraining
from r21d_core.study.spec import Spec
from tests.networks import TINY, randomize_batch_norms

CPU = torch.device("cpu")
STAGES = (("conv1", "bn1"), ("conv2_x",), ("conv3_x",), ("conv4_x",), ("conv5_x",))
SPEC = TINY.replace(width=4, epochs=2, warmup_epochs=0, weight_decay=0.1, momentum=0.9, lr=0.05, decay_biases=False)


@pytest.fixture
def given(tmp_path):
    return give(tmp_path)


def give(folder):
    """A Spec that starts from a file of weights in `folder` whose batch norm does something, and these weights."""
    torch.manual_seed(1)
    network = randomize_batch_norms(VideoResNet("R(2+1)D", 10, 4, num_classes=2))
    torch.save(network.state_dict(), folder / "given.pth")
    return SPEC.replace(init_from=str(folder / "given.pth")), network.state_dict()


def frozen_names(state, stages):
    parts = tuple(f"{name}." for stage in STAGES[:stages] for name in stage)
    return {name for name in state if name.startswith(parts)}


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
def test_step_is_that_of_modules_in_evaluation(stages):
    """By hand: frozen stages normalize by their running statistics, and only the other parameters have a gradient."""
    spec = SPEC.replace(init_from="given.pth", frozen_stages=stages)
    model = randomize_batch_norms(build_model(spec, 3, CPU))
    hand = VideoResNet("R(2+1)D", 10, 4, num_classes=3)
    hand.load_state_dict(model.state_dict())
    before = {name: value.clone() for name, value in hand.state_dict().items()}
    for name in (name for stage in STAGES[:stages] for name in stage):
        getattr(hand, name).eval()
    clips, target = torch.randn(4, 3, 4, 16, 16), torch.tensor([0, 1, 2, 0])
    F.cross_entropy(hand(clips), target).backward()
    frozen = frozen_names(before, stages)
    groups = [{"params": [], "weight_decay": 0.1}, {"params": [], "weight_decay": 0.0}]
    for name, parameter in hand.named_parameters():
        groups[name.endswith("bias")]["params"] += [] if name in frozen else [parameter]
    torch.optim.SGD([group for group in groups if group["params"]], 0.05, 0.9).step()
    state = create_state(spec, model, optimize(model, spec, CPU))
    state.train_model.eval()
    state.train_model.train()  # as an evaluation between epochs
    train_step(state, clips, target, shard_batch(4, 1, 0, 1))
    after = model.state_dict()
    torch.testing.assert_close(after, hand.state_dict())
    assert {name for name in after if torch.equal(after[name], before[name])} == frozen
    trained = {id(parameter) for group in state.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for name, parameter in model.named_parameters() if name not in frozen}


def test_run_keeps_the_weights_and_statistics_of_the_file(given, tiny_manifest, tmp_path, monkeypatch):
    """Also after a stop, from which it resumes to the run that was not stopped."""
    spec, weights = given[0].replace(frozen_stages=2), given[1]
    whole = train(spec, load_manifest(tiny_manifest), tmp_path / "whole", device="cpu")
    after = load_checkpoint(whole)["model"]
    assert {name for name in after if torch.equal(after[name], weights[name])} == frozen_names(weights, 2)
    assert whole.spec.frozen_stages == 2 and Spec.from_json((whole.folder / "spec.json").read_text()) == spec
    assert whole.summary["parameters"] == spec_cost(spec, 2).parameters
    with monkeypatch.context() as patch:
        patch.setattr(engine, "train_step", lambda *args: signal.raise_signal(signal.SIGTERM) or train_step(*args))
        with pytest.raises(SystemExit):
            train(spec, load_manifest(tiny_manifest), tmp_path / "parts", device="cpu")
    again = train(spec, load_manifest(tiny_manifest), tmp_path / "parts", device="cpu")
    assert all(torch.equal(value, after[name]) for name, value in load_checkpoint(again)["model"].items())
    tested = train(spec.finetune_spec(epochs=0), load_manifest(tiny_manifest), tmp_path / "whole", device="cpu")
    assert torch.equal(*(torch.tensor(run.scores.logits) for run in (whole, tested)))


def test_fast_form_of_a_gpu_does_not_train_frozen_stages(given, monkeypatch):
    """It would normalize by the statistics of the batch."""
    monkeypatch.setattr(build, "check_numerics", lambda *_: "")
    spec = given[0].replace(precision="bf16")
    model = build_model(spec, 2, CPU)
    assert isinstance(optimize(model, spec, torch.device("cuda")), FastVideoResNet)
    assert optimize(model, spec.replace(frozen_stages=1), torch.device("cuda")) is model


def test_random_stages_of_other_networks_are_not_frozen(given):
    """They start from runs only, and their stages are unknown."""
    assert given[0].replace(variant="s3d", frozen_stages=2) == given[0].replace(variant="s3d")


@pytest.mark.parametrize("stages", [0, 2, 5])
def test_plan_counts_the_share_of_evaluation(given, tiny_manifest, tmp_path, monkeypatch, stages):
    """A step is three forward passes, but of frozen stages one; 4 test videos after 2 epochs and 5 clips at the end."""
    spec = given[0].replace(frozen_stages=stages)
    measured = {spec: 1.0}, {spec: 0.0}, 1, 1.0, "a device"
    monkeypatch.setattr(throughput, "measure_runs", lambda *_: measured)
    sizes = {"tiny": planning.data_size(load_manifest(tiny_manifest))}
    monkeypatch.setattr(planning, "_decoding_seconds", lambda *_: 0)
    seconds = 3600 * planning.make_plan([spec], sizes, tmp_path, "cpu", 1)[1]
    rows = spec_cost(spec, 2).convs
    frozen = sum(row.macs for row in rows if row.name.startswith(tuple(f"conv{n + 1}" for n in range(stages))))
    total = spec_cost(spec, 2).macs
    assert seconds == pytest.approx(2 * 8 + 4 * (2 + 5) * total / (frozen + 3 * (total - frozen)))


def test_plan_names_the_networks_that_are_finetuned_whole(tiny_manifest, tmp_path, monkeypatch):
    """Beside one whose stages are frozen, where the setting says something of them."""
    monkeypatch.setattr(
        throughput, "measure_runs", lambda specs, *_: (dict.fromkeys(specs, 1.0),) * 2 + (1, 1.0, "a device")
    )
    monkeypatch.setattr(planning, "_decoding_seconds", lambda *_: 0)
    settings = {"depth": 10, "width": 2, "frame_height": 36, "frame_width": 48, "crop": 32, "frame_stride_max": 0}
    line = "frozen_stages is not one of C3D, of which all layers are finetuned"
    for variants, stages, is_said in ((("R3D", "C3D"), 2, True), (("R3D", "C3D"), 0, False), (("R3D",), 2, False)):
        specs = rate_pretraining("demo", "tiny", variants=variants, frozen_stages=stages, **settings)
        assert (line in planning.plan(specs, tiny_manifest, tmp_path, "cpu").splitlines()) == is_said


def test_random_convolution_is_not_frozen(given, tiny_manifest, tmp_path):
    """Weights for RGB leave conv1 random on flow."""
    spec = given[0].replace(frozen_stages=1, modality="flow")
    says = r"weights for 3 channels, and flow has 2, so .* frozen_stages=1 does not train it; set frozen_stages to 0"
    with pytest.raises(R21DError, match=says):
        planning.plan([spec], tiny_manifest, tmp_path, "cpu")
    with pytest.raises(R21DError, match=says):
        train(spec, load_manifest(tiny_manifest), tmp_path, device="cpu")
    assert "1 new" in planning.plan([spec.replace(frozen_stages=0)], tiny_manifest, tmp_path, "cpu")


def test_unmeasured_runs_are_as_fast_as_their_training_costs(given, monkeypatch):
    """After the first, a run with frozen stages takes less time than the same network without."""
    monkeypatch.setattr(throughput, "PLAN_SECONDS", 0)
    monkeypatch.setattr(throughput, "training_throughput", lambda *_: 10.0)
    whole, probe = given[0], given[0].replace(frozen_stages=5)
    rates, *_ = throughput.measure_runs([whole, probe], dict.fromkeys((whole, probe), 2), "cpu", 1)
    rows = spec_cost(whole, 2)
    assert rates[whole] == 10 and rates[probe] == pytest.approx(10 * 3 * rows.macs / (rows.macs + 2 * 8 * 4 * 2))
