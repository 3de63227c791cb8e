"""Writing without ever leaving half a file."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from r21d_core import R21DError

TEMPORARY = ".r21d-tmp"  # the ending of a file that is being written


def write_atomically(path: Path, content: bytes | str) -> None:
    """Put `content` at `path` whole or not at all: a crash or a full disk leaves what was there before.

    Raises R21DError that names the file and the system's reason (no space, no permission).
    """
    temporary = path.with_name(f".{path.name[:40]}.{token_hex(8)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _write_and_move(temporary, path, content.encode() if isinstance(content, str) else content):
            pass
    except OSError as error:
        raise R21DError(
            f"{path}: could not be written ({error.strerror or error}); what was there before is untouched. "
            "Free some space or change the permissions, then run the same command again."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write_and_move(temporary: Path, path: Path, content: bytes) -> bool:
    """Write `temporary` and name it `path`; False if it is removed before that."""
    file = temporary.open("xb")  # tempfile's files are private; records are to be shared
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # A host whose clock is ahead took it for a killed writer's; of NFS the handle of such a file is stale.
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


def spreadsheet_safe(cell: object) -> object:
    """Return the cell of a table, with an apostrophe before text that a spreadsheet would execute as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) else cell


def remove_temporary(folder: Path, seconds: float = 0.0) -> None:
    """Remove what killed writers left in `folder`: temporary files that were not written to for so many seconds."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= seconds:
                path.unlink()


def make_folder(path: Path) -> None:
    """Make the folder `path` and those it lies in; raises R21DError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if path.suffix == ".zip" and path.is_file():
            raise R21DError(
                f"{path}: a pack is read only; name the folder that `python -m zipfile -e {path} FOLDER` makes"
            ) from error
        reason = f"no folder can be made here ({error.strerror})"
        raise R21DError(f"{path}: {reason}; name another folder, or change the permissions") from error


def unreadable(path: Path, error: OSError) -> R21DError:
    """The error to raise for a file or folder that may not be read."""
    return R21DError(f"{path}: cannot be read ({error.strerror or error}); change its permissions")
