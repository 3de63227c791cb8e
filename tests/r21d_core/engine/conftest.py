"""Fixtures for training on the tiny data set."""

from functools import partial

import pytest

from r21d_core.data.manifest import load_manifest
from r21d_core.engine.train import train


@pytest.fixture(scope="session")
def tiny(tiny_manifest):
    """The loaded manifest of the tiny data set."""
    return load_manifest(tiny_manifest)


@pytest.fixture
def fit(tiny, tmp_path):
    """A function that trains a spec on the tiny data set in `tmp_path`, by default."""
    return partial(train, manifest=tiny, runs=tmp_path, device="cpu")
