import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from r21d_core import R21DError
from r21d_core.study import paper as module
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper, paper_table

ROOT = Path(__file__).parents[3]
PAPER = ROOT.parent / "shared" / "paper.txt"
LINES = list(csv.DictReader((Path(module.__file__).parent / "paper.csv").read_text().splitlines()))
MIXED = TABLE_2[2:-1]
# Table 3 has no row names; it prints the lengths of training, finetuning and testing.
TABLE_3 = {"8": "8 none 8", "8 tested at 32": "8 none 32", "32": "32 none 32", "8 finetuned at 32": "8 32 32"}


def gaps(better, worse, column):
    """The smallest and largest difference between the rows `better` and the rows `worse` of Table 2."""
    differences = [paper(2, upper, column) - paper(2, lower, column) for upper in better for lower in worse]
    return round(min(differences), 1), round(max(differences), 1)


def test_tables_are_complete():
    sizes = {n: (len(rows), sum(map(len, rows.values()))) for n in range(2, 7) if (rows := paper_table(n))}
    assert sizes == {2: (12, 60), 3: (4, 12), 4: (12, 31), 5: (10, 20), 6: (17, 32)}
    assert max(Counter((line["table"], line["row"], line["column"]) for line in LINES).values()) == 1
    assert tuple(paper_table(2)) == TABLE_2
    assert {line["row"] for line in LINES if line["note"]} == {"2D Resnet-152", "P3D"}


def test_section_4_2_and_table_3_agree_with_table_2():
    for column in ("clip@1", "video@1"):
        assert paper(3, "8", column) == paper(2, "R(2+1)D", f"{column} 8f")
    assert gaps(MIXED, TABLE_2[:2], "clip@1 8f") == (1.3, 4.0)
    assert gaps(MIXED, TABLE_2[:2], "clip@1 16f") == (1.8, 6.7)
    assert gaps(["R(2+1)D"], MIXED, "clip@1 8f") == (2.1, 3.4)
    assert gaps(["R(2+1)D"], MIXED, "clip@1 16f") == (3.1, 4.7)
    assert gaps(["R(2+1)D"], TABLE_2[:2], "clip@1 8f") == (4.7, 6.1)
    assert gaps(["R(2+1)D"], TABLE_2[:2], "clip@1 16f") == (6.5, 9.8)  # the text says 6.3
    assert gaps(["f-R2D"], ["R2D"], "video@1 16f") == (1.6, 1.6)


@pytest.mark.parametrize(
    ("table", "row", "baseline", "column", "printed"),
    [
        (3, "8", "8 tested at 32", "clip@1", 1.2),
        (3, "8", "8 tested at 32", "video@1", 5.8),
        (3, "8 finetuned at 32", "8", "clip@1", 7.0),
        (4, "R(2+1)D-RGB-32frame", "C3D", "clip@1", 10.9),
        (4, "R(2+1)D-RGB-32frame", "P3D", "clip@1", 9.1),
        (4, "R(2+1)D-RGB-32frame", "2D Resnet-152", "clip@1", 10.5),
        (4, "R(2+1)D-RGB-8frame", "R3D-RGB-8frame", "clip@1", 2.3),
        (5, "R(2+1)D-RGB (none)", "I3D-RGB (none)", "top1", 4.5),
        (5, "R(2+1)D-RGB (Sports-1M)", "I3D-RGB (ImageNet)", "top1", 2.2),
        (5, "R(2+1)D-Flow (Sports-1M)", "I3D-Flow (ImageNet)", "top1", 3.2),
        (5, "I3D-Two-Stream (ImageNet)", "R(2+1)D-Two-Stream (Sports-1M)", "top1", 0.3),
    ],
)
def test_differences_in_the_text_agree_with_tables(table, row, baseline, column, printed):
    assert paper(table, row, column) - paper(table, baseline, column) == pytest.approx(printed)


def test_empty_cell_is_an_error():
    with pytest.raises(R21DError, match=r"Table 4 has no 'video@1' of 'R3D-RGB-8frame'"):
        paper(4, "R3D-RGB-8frame", "video@1")


@pytest.mark.skipif(not PAPER.exists(), reason="the paper's text is not there")
@pytest.mark.parametrize("table", range(2, 7))
def test_numbers_are_printed_in_their_row_in_order(table):
    printed = [re.sub(r" \[\d+\]", "", line.strip()) for line in PAPER.read_text().splitlines()]
    for row, values in paper_table(table).items():
        name, pretraining = re.fullmatch(r"(.*?)(?: \((\S+)\))?", row).groups()
        start = TABLE_3[row] if table == 3 else f"{name} {pretraining}" if pretraining else name
        expected = " ".join(f"{value}" for value in values.values())
        lines = [line.removeprefix(start) for line in printed if line.startswith(f"{start} ")]
        numbers = [" ".join(re.findall(r"(?<![\w.])\d+\.\d(?=M|\*|\s|$)", line)) for line in lines]
        assert expected in numbers, f"{row}: {expected} is none of {numbers}"
        has_note = any("*" in line for line in lines)
        assert has_note == any(line["note"] for line in LINES if line["table"] == str(table) and line["row"] == row)
