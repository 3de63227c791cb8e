import argparse
import contextlib
import os
import pty
import signal
import subprocess
import sys

import pytest

from r21d_core import cli
from r21d_core.cli import bench, main
from tests.listings import touch


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("from r21d_core.cli import *; build_parser().format_help(); main(['variants', '--json']); main(['runs'])",
         {"torch", "av", "pandas"}),
        ("import r21d_core.engine.train, r21d_core.runs.metrics; from r21d_core.models.network import *; import torch; "
         "torch.set_default_device('meta'); VideoResNet()", {"pandas", "matplotlib", "torch._dynamo"}),
    ],
)  # fmt: skip
def test_commands_and_core_import_what_they_need(code, heavy):
    code = f"import sys; {code}; sys.exit(' '.join({heavy} & sys.modules.keys()) or 0)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_no_command_prints_the_commands(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 0 and "print or write the five most probable classes" in capsys.readouterr().out


def test_output_to_an_ended_reader_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([sys.executable, "-m", "r21d_core", "variants"], stdout=writer, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(("terminal", "given", "intervals"), [
    (False, {}, b"30 30"), (False, {"TQDM_MININTERVAL": "2"}, b"2 30"), (True, {}, b"0.1 10"),
])  # fmt: skip
def test_progress_in_a_file_is_written_rarely(terminal, given, intervals):
    code = "from r21d_core.cli import main; sys.argv[1:] = ['variants']; main(); from tqdm.auto import tqdm; "
    code += "bar = tqdm(total=1); sys.exit(f'every {bar.mininterval:g} {bar.maxinterval:g} s')"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TQDM_")} | given
    reader, writer = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", f"import sys; {code}"]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    printed = b""
    with contextlib.suppress(OSError):  # a terminal ends with an error
        while part := os.read(reader, 10_000):
            printed += part
    os.close(reader)
    assert b"every %s s" % intervals in printed


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", b"\\xfc\\udcff.txt"), ("utf-8", "ü\\udcff.txt".encode())])
def test_output_that_cannot_be_encoded_is_escaped(tmp_path, encoding, printed):
    (tmp_path / "set" / "a").mkdir(parents=True)
    for name in ("1.mp4", "ü\udcff.txt"):
        (tmp_path / "set" / "a" / name).touch()
    command = [sys.executable, "-m", "r21d_core", "manifest", "folder", str(tmp_path / "set")]
    environment = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    result = subprocess.run([*command, "--out", str(tmp_path / "set.csv")], env=environment, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"") and printed in result.stdout


@pytest.mark.parametrize("command", cli.load_commands())
def test_every_command_and_option_has_help(command):
    parsers = [cli.build_parser()._subparsers._group_actions[0].choices[command]]
    for parser in parsers:
        assert len(parser.description or "") > 1, f"{parser.prog} does not say what it does"
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            else:
                assert action.help, f"{parser.prog}: {action.option_strings or action.dest} has no help"


def test_bench_outside_a_checkout_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    assert main(["bench", "train", "--device", "cpu"]) == 1
    assert capsys.readouterr().err.startswith("r21d: bench: the benchmarks come with a checkout")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["variants", "--depth", "12"], "depth 12: expected one of 10, 18, 34"),
        (["variants", "--width", "0"], "--width 0: expected 1 or more"),
        (["variants", "--classes", "-1"], "--classes -1: expected 1 or more"),
        (["train", "variant_comparison", "--device", "meta"], "device 'meta': not usable here"),
        (["train", "variant_comparison", "--manifest", "gone.csv"], "gone.csv: no such file"),
        (["train", "variant_comparison", "--set", "epoch=3"], "no key 'epoch'; did you mean epochs?"),
        (["train", "variant_comparison", "--set", "lr=fast"], "lr = 'fast', expected a number"),
        (["train", "variant_comparison", "--set", "seed=3"], "--set seed: use the option --seeds instead"),
        (["train", "variant_comparison", "--set", "seeds=3"], "--set seeds: use the option --seeds instead"),
        (["train", "all", "--set", "variants=R3D"], "--set variants: use the option --variants instead"),
        (["train", "variant_comparison", "--index", "99", "--list"], "--index 99: expected 0 to 11; --list"),
        (["train", "clip_length", "--set", "frames=16", "--list"], "clip_length sets frames itself, to 4, 8, 12"),
        (["check", "gone.csv"], "gone.csv: no such file"),
        (["manifest", "folder", "gone"], "gone"),
        (["manifest", "ucf101", "gone", "--split", "4"], "split is 4"),
        (["manifest", "hmdb51", "gone", "--split", "1,2", "--out", "one.csv"], "one.csv: one file for 2 splits"),
        (["manifest", "kinetics", "gone"], "gone"),
        (["manifest", "folder", "set", "--out", "set.json"], "set.json: expected the name of a manifest to end"),
        (["manifest", "sports1m", "gone"], "gone"),
    ],
)
def test_errors_are_one_line_without_traceback(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "set", "a/1.mp4")
    assert main(arguments) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("r21d: ") and says in stderr and "Traceback" not in stderr
