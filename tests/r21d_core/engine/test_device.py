"""The environment of a run can be recorded on every host."""

import torch

from r21d_core.engine.device import environment_info


def test_environment_without_git_has_no_commit(monkeypatch, tmp_path):
    """As in many container images; with git, the commit is that of the checkout."""
    device = torch.device("cpu")
    with_git = environment_info(device)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment_info(device) == with_git | {"commit": None}
