import json

from r21d_core.cli import main
from r21d_core.study.experiments import TABLE_2


def test_variants_prints_json(capsys):
    assert main(["variants", "--depth", "18", "--frames", "8", "--classes", "400", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert tuple(rows) == TABLE_2
    assert rows["R(2+1)D"] == {
        "name": "R(2+1)D",
        "parameters": 33_370_839,
        "conv_fc_weights": 33_344_679,
        "macs": rows["R(2+1)D"]["macs"],
        "final_shape": [512, 1, 7, 7],
    }
    assert round(rows["R(2+1)D"]["macs"] / 1e9, 3) == 20.748


def test_variants_prints_a_table(capsys):
    assert main(["variants", "--depth", "34", "--frames", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 14 and lines[0].startswith("34 layers")
    assert "63,697,175" in lines[-1] and "152.356" in lines[-1]
