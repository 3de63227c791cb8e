"""A network of one's own, `module:function`: its cost and logits, its records, and that only training imports it.

`test_distributed` trains one in two processes.
"""

import hashlib
import os
import sys
from itertools import count
from pathlib import Path

import pytest
import torch

from r21d_analysis.artifacts.folds import composition_table
from r21d_analysis.artifacts.measures import measure
from r21d_analysis.artifacts.tables import comparison_table, show_variant_table
from r21d_core import R21DError, load
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest
from r21d_core.engine import checkpoint
from r21d_core.engine import train as engine
from r21d_core.engine.build import build_model, check_batch_norm
from r21d_core.engine.plan import plan
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.state import train_step
from r21d_core.engine.train import train
from r21d_core.models.cost import spec_cost
from r21d_core.models.imported import named_failures
from r21d_core.models.neighbors import Neighbor
from r21d_core.runs.run import find_run, load_runs
from r21d_core.study.experiments import rate_pretraining
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_sized_by_frames
from tests.networks import NETWORK, TINY

CPU = torch.device("cpu")
HOWTO = Path(__file__).parents[3] / "docs" / "howto.md"
NUMBERS = count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes the text of a new module, which Python then finds, and returns the path."""
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "code")

    def write(text=NETWORK):
        path = tmp_path / "code" / f"conv_nets_{next(NUMBERS)}.py"
        path.write_text(text)
        return path

    return write


def variant_of(path):
    return f"{path.stem}:build"


def forget(monkeypatch, path):
    """As a new process, in which the module was not imported."""
    monkeypatch.delitem(sys.modules, path.stem)


def test_cost_is_that_by_hand(write):
    """A 1×3×3 with stride 2, a 3×1×1, batch norm and the classifier; on flow with a channel less."""
    spec = TINY.replace(variant=variant_of(write()), frames=4, crop=16)
    for modality, channels in (("rgb", 3), ("flow", 2)):
        cost = spec_cost(spec.replace(modality=modality), 5)
        weights = 9 * channels * 4 + 3 * 4 * 6, 6 * 5
        assert cost.parameters == sum(weights) + 2 * 6 + 5
        assert cost.macs == weights[0] * 4 * 8**2 + weights[1]


def test_logits_are_those_of_the_network(write):
    path = write()
    model = build_model(TINY.replace(variant=variant_of(path)), 5, CPU).eval()
    own = sys.modules[path.stem].build(num_classes=5, in_channels=3, frames=4, crop=16).eval()
    own.load_state_dict({name.removeprefix("body."): v for name, v in model.state_dict().items() if name != "passes"})
    clips = torch.randn(2, 3, 4, 16, 16)
    assert isinstance(model, Neighbor) and torch.equal(model(clips), own(clips))


def test_initial_weights_are_those_of_the_seed(write):
    """Although the cost, which is counted once, draws random numbers."""
    spec = TINY.replace(variant=variant_of(write()))
    first, second, third = (build_model(spec.replace(seed=seed), 5, CPU).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["body.spatial.weight"], third["body.spatial.weight"])


def test_finished_run_names_its_network_and_needs_it_no_more(write, tiny_manifest, tmp_path, monkeypatch):
    path = write()
    spec = TINY.replace(variant=variant_of(path))
    run = train(spec, load_manifest(tiny_manifest), tmp_path / "runs", device="cpu")
    assert run.environment["network_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert run.summary["parameters"] == spec_cost(spec, 2).parameters and run.summary["macs"] == spec_cost(spec, 2).macs
    assert Spec.from_json(spec.to_json()) == spec and spec.network == spec.variant
    path.unlink()
    forget(monkeypatch, path)
    written = (run.folder / "summary.json").stat().st_mtime_ns
    for again in (find_run(tmp_path / "runs", spec), *run_experiment([spec], tiny_manifest, tmp_path / "runs")):
        assert again.is_complete and (again.folder / "summary.json").stat().st_mtime_ns == written
    assert "1 finished" in plan([spec], tiny_manifest, tmp_path / "runs", "cpu") and path.stem not in sys.modules


def test_another_version_of_the_network_is_refused(write, tiny_manifest, tmp_path):
    """Of a finished run and of one to resume; a run without a checkpoint starts with it."""
    path, runs, manifest = write(), tmp_path / "runs", load_manifest(tiny_manifest)
    spec = TINY.replace(variant=variant_of(path))
    run = train(spec, manifest, runs, device="cpu")
    path.write_text(NETWORK + "# another\n")
    error = rf"^{run.folder}: was trained with another version of {spec.variant} \(SHA-256 \w{{8}}…, now \w{{8}}…\)"
    with pytest.raises(R21DError, match=error):
        run_experiment([spec], None, runs, device="cpu")
    with pytest.raises(R21DError, match=error):
        plan([spec], tiny_manifest, runs, "cpu")
    for _ in ("finished", "resumed"):
        with pytest.raises(R21DError, match=error):
            train(spec, manifest, runs, device="cpu")
        (run.folder / "summary.json").unlink(missing_ok=True)
    (run.folder / "checkpoint.pt").unlink()
    assert train(spec, manifest, runs, device="cpu").is_complete


def test_file_edited_in_a_notebook_is_not_trained_as_it_was(write, tiny_manifest, tmp_path):
    """Python imports a file once, so a new run would have the code from before."""
    path = write()
    spec = TINY.replace(variant=variant_of(path))
    run_experiment([spec], tiny_manifest, tmp_path / "runs", device="cpu")
    path.write_text(NETWORK.replace("0.5", "0.1"))
    with pytest.raises(R21DError, match=rf"^{path}: changed since it was imported; restart Python, or the notebook's"):
        run_experiment([spec.replace(lr=0.02)], tiny_manifest, tmp_path / "runs", device="cpu")


def test_stopped_run_equals_one_that_was_not(write, tiny_manifest, tmp_path, monkeypatch):
    """With its dropout, whose numbers are those of the seed and the step."""
    path = write()
    spec = TINY.replace(variant=variant_of(path), clips_per_epoch=16, epochs=2)
    whole = train(spec, load_manifest(tiny_manifest), tmp_path / "whole", device="cpu")
    steps = count(1)

    def step_or_stop(*arguments):
        if next(steps) == 6:
            raise KeyboardInterrupt
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "train_step", step_or_stop)
        with pytest.raises(KeyboardInterrupt):
            train(spec, load_manifest(tiny_manifest), tmp_path / "parts", device="cpu", save_seconds=0)
    assert len(find_run(tmp_path / "parts", spec).history) == 1
    again = train(spec, load_manifest(tiny_manifest), tmp_path / "parts", device="cpu")
    assert torch.equal(*(torch.tensor(run.scores.logits) for run in (whole, again)))
    assert [row["train_loss"] for row in whole.history] == [row["train_loss"] for row in again.history]


def test_reading_records_imports_nothing(write, tiny_manifest, tmp_path, monkeypatch, capsys):
    """Of a finished and of a stopped run, each named by a folder of somebody else's."""
    path = write()
    own = TINY.replace(variant=variant_of(path))
    finished, stopped, known = own, own.replace(seed=1), TINY
    runs = tmp_path / "runs"
    run_experiment([finished, stopped, known], tiny_manifest, runs, device="cpu")
    for name in ("summary.json", "scores.npz"):
        (find_run(runs, stopped).folder / name).unlink()
    other = stopped.replace(lr=0.3)  # a row of its own, without a finished run
    find_run(runs, stopped).folder.rename(runs / other.folder)
    (runs / other.folder / "spec.json").write_text(other.to_json())
    forget(monkeypatch, path)
    loaded = load_runs(runs)
    assert len(loaded) == 3 and len(measure(loaded)) == 3
    assert finished.variant in show_variant_table(loaded).to_html()
    assert finished.variant in comparison_table([run for run in loaded if run.is_complete]).to_html()
    assert finished.variant in composition_table([run.spec for run in loaded]).to_html()
    assert main(["runs", str(runs), "--accuracy"]) == 0 and finished.variant in capsys.readouterr().out
    for start in (finished, other):
        with pytest.raises(R21DError, match=r"a checkpoint of conv_nets_.*, which is trained and evaluated only"):
            load(runs / start.folder)
    with pytest.raises(R21DError, match="which is trained and evaluated only"):
        plan([known.replace(init_from=str(runs / finished.folder), epochs=0)], tiny_manifest, runs, "cpu")
    assert path.stem not in sys.modules


def test_code_of_the_howto_is_trained_and_loaded(tiny_manifest, tmp_path, monkeypatch):
    text = HOWTO.read_text("utf-8").split("\n### A network of your own code\n")[1].split("\n## ")[0]
    module, rest = (part.split("\n```")[0] for part in text.split("```python\n")[1:])
    (tmp_path / "my_nets.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run = train(TINY.replace(variant="my_nets:build"), load_manifest(tiny_manifest), "runs", device="cpu")
    names: dict = {}
    exec(rest, names)
    assert names["run"] == run and names["network"].body.conv.out_channels == names["network"].fc.in_features == 64
    expected = torch.load(run.folder / "checkpoint.pt", weights_only=True)["model"]["fc.weight"]
    assert torch.equal(names["network"].fc.weight, expected) and expected.any()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("build = None", r"TypeError in .*conv_nets_\d+\.py: 'NoneType' object is not callable"),
        ("def biuld(): 0", r"conv_nets_\d+\.py has no build; did you mean biuld\?"),
        ("def network(): 0", r"conv_nets_\d+\.py has no build; did you mean network\?"),
        ("", r"conv_nets_\d+\.py has no build; did you mean another file\?"),
        ("import nothing_of_this_name", r"ModuleNotFoundError in .*conv_nets_\d+\.py, line 1: No module named"),
        (
            "import torch\nbuild = lambda **_: torch.nn.ReLU()",
            r"returned ReLU with fc = None, expected a tor",
        ),
        (
            NETWORK.replace("nn.Linear(6, num_classes)", "nn.Linear(6, 9)"),
            r"expected a torch.*fc, Linear\(…, num_classes\), here 1",
        ),
        (
            NETWORK.replace("nn.Linear(6, num_classes)", "nn.Sequential(nn.Linear(6, num_classes))"),
            r"fc = Sequential\( \(0\): Linear",
        ),
        (
            NETWORK.replace("self.spatial(x)", "x.reshape(7)"),
            r"fails for a clip \(N, in_channels, frames, crop, crop\) = \(1, 3, 4, .*in .*\.py, line 13: shape",
        ),
        (NETWORK.replace("Linear(6", "Linear(5"), r"in .*\.py, line 13: fc takes 5 features and got \(1, 6\)"),
        (
            NETWORK.replace("(2, 3, 4))))", "(2, 3, 4)))).relu()"),
            r"returns something else than its fc does; expected fc to be its last layer, without a softmax after it",
        ),
        (NETWORK.replace("self.fc(self.drop", "(self.drop"), r"returns something else than its fc does; expected fc"),
        (NETWORK.replace(".mean((2, 3, 4))", ".mean((0, 3, 4)).T"), r"returned \(4, 1\) for a clip, expected \(1, 1\)"),
    ],
)
def test_faults_of_the_code_are_named(write, text, says):
    with pytest.raises(R21DError, match=says) as error:
        spec_cost(TINY.replace(variant=variant_of(write(text))), 1)
    assert "conv_nets_" in str(error.value) and "\n" not in str(error.value)


LISTED = NETWORK.replace("self.spatial(x)", "self.spatial(self.rest[0](x))")


@pytest.mark.parametrize(
    "text",
    [
        LISTED.replace("        self.fc =", "        self.rest = [nn.Conv3d(3, 3, 1)]\n        self.fc ="),
        NETWORK.replace("self.spatial(x)", "self.spatial(nn.Conv3d(3, 3, 1)(x))"),
        NETWORK.replace("self.spatial(x)", "self.spatial(nn.Parameter(x.new_ones(3, 1, 1, 1)) * x)"),
    ],
)
def test_weights_that_no_step_would_train_are_refused(write, text):
    """Those of layers in a list, or made in `forward`, which no optimizer changes and no checkpoint has."""
    spec = TINY.replace(variant=variant_of(write(text)))
    with pytest.raises(R21DError, match=r"line \d+: the weights \(3, .* are no parameters of the network") as error:
        spec_cost(spec, 2)
    assert "\n" not in str(error.value)


def test_weights_in_a_list_of_modules_are_counted(write):
    listed = LISTED.replace(
        "        self.fc =", "        self.rest = nn.ModuleList([nn.Conv3d(3, 3, 1)])\n        self.fc ="
    )
    counts = [spec_cost(TINY.replace(variant=variant_of(write(text))), 2).parameters for text in (NETWORK, listed)]
    assert counts[1] - counts[0] == 3 * 3 + 3


def test_network_that_is_made_once_is_refused(write):
    """Its runs would continue each other's weights; counting its cost has taken its classifier away."""
    text = NETWORK + "\nnetwork = Network(2, 3)\nbuild = lambda **_: network\n"
    spec = TINY.replace(variant=variant_of(write(text)))
    spec_cost(spec, 2)
    with pytest.raises(R21DError, match=r"fc = Identity\(\), expected a torch.nn.Module, a new one in each call"):
        build_model(spec, 2, CPU)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("self.spatial(x)", "self.spatial(x.reshape(1, 3, 4, 16, 16))"), r"RuntimeError in {}, line 13: shape"),
        (("(2, 3, 4)", "(0, 2, 3, 4), keepdim=len(x) > 1).reshape(1, 6"), r"ValueError in {}: Expected input batch"),
        (("self.spatial(x)", "self.spatial([x][self.training])"), r"IndexError in {}, line 13: list"),
    ],
)
def test_fault_with_several_clips_or_in_training_is_named(write, change, says, tiny_manifest, tmp_path):
    """Which one clip in evaluation, of which the cost is counted, does not show: in the plan, and in the first step."""
    path = write(NETWORK.replace(*change))
    spec = TINY.replace(variant=variant_of(path))
    spec_cost(spec, 2)
    says = f"^variant {spec.variant}: {says.format(path)}"
    with pytest.raises(R21DError, match=says):
        plan([spec], tiny_manifest, tmp_path / "runs", "cpu")
    with pytest.raises(R21DError, match=says):
        train(spec, load_manifest(tiny_manifest), tmp_path / "runs", device="cpu")
    if "training" in change[1]:
        with pytest.raises(R21DError, match=says):
            check_batch_norm(spec.replace(batch_size=1))


def test_fault_in_evaluation_is_named(write, tiny_manifest, tmp_path):
    """Of a batch of clips, which neither the plan nor a step evaluates."""
    path = write(NETWORK.replace("self.spatial(x)", "self.spatial([x][len(x) > 1 and not self.training])"))
    spec = TINY.replace(variant=variant_of(path))
    with pytest.raises(R21DError, match=f"^variant {spec.variant}: IndexError in {path}, line 13: list"):
        train(spec, load_manifest(tiny_manifest), tmp_path / "runs", device="cpu")


def test_other_file_on_another_host_is_refused(write, tiny_manifest, tmp_path, monkeypatch):
    """The gradients of two networks would be averaged, without an error."""
    path = write()
    spec, others = TINY.replace(variant=variant_of(path)), [hashlib.sha256(b"another").hexdigest()]
    monkeypatch.setattr(checkpoint, "all_gather_object", lambda value: [value, *others])
    says = rf"^variant {spec.variant}: its file is another one on rank 1 \(SHA-256 {others[0][:8]}…\) than on rank 0 \("
    with pytest.raises(R21DError, match=says):
        train(spec, load_manifest(tiny_manifest), tmp_path, device="cpu")
    assert not list(tmp_path.glob("*/spec.json"))
    others[0] = hashlib.sha256(path.read_bytes()).hexdigest()
    checkpoint.check_same_source(spec.variant)


def test_fault_in_a_step_of_several_processes_is_named(write, monkeypatch):
    """As an error after which a process exits; the error of a process whose peer has exited is not the network's."""
    path = write(NETWORK.replace("self.spatial(x)", "self.spatial([x][self.training])"))
    spec = TINY.replace(variant=variant_of(path))
    model = build_model(spec, 2, CPU)
    with pytest.raises(RuntimeError, match=rf"^variant {spec.variant}: IndexError in {path}, line 13: list") as error:  # noqa: SIM117
        with named_failures(spec.variant, kind=RuntimeError):
            model(torch.zeros(2, 3, 4, 16, 16))
    assert not isinstance(error.value, R21DError)
    with pytest.raises(RuntimeError, match="Connection closed"), named_failures(spec.variant, kind=RuntimeError):
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize(("variant", "error"), [("mine:build", torch.OutOfMemoryError), ("R3D", RuntimeError)])
def test_lack_of_memory_and_faults_of_others_stay(variant, error):
    with pytest.raises(error, match="full"), named_failures(variant):
        raise error("full")


def test_batch_of_one_clip_is_checked_on_a_cpu(write):
    """One that holds no values refuses what reads a number, such as rates of stochastic depth."""
    reads = "import torch" + NETWORK.replace("__init__()", "__init__(); torch.linspace(0, 1, 3)[1].item()")
    pooled = reads.replace("self.spatial(x))", "self.spatial(x)).mean((2, 3, 4), True)")
    spec = TINY.replace(variant=variant_of(write(reads)), batch_size=1)
    check_batch_norm(spec)
    with pytest.raises(R21DError, match="some batch is one clip, of which 4 frames of 16×16 pixels become one value"):
        check_batch_norm(spec.replace(variant=variant_of(write(pooled))))


@pytest.mark.parametrize("kind", ["ValueError", "__import__('r21d_core').R21DError"])
def test_fault_in_a_batch_of_one_clip_is_the_networks(write, kind):
    """Batch norm has no part in it, although PyTorch raises a ValueError for a batch of one clip too."""
    raises = f"        if self.training and len(x) < 2: raise {kind}('takes two clips')\n"
    path = write(NETWORK.replace("        return self.fc(", f"{raises}        return self.fc("))
    spec = TINY.replace(variant=variant_of(path), batch_size=1)
    says = f"^variant {spec.variant}: {kind.split('.')[-1]} in {path}, line 13: takes two clips$"
    with pytest.raises(R21DError, match=says):
        check_batch_norm(spec)


def test_misspelt_module_has_the_nearest_files_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    for name in ("my_nets.py", "nets/mine.py", "other.py"):
        Path(name).touch()
    for module, file in (("my_net", "my_nets.py"), ("nets.mien", "mine.py")):
        with pytest.raises(R21DError, match=rf"no module {module} with a file .* names; did you mean {file}\?$"):
            spec_cost(TINY.replace(variant=f"{module}:build"), 2)


@pytest.mark.parametrize("module", ["no_such_module", "no_such.module", "__main__", "sys"])
def test_module_without_a_file_is_named(module, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as in a notebook; `python -m pytest` has a file
    with pytest.raises(R21DError, match=rf"no module {module} with a file is found; expected a file"):
        spec_cost(TINY.replace(variant=f"{module}:build"), 2)


@pytest.mark.parametrize("code", ["raise RuntimeError('no license')", "import nothing_of_this_name"])
def test_package_that_cannot_be_imported_is_named(write, code):
    """It is run to find a module in it."""
    path = write()
    (path.parent / path.stem).mkdir()
    (path.parent / path.stem / "__init__.py").write_text(code)
    says = rf"^variant {path.stem}.nets:build: package {path.stem}: \w+Error: (no license|No module named 'nothing_o)"
    with pytest.raises(R21DError, match=says):
        spec_cost(TINY.replace(variant=f"{path.stem}.nets:build"), 2)


@pytest.mark.parametrize("variant", ["mine:", ":build", "my-nets:build", "a..b:build", "a:b:c", "1a:build"])
def test_only_names_of_python_are_taken(variant):
    with pytest.raises(R21DError, match="or module:function for a network of your own"):
        Spec(variant=variant)


def test_network_whose_name_begins_with_a_letter_of_conv1(write):
    variant = variant_of(write())
    assert variant.startswith("c") and not is_sized_by_frames(variant)
    assert [spec.frames for spec in rate_pretraining(variants=(variant,))] == [8, 3, 8]


def test_command_finds_the_module_in_the_current_folder(write, tiny_manifest, tmp_path, monkeypatch, capsys):
    """The installed command, unlike `python -m`, does not have that folder in its path."""
    path = write()
    path.rename(tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", os.getcwd())])
    command = ["train", "variant_comparison", "--manifest", str(tiny_manifest), "--variants", variant_of(path)]
    settings = [f"--set={key}={getattr(TINY, key)}" for key in ("frames", "crop", "batch_size")]
    assert main([*command, *settings, "--dry-run", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert variant_of(path) in capsys.readouterr().out
