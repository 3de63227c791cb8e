"""Run benchmarks, print each table when it is measured, and write the record."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from datetime import date
from itertools import chain
from typing import Any

from benchmarks.baselines import CLASSES
from benchmarks.decoding import bench_decode, bench_decode_time, bench_loader
from benchmarks.explorer import bench_explorer
from benchmarks.loading import bench_evaluate, bench_memory, bench_stream
from benchmarks.scaling import bench_scaling
from benchmarks.steps import bench_infer, bench_train, machine
from benchmarks.tables import BENCHES, format_record, tables
from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest
from r21d_core.data.parallel import available_cpus
from r21d_core.data.sampling import frame_counts
from r21d_core.data.synthetic import make_builtin
from r21d_core.engine.device import pick_device
from r21d_core.engine.plan import BUILTIN_ROOT
from r21d_core.models.cost import spec_cost
from r21d_core.runs.files import write_atomically
from r21d_core.study.spec import Spec

FROM_FILES = {"evaluate", "decode", "loader"}


def benchmark(options: Namespace) -> None:
    """Run the benches of the command's `options`; print each table and write the record when it is measured.

    A record has `machine`, `date`, `command` and `rows`. A batch has 32 clips in training and 64 in inference, on a CPU
    2. The benchmarks FROM_FILES read the videos of the manifest, by default the built-in ones. Raises R21DError for
    impossible settings before anything is measured.
    """
    benches = BENCHES if "all" in options.benches else options.benches
    device, out = pick_device(options.device), options.out
    if out and (out.suffix != ".json" or out.is_dir()):
        raise R21DError(f"{out}: expected the name of a file that ends in .json")
    precision, sizes = ("fp32", (2, 2)) if device.type == "cpu" else ("bf16", (32, 64))
    training, classifying = (
        [
            Spec(variant=name, depth=options.depth, frames=options.frames, batch_size=size, precision=precision)
            for name in options.variants
        ]
        for size in (sizes if options.batch_size is None else 2 * (options.batch_size,))
    )
    for spec in training:
        spec_cost(spec, CLASSES)
    data: Any = None
    if FROM_FILES & set(benches):
        data = load_manifest(options.manifest or make_builtin(BUILTIN_ROOT))
        frame_counts(data.videos)  # raises for a manifest that was not checked
    record = {
        "machine": machine(device, min(options.seconds, 2.0)),
        "date": date.today().isoformat(),
        "command": shlex.join(["r21d", *sys.argv[1:]]),
        "rows": [],
    }
    print(format_record(record), end="\n\n", flush=True)
    seconds, compiled = options.seconds, not options.no_compile_peers
    rows_of_tables = {  # each is measured when its turn comes
        "train": (bench_train(spec, device, seconds, compiled) for spec in training),
        "infer": (bench_infer(spec, device, seconds, compiled) for spec in classifying),
        "memory": (bench_memory(spec, device, seconds) for spec in training),
        "evaluate": (bench_evaluate(spec, data, device, seconds) for spec in classifying),
        "decode": (bench(data) for bench in (bench_decode, bench_decode_time)),
        "loader": chain(
            (bench_loader(data, workers, device) for workers in [sorted({1, available_cpus()})]),
            (bench_stream(spec, data, device, seconds) for spec in training),
        ),
        "scaling": (bench_scaling(spec, device, seconds) for spec in training),
        "explorer": (bench() for bench in [bench_explorer]),
    }
    for rows in chain.from_iterable(rows_of_tables[bench] for bench in benches):
        record["rows"] += rows
        print(tables(record["machine"], rows), end="\n\n", flush=True)
        if out:
            write_atomically(out, json.dumps(record, indent=1) + "\n")
