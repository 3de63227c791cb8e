"""Whether the files that a run was made from are the same still: manifest, code of the network, first weights."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.models.zoo import resolve_weights
from r21d_core.runs.run import Run
from r21d_core.study.variants import is_imported


def check_origin(run: Run, manifest: Manifest | None = None) -> None:
    """Raise R21DError if a finished run was made from another file, or, where it is given, another manifest."""
    check_source(run)
    if run.spec.init_file:
        check_init_file(run, run.environment.get("init_from", ""))
    if manifest:
        check_fingerprint(run, run.environment["fingerprint"], manifest)


def check_source(run: Run) -> None:
    """Raise R21DError if the file of one's own network is not the one that the run was or is trained with.

    A missing file is no error, as a finished run needs it no more.
    """
    if not (is_imported(run.spec.variant) and (run.is_complete or run.has_checkpoint)):
        return
    from r21d_core.models.imported import source_sha256  # imports torch

    recorded, current = run.environment.get("network_sha256", ""), source_sha256(run.spec.variant)
    if current not in ("", recorded):
        raise R21DError(
            f"{run.folder}: was trained with another version of {run.spec.variant} (SHA-256 {recorded[:8]}…, now "
            f"{current[:8]}…); restore that file, name the new function or module differently, or move the run folder "
            "away to train it again"
        )


def check_init_file(run: Run, recorded: str) -> None:
    """Raise R21DError if the file that `run` starts from is not the one whose SHA-256 is in `recorded`.

    That is what `init_from` returned. A missing file is not an error, as a run that has begun needs it no more.
    """
    match = re.search("SHA-256 ([0-9a-f]{64})", recorded)
    if not (run.spec.init_file and match):
        return
    try:
        path = resolve_weights(run.spec.init_file)
        sha256 = _sha256(path, path.stat().st_mtime_ns)
    except (R21DError, OSError):
        return
    if sha256 != match[1]:
        raise R21DError(
            f"{run.folder}: started from another version of {path} (SHA-256 {match[1][:8]}…, now {sha256[:8]}…); "
            "restore that file, name the new one differently, or move the run folder away to train it again"
        )


@lru_cache  # many runs may start from one file
def _sha256(path: Path, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_fingerprint(run: Run, fingerprint: str, manifest: Manifest) -> None:
    """Raise R21DError if `fingerprint`, recorded by the run, is not the manifest's."""
    if fingerprint != manifest.fingerprint:
        raise R21DError(
            f"{run.folder}: was trained on another version of {manifest.path} (videos, labels or splits differ); "
            "restore that manifest, or move the run folder away to train it again"
        )
