"""Records of filter statistics and attributions in a run's folder; figures need only these, no checkpoint.

Pictures are stored as JPEG, as one column, and all numbers as they are. The file is not compressed: a pack does this,
and much better for maps whose neighboring values are equal.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r21d_core import R21DError
from r21d_core.runs.files import write_atomically
from r21d_core.study.spec import format_settings

FILTERS, ATTRIBUTIONS = "filters.npz", "attributions.npz"  # names in the run folder
VIDEO_PICTURES = ("frames", "strips")
MAX_ROWS = 65_500  # of a JPEG; larger arrays are stored as they are
PICTURES = (*VIDEO_PICTURES, "optimized")  # (…, H, W, 3) uint8


@dataclass(frozen=True)
class InsightRecord:
    """Arrays by name, and `metadata`: the spec, the weights' hash, the device and the settings they come from."""

    metadata: dict
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def label(self) -> str:
        """The network, such as "R3D-18, seed 0"; for weights that are not of a run, their name."""
        spec = self.metadata["spec"]
        seed = f"{spec['variant']}-{spec['depth']}, seed {spec['seed']}{', flow' * self.is_flow}"
        return self.metadata.get("name", seed)

    @property
    def is_flow(self) -> bool:
        """Whether the network's input is optical flow."""
        return self.metadata["spec"]["modality"] == "flow"

    @property
    def has_frames(self) -> bool:
        """Whether the videos' frames are in the record; `without_frames` makes them grey."""
        return "frames" not in self.metadata


def with_unique_labels(records: Sequence[InsightRecord]) -> list[InsightRecord]:
    """Return the records; labels that several have get the fields in which the Specs of these differ."""
    result = []
    for record in records:
        specs = [other.metadata["spec"] for other in records if other.label == record.label]
        differ = {
            key: value for key, value in record.metadata["spec"].items() if any(s.get(key) != value for s in specs)
        }
        name = {"name": f"{record.label}, {format_settings(differ)}"} if differ else {}
        result.append(InsightRecord(record.metadata | name, record.arrays))
    return result


def save_record(path: Path, record: InsightRecord) -> None:
    """Write `record` to the .npz file `path`, atomically."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"metadata": np.asarray(json.dumps(record.metadata)), **record.arrays}
    for name in filter(arrays.__contains__, PICTURES):
        *_, width, colors = shape = arrays[name].shape
        if arrays[name].size > MAX_ROWS * width * colors:
            continue
        jpeg = io.BytesIO()
        Image.fromarray(arrays[name].reshape(-1, width, colors)).save(jpeg, "JPEG", quality=90, subsampling=0)
        arrays |= {name: np.frombuffer(jpeg.getvalue(), np.uint8), f"{name}_shape": np.array(shape)}
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def without_frames(record: InsightRecord) -> InsightRecord:
    """Return the record with its videos' frames grey, for data that may not be passed on; all numbers stay."""
    grey = {name: np.full_like(record[name], 128) for name in VIDEO_PICTURES if name in record.arrays}
    return InsightRecord(record.metadata | {"frames": "left out"}, record.arrays | grey)


def load_record(path: Path | zipfile.Path) -> InsightRecord:
    """Return the record in the .npz file `path`; raises R21DError if it is missing or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = dict(file)
        for name in PICTURES:
            if (shape := arrays.pop(f"{name}_shape", None)) is not None:
                arrays[name] = np.asarray(Image.open(io.BytesIO(arrays[name].tobytes()))).reshape(shape)
        return InsightRecord(json.loads(str(arrays.pop("metadata"))), arrays)
    except FileNotFoundError:
        raise R21DError(f"{path}: no such record; `r21d insight` writes it where the checkpoint is") from None
    except Exception as error:  # numpy, zipfile and Pillow raise many kinds for damaged files
        raise R21DError(f"{path}: not an insight record ({error}); delete it and run `r21d insight`") from error
