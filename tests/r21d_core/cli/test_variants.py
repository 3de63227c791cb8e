import json

from r21d_core.cli import main
from r21d_core.study.variants import NETWORKS


def test_variants_prints_json(capsys):
    assert main(["variants", "--depth", "18", "--frames", "8", "--classes", "400", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == list(NETWORKS)
    assert rows["R(2+1)D"] == {
        "name": "R(2+1)D",
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
    assert head.split()[:2] == ["network", "parameters"]
    assert lines[11].split() == ["R(2+1)D", "33,370,839", "33,344,679", "20.748", "512×1×7×7"]
