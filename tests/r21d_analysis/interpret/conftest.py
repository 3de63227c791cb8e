"""Random weights that are the same in each test, and trained networks with their insight records."""

import pytest

from r21d_analysis.interpret.inspect_run import load_or_compute
from r21d_analysis.interpret.records import ATTRIBUTIONS, FILTERS
from r21d_core.data.manifest import load_manifest
from r21d_core.engine.train import train
from tests.networks import TINY, seed  # noqa: F401

VARIANTS = ("f-R2D", "R3D", "R(2+1)D")
OPTIONS = {"device": "cpu"}


@pytest.fixture(scope="session")
def trained(tiny_manifest, tmp_path_factory):
    """A folder with a finished run of each of VARIANTS, and their filter and attribution records."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [train(TINY.replace(variant=name), load_manifest(tiny_manifest), folder, device="cpu") for name in VARIANTS]
    filters = load_or_compute(FILTERS, runs, tiny_manifest, **OPTIONS)
    maps = load_or_compute(ATTRIBUTIONS, runs, tiny_manifest, per_class=2, **OPTIONS)
    return folder, filters, maps
