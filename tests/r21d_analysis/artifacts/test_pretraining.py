"""Actions from scratch and after the playback rate."""

import pytest

from r21d_analysis.artifacts.pretraining import GAP, rate_table, show_rate_table
from r21d_core.study.experiments import rate_pretraining
from tests.runs import make_runs


def test_finetuned_network_is_compared_with_its_own_scratch(tmp_path):
    runs = make_runs(rate_pretraining("small", "set-split1", variants=("R3D", "R(2+1)D"), seeds=(0, 1)), tmp_path)
    table = rate_table(runs).set_index(["network", "clips of the playback rate"])
    assert len(table) == 4 and set(table["seeds"]) == {2}
    assert set(table["clips of the actions"]) == {18 * 1272, 18 * 636}
    for name in ("R3D", "R(2+1)D"):
        accuracy = table["video@1"][name]
        assert table[GAP][name][18 * 636] == pytest.approx(accuracy[18 * 636] - accuracy[0])
    assert table["p, Holm"].notna().sum() == 2
    assert "trained from scratch" in show_rate_table(runs).caption
    alone = rate_table([run for run in runs if run.spec.seed == 0])
    assert alone["p, Holm"].isna().all() and alone["its interval"].notna().sum() == 2, "one run is no test"
