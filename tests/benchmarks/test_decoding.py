"""The timings are of the clips that were requests for, in rows that a table can take."""

import json
import sys
from functools import partial

import pytest

from benchmarks import decoding
from benchmarks.decoding import bench_decode, bench_decode_time, bench_loader
from benchmarks.tables import tables
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest
from tests.benchmarks.clocked import Clock, ClockedSource
from tests.r21d_core.engine.test_train import CPU


@pytest.fixture(autouse=True)
def few_small_clips(monkeypatch):
    small = {"SIZE": (18, 24), "LENGTHS": (4, 8), "CLIPS": 5, "REPEATS": 2, "BATCH": 3, "ROUND": 2}
    for name, value in small.items():
        monkeypatch.setattr(decoding, name, value)


def test_decoders_read_the_same_clips_and_absent_ones_are_told(tiny_manifest, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    read = {"ours": [], "decord": []}

    def note(name, path, numbers, size=(18, 24)):
        assert size == (18, 24)
        read[name].append((path, numbers.tolist()))

    monkeypatch.setattr(decoding, "_decord", lambda: partial(note, "decord"))
    monkeypatch.setattr(decoding, "read_frames", partial(note, "ours"))
    monkeypatch.setattr(decoding.importlib.metadata, "version", lambda what: "0.6")
    rows = bench_decode(load_manifest(tiny_manifest))
    assert [row["what"] for row in rows] == ["ours", "torchcodec", "decord"] * 2
    assert [row["frames"] for row in rows] == [4] * 3 + [8] * 3
    assert [row["state"] for row in rows] == ["measured", "not installed", "measured, 0.6"] * 2
    for row in rows:
        assert row["bench"] == "decode" and row["clips"] == 5 and row["repeats"] == 2
        assert (row["clips_per_second"] is None) == (row["what"] == "torchcodec")
        if row["clips_per_second"]:
            assert row["milliseconds"] == pytest.approx(1e3 / row["clips_per_second"]) and row["spread"] >= 0
    assert len(read["ours"]) == 2 * 3 * 5 and read["ours"][:5] == read["decord"][1:6]
    assert {len(numbers) for _, numbers in read["ours"]} == {4, 8}
    json.dumps(rows)


def test_a_reader_that_fails_says_why(tiny_manifest, monkeypatch):
    def fails():
        raise RuntimeError("no libavcodec\nfound")

    monkeypatch.setattr(decoding, "_torchcodec", fails)
    rows = bench_decode(load_manifest(tiny_manifest))
    assert rows[0]["clips_per_second"] > 0
    assert rows[1]["state"] == "fails: no libavcodec found" and rows[1]["clips_per_second"] is None


def test_shares_of_reading_are_of_the_same_clips_and_sum_to_one(tiny_manifest, monkeypatch):
    done = {"open": [], "decode": [], "read": []}

    def note(what, function, path, numbers, **size):
        done[what].append((path, numbers.tolist()))
        return function(path, numbers, **size)

    for what, name in (("open", "_open"), ("decode", "_open_and_decode"), ("read", "read_frames")):
        monkeypatch.setattr(decoding, name, partial(note, what, getattr(decoding, name)))
    rows = bench_decode_time(load_manifest(tiny_manifest))
    assert [(row["bench"], row["what"], row["frames"]) for row in rows] == [("decode time", "ours", n) for n in (4, 8)]
    for row in rows:
        shares = {key: value for key, value in row.items() if isinstance(value, float)}
        assert list(shares) == ["opening, demuxing", "decoding", "scaling, to RGB"]
        assert sum(shares.values()) == pytest.approx(1)
    assert done["open"] == done["decode"] == done["read"] and len(done["read"]) == 2 * 3 * 5
    text = tables({}, rows)
    assert "Where the time of our decoding goes: 4 frames" in text and "%" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_is_timed(tiny_manifest, workers):
    for frames, row in zip((4, 8), bench_loader(load_manifest(tiny_manifest), (workers,), CPU), strict=True):
        assert (row["bench"], row["what"], row["workers"]) == ("loader", f"ours, {workers} workers", workers)
        assert (row["frames"], row["ahead"], row["clips"]) == (frames, 6 * (1 + workers), 12 * (1 + workers))
        assert row["clips_per_second"] > 0 and row["seconds_to_first"] > 0


def test_clips_of_many_workers_are_decoded_while_timed(tiny_manifest, monkeypatch):
    """Also where all workers' batches come at once."""
    clock = Clock()
    monkeypatch.setattr(decoding, "StreamingSource", partial(ClockedSource, clock=clock))
    monkeypatch.setattr(decoding, "time", clock)
    for row in bench_loader(load_manifest(tiny_manifest), (1, 16, 64), CPU):
        assert row["clips_per_second"] == pytest.approx(3 * row["workers"], rel=0.1)
        assert row["seconds_to_first"] == pytest.approx(1.001)


def test_command_measures_decoding_and_the_loader(tiny_manifest, monkeypatch, capsys):
    def loader(data, workers, device):
        assert workers[0] == 1 and device == CPU
        return bench_loader(data, (0,), device)

    monkeypatch.setattr("benchmarks.run.bench_loader", loader)
    monkeypatch.setattr("benchmarks.run.bench_stream", lambda *_: [])
    command = ["bench", "decode", "loader", "--device", "cpu", "--seconds", "0", "--manifest", str(tiny_manifest)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Decoding: 4 frames" in said and "our decoding goes: 4 frames" in said
    assert "Loading: 4 frames, batch 3" in said and "None" not in said
