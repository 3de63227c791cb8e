"""What `r21d bench` does: measures what it was asked to, prints each table when it is done, and keeps a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.builtin import make_builtin
from r21d_core.data.manifest import Manifest, load_manifest
from r21d_core.data.processes import cores
from r21d_core.data.sampling import frame_counts
from r21d_core.engine.bench import bench_infer, bench_train, machine
from r21d_core.engine.bench_fed import bench_evaluate, bench_memory, bench_stream
from r21d_core.engine.device import pick_device
from r21d_core.engine.forms import CLASSES
from r21d_core.engine.launch import BUILTIN_ROOT
from r21d_core.nets.cost import cost_of
from r21d_core.records.files import write_atomically
from r21d_core.results.benchmark import tables, text_of
from r21d_core.study.spec import Spec

FROM_FILES = {"evaluate", "decode", "loader"}


def benchmark(
    benches: Sequence[str],
    *,
    command: str,
    device: str = "auto",
    variants: Sequence[str] = ("R(2+1)D", "R3D", "MC3"),
    depth: int = 18,
    frames: int = 16,
    batch: int | None = None,
    seconds: float = 5.0,
    compile_peers: bool = True,
    manifest: Path | None = None,
    out: Path | None = None,
) -> dict:
    """The record of `benches`: `machine`, `date`, `command` and `rows`; kept as JSON at `out` from the first rows on.

    `benches` are some of BENCHES in `results/benchmark.py`.
    `seconds` are those of measuring one form of one network. A batch is 32 clips, to classify 64, and 2 on a CPU.
    Those FROM_FILES take the videos of `manifest`, or the built-in ones. Raises R21DError before anything is
    measured, if it could not be.
    """
    target = pick_device(device)
    if out and (out.suffix != ".json" or out.is_dir()):
        raise R21DError(f"{out}: expected the name of a file that ends in .json")
    base = Spec(
        depth=depth,
        frames=frames,
        batch=32 if batch is None else batch,
        precision="fp32" if target.type == "cpu" else "bf16",
    )
    specs = [base.but(variant=variant) for variant in variants]
    for spec in specs:
        cost_of(spec, CLASSES)
    data = _videos(manifest) if FROM_FILES & set(benches) else None
    record = {
        "machine": machine(target, min(seconds, 2.0)),
        "date": date.today().isoformat(),
        "command": command,
        "rows": [],
    }
    print(text_of(record), end="\n\n", flush=True)
    for rows in _measured(benches, specs, batch, target, seconds, compile_peers, data):
        record["rows"] += rows
        print(tables(record["machine"], rows), end="\n\n", flush=True)
        if out:
            write_atomically(out, json.dumps(record, indent=1) + "\n")
    return record


def _videos(path: Path | None) -> Manifest:
    manifest = load_manifest(path or make_builtin(BUILTIN_ROOT))
    frame_counts(manifest.videos)  # refuses one that is not checked
    return manifest


def _measured(benches, specs, batch, device, seconds, compile_peers, data) -> Iterator[list[dict]]:
    """The rows of each part when it is measured."""
    sizes = (batch, batch) if batch else (2, 2) if device.type == "cpu" else (32, 64)
    training, classifying = ([spec.but(batch=size) for spec in specs] for size in sizes)
    for bench in benches:
        if bench == "train":
            yield from (bench_train(spec, device, seconds=seconds, compile_peers=compile_peers) for spec in training)
        elif bench == "infer":
            yield from (bench_infer(spec, device, seconds=seconds, compile_peers=compile_peers) for spec in classifying)
        elif bench == "memory":
            yield from (bench_memory(spec, device, seconds=seconds) for spec in training)
        elif bench == "evaluate":
            yield from (bench_evaluate(spec, data, device, seconds=seconds) for spec in classifying)
        elif bench == "decode":
            from r21d_core.engine.bench_data import bench_decode, bench_decode_time

            yield bench_decode(data)
            yield bench_decode_time(data)
        elif bench == "loader":
            from r21d_core.engine.bench_data import bench_loader

            yield bench_loader(data, workers=sorted({1, cores()}), device=str(device))
            yield from (bench_stream(spec, data, device, seconds=seconds) for spec in training)
        elif bench == "scaling":
            from r21d_core.engine.bench_scaling import bench_scaling

            yield from (bench_scaling(spec, device, seconds=seconds) for spec in training)
        elif bench == "explorer":
            from r21d_core.insight.bench_explorer import bench_explorer

            yield bench_explorer()
