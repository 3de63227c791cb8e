"""Small records of what was looked at, beside a run: figures are drawn from them where no checkpoint is."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r21d_core import R21DError
from r21d_core.runs.files import write_atomically

FILTERS, ATTRIBUTIONS = "filters.npz", "attributions.npz"  # names in the run folder


@dataclass(frozen=True)
class InsightRecord:
    """Arrays by name, and `metadata`: of which network, weights, data and device, and with which settings."""

    metadata: dict
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def save_record(path: Path, kept: InsightRecord) -> None:
    """Write `kept` to the .npz file `path`, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, metadata=np.asarray(json.dumps(kept.metadata)), **kept.arrays)
    write_atomically(path, buffer.getvalue())


def without_frames(kept: InsightRecord) -> InsightRecord:
    """The record to be passed on where its videos may not be: their frames grey, all that was measured as it is."""
    grey = {name: np.full_like(kept[name], 128) for name in ("frames", "strips") if name in kept.arrays}
    return InsightRecord(kept.metadata | {"frames": "left out"}, kept.arrays | grey)


def load_record(path: Path) -> InsightRecord:
    """The Kept in the .npz file `path`; raises R21DError if it is missing or not such a file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return InsightRecord(json.loads(str(arrays.pop("metadata"))), arrays)
    except FileNotFoundError:
        raise R21DError(f"{path}: no such record; `r21d insight` makes it where the checkpoint is") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise R21DError(f"{path}: not a record of this kind ({error}); delete it and run `r21d insight`") from error
