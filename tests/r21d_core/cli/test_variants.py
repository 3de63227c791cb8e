import json

from r21d_core.cli import main
from r21d_core.models.cost import cost
from r21d_core.study.variants import NETWORKS


def test_variants_prints_json(capsys):
    assert main(["variants", "--depth", "18", "--frames", "8", "--classes", "400", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(NETWORKS)
    assert rows["R(2+1)D"] == {
        "name": "R(2+1)D",
        "letters": "ppppp",
        "parameters": 33_370_839,
        "conv_fc_weights": 33_344_679,
        "macs": rows["R(2+1)D"]["macs"],
        "final_shape": [512, 1, 7, 7],
    }
    assert round(rows["R(2+1)D"]["macs"] / 1e9, 3) == 20.748


def test_variants_prints_a_table(capsys):
    assert main(["variants"]) == 0
    _, head, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NETWORKS) and len({line.rindex("512×") for line in lines}) == 1, "aligned"
    assert head.split()[:2] == ["network", "letters"]
    assert lines[11].split() == ["R(2+1)D", "ppppp", "33,370,839", "33,344,679", "20.748", "512×1×7×7"]


def test_networks_are_named_or_given_by_letters(capsys):
    """A named one is printed by its name, as a run has it, whichever way it is asked for."""
    assert main(["variants", "pp322", "phhhh", "R(2+1)D-0.5M", "R3D"]) == 0
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["pp322", "pp322"], ["R(2+1)D-0.5M", "phhhh"], ["R3D", "33333"]
    ]  # fmt: skip
    assert lines[0].split()[2] == f"{cost('pp322').parameters:,}"
    assert main(["variants", "R2+1D"]) == 1 and "did you mean R(2+1)D?" in capsys.readouterr().err
