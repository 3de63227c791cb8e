"""The lock of a run folder, and the records written under it, with which a folder that goes away is written anew."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from r21d_core import R21DError
from r21d_core.runs.files import make_folder, remove_temporary, unreadable, write_atomically

# Of flock: a file system such as Lustre without the mount option `flock`, or NFS without its lock service.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class RunLockedError(R21DError):
    """Another process is training the run."""


@dataclass
class _Held:
    """A lock of this process and the records of its folder."""

    lock: FileLock
    inode: int | None
    records: dict[str, bytes]


_HELD: dict[Path, _Held] = {}


@contextmanager
def hold(folder: Path, read_records: Callable[[], dict[str, bytes]]) -> Iterator[None]:
    """Hold `folder` for this process alone; raises RunLockedError if another process keeps holding it.

    The system frees the lock when its holder dies. Temporary files of killed writers are removed.
    """
    lock = FileLock(folder / ".lock", timeout=0.5)  # `is_locked` of another process holds it for a moment
    inode = _acquire(lock, folder)
    try:
        remove_temporary(folder)
        _HELD[folder] = _Held(lock, inode, read_records())
        yield
    finally:
        _HELD.pop(folder, None)
        lock.release()


def remember(folder: Path, name: str, content: bytes) -> None:
    """Keep the content of a record for `restore`, if this process holds `folder`."""
    if folder in _HELD:
        _HELD[folder].records[name] = content


def restore(folder: Path) -> None:
    """Write a folder that this process holds anew, with all its records, if it was deleted or moved."""
    held = _HELD.get(folder)
    if held and _inode(folder) != held.inode:
        print(f"{folder}: deleted or moved during the run; its records are written again", file=sys.stderr)
        held.lock.release()
        held.inode = _acquire(held.lock, folder)
        for name, content in held.records.items():
            write_atomically(folder / name, content)


def is_locked(folder: Path) -> bool:
    """Whether a process holds `folder`."""
    path = folder / ".lock"
    try:
        return _is_flocked(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:  # where no process can hold it
            raise
        return False


def _is_flocked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _acquire(lock: FileLock, folder: Path) -> int | None:
    """Take the lock of `folder` and return the inode of its file."""
    path = folder / ".lock"
    make_folder(folder)
    try:
        path.touch()
        _is_flocked(path)  # raises where the system has no locks; filelock would leave a file that outlives its holder
        lock.acquire()
        path.write_text(f"process {os.getpid()} on {platform.node()}")
    except Timeout:
        _, _, host = (holder := path.read_text() or "another process").partition(" on ")
        advice = "wait for it, or stop it and run again"
        if host not in ("", platform.node()):  # a file server may hold the lock of a host that is down
            advice += f"; if {host} is down, delete {path}"
        raise RunLockedError(f"{folder}: locked by {holder}; {advice}") from None
    except OSError as error:
        lock.release()
        advice = "change the permissions, free some space, or name another folder"
        if error.errno in NO_LOCKS:
            advice = (
                "its file system has no flock, which keeps two processes from one run; name a folder on another one"
            )
        raise R21DError(f"{path}: could not be locked ({error.strerror or error}); {advice}") from error
    return _inode(folder)


def _inode(folder: Path) -> int | None:
    path = folder / ".lock"
    return path.stat().st_ino if path.exists() else None
