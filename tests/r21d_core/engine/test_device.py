"""A run's device is the current one, and its environment can be recorded on every host."""

import subprocess

import torch

from r21d_core.engine import device as module
from r21d_core.engine.device import environment_info, pick_device


def test_environment_without_git_has_no_commit(monkeypatch, tmp_path):
    """As in many container images; with git, the commit is that of the checkout."""
    device = torch.device("cpu")
    with_git = environment_info(device)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment_info(device) == with_git | {"commit": None}


def test_commit_is_that_of_the_checkout_alone(monkeypatch, tmp_path):
    """Not that of a repository in which an environment with the installed package lies."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], cwd=tmp_path, check=True)
    commits = []
    for folder in ("", "venv/lib/site-packages/"):
        (package := tmp_path / f"{folder}r21d_core" / "engine").mkdir(parents=True)
        monkeypatch.setattr(module, "__file__", str(package / "device.py"))
        commits.append(environment_info(torch.device("cpu"))["commit"])
    assert commits[0] and commits[1] is None


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch):
    """Triton launches its kernels on the current device, which is the first without this."""
    chosen = []
    monkeypatch.setattr(torch, "empty", lambda *args, **options: torch.tensor(0))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    pick_device("cpu"), pick_device("cuda"), pick_device("cuda:1")
    assert chosen == [torch.device("cuda:1")]
