"""Run benchmarks, print each table when it is measured, and write the record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from benchmarks.baselines import CLASSES
from benchmarks.loading import bench_evaluate, bench_memory, bench_stream
from benchmarks.steps import bench_infer, bench_train, machine
from benchmarks.tables import format_record, tables
from r21d_core import R21DError
from r21d_core.data.manifest import Manifest, load_manifest
from r21d_core.data.parallel import available_cpus
from r21d_core.data.sampling import frame_counts
from r21d_core.data.synthetic import make_builtin
from r21d_core.engine.device import pick_device
from r21d_core.engine.plan import BUILTIN_ROOT
from r21d_core.models.cost import spec_cost
from r21d_core.runs.files import write_atomically
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
    batch_size: int | None = None,
    seconds: float = 5.0,
    compiled: bool = True,
    manifest: Path | None = None,
    out: Path | None = None,
) -> dict:
    """Return the record of `benches`: `machine`, `date`, `command` and `rows`; also written to `out` after each table.

    `benches` are names in `benchmarks.tables.BENCHES`. Each implementation of a network is measured for `seconds`. A
    batch has 32 clips in training and 64 in inference, on a CPU 2. The benchmarks FROM_FILES read the videos of
    `manifest`, by default the built-in ones. Raises R21DError for impossible settings before anything is measured.
    """
    target = pick_device(device)
    if out and (out.suffix != ".json" or out.is_dir()):
        raise R21DError(f"{out}: expected the name of a file that ends in .json")
    base = Spec(
        depth=depth,
        frames=frames,
        batch_size=32 if batch_size is None else batch_size,
        precision="fp32" if target.type == "cpu" else "bf16",
    )
    specs = [base.replace(variant=variant) for variant in variants]
    for spec in specs:
        spec_cost(spec, CLASSES)
    data = _load_videos(manifest) if FROM_FILES & set(benches) else None
    record = {
        "machine": machine(target, min(seconds, 2.0)),
        "date": date.today().isoformat(),
        "command": command,
        "rows": [],
    }
    print(format_record(record), end="\n\n", flush=True)
    for rows in _run_benches(benches, specs, batch_size, target, seconds, compiled, data):
        record["rows"] += rows
        print(tables(record["machine"], rows), end="\n\n", flush=True)
        if out:
            write_atomically(out, json.dumps(record, indent=1) + "\n")
    return record


def _load_videos(path: Path | None) -> Manifest:
    manifest = load_manifest(path or make_builtin(BUILTIN_ROOT))
    frame_counts(manifest.videos)  # raises for a manifest that was not checked
    return manifest


def _run_benches(benches, specs, batch_size, device, seconds, compiled, data) -> Iterator[list[dict]]:
    """Yield the rows of each table."""
    sizes = (batch_size, batch_size) if batch_size else (2, 2) if device.type == "cpu" else (32, 64)
    training, classifying = ([spec.replace(batch_size=size) for spec in specs] for size in sizes)
    for bench in benches:
        if bench == "train":
            yield from (bench_train(spec, device, seconds=seconds, compiled=compiled) for spec in training)
        elif bench == "infer":
            yield from (bench_infer(spec, device, seconds=seconds, compiled=compiled) for spec in classifying)
        elif bench == "memory":
            yield from (bench_memory(spec, device, seconds=seconds) for spec in training)
        elif bench == "evaluate":
            yield from (bench_evaluate(spec, data, device, seconds=seconds) for spec in classifying)
        elif bench == "decode":
            from benchmarks.decoding import bench_decode, bench_decode_time

            yield bench_decode(data)
            yield bench_decode_time(data)
        elif bench == "loader":
            from benchmarks.decoding import bench_loader

            yield bench_loader(data, workers=sorted({1, available_cpus()}), device=str(device))
            yield from (bench_stream(spec, data, device, seconds=seconds) for spec in training)
        elif bench == "scaling":
            from benchmarks.scaling import bench_scaling

            yield from (bench_scaling(spec, device, seconds=seconds) for spec in training)
        elif bench == "explorer":
            from benchmarks.explorer import bench_explorer

            yield bench_explorer()
