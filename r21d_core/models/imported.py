"""Networks of one's own, named `module:function`: import the function and call it.

Importing runs the module, so only what trains or plans a run does it; nothing that reads records may.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from r21d_core import R21DError
from r21d_core.study.variants import is_imported


def build_imported(variant: str, **options: int) -> Any:
    """Return the network that `module:function` builds with `num_classes`, `in_channels`, `frames` and `crop`.

    Raises R21DError if it fails, or returns anything but a module with the classifier `fc`, of `num_classes` outputs.
    """
    builder, _ = import_builder(variant)
    with named_failures(variant):
        network = builder(**options)
    fc = getattr(network, "fc", None)
    if not isinstance(network, nn.Module) or not isinstance(fc, nn.Linear) or fc.out_features != options["num_classes"]:
        outputs = options["num_classes"]
        expected = "a torch.nn.Module, a new one in each call, whose last layer is its attribute fc, "
        expected += f"Linear(…, num_classes), here {outputs}"
        returned = f"{type(network).__name__} with fc = {' '.join(str(fc).split())}"  # of nested layers, one line
        raise R21DError(f"variant {variant}: returned {returned}, expected {expected}")
    return network


@cache
def import_builder(variant: str) -> tuple[Callable[..., Any], str]:
    """Return the function of `module:function`, and the SHA-256 of its file when it was imported; else R21DError."""
    module, _, function = variant.partition(":")
    if not (sha256 := source_sha256(variant)):
        file = Path(f"{module.replace('.', '/')}.py")
        close = get_close_matches(file.name, [path.name for path in file.parent.glob("*.py")])
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        expected = f"a file {file} in the current folder or in one that PYTHONPATH names{hint}"
        raise R21DError(f"variant {variant}: no module {module} with a file is found; expected {expected}")
    with named_failures(variant):
        code = import_module(module)
    if not hasattr(code, function):
        names = [name for name, value in vars(code).items() if callable(value)]
        names = get_close_matches(function, names) or names or ["another file"]
        raise R21DError(f"variant {variant}: {_source(variant)} has no {function}; did you mean {' or '.join(names)}?")
    return getattr(code, function), sha256


def check_unchanged(variant: str) -> None:
    """Raise R21DError if the file of `module:function` is not the one that this process has imported."""
    _, imported = import_builder(variant)
    if source_sha256(variant) not in ("", imported):
        raise R21DError(f"{_source(variant)}: changed since it was imported; restart Python, or the notebook's kernel")


def source_sha256(variant: str) -> str:
    """Return the SHA-256 of the file of `module:function` as it is now, or "" without one.

    The module is not run, but a package around it is; raises R21DError if that fails.
    """
    try:
        file = _source(variant)
    except Exception as error:
        package = variant.partition(":")[0].rpartition(".")[0]
        raise R21DError(f"variant {variant}: package {package}: {type(error).__name__}: {error}") from error
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def describe_failure(variant: str, error: Exception) -> str:
    """Return the error as text, with the network's file and the last line of it that led there, if any did."""
    lines = _lines_of(variant, error)
    return f"{type(error).__name__} in {_source(variant)}{f', line {lines[-1]}' if lines else ''}: {error}"


def _lines_of(variant: str, error: Exception) -> list[int | None]:
    """Return the lines of the network's file that led to the error, the outermost first."""
    return [row.lineno for row in traceback.extract_tb(error.__traceback__) if row.filename == _source(variant)]


@contextmanager
def named_failures(variant: str, kind: type[Exception] = R21DError) -> Iterator[None]:
    """Raise what the code of one's own network raises as `kind`, but for a lack of memory.

    Another kind than R21DError is for several processes: only what comes from the network's file is then raised as it,
    since the death of another process is an error in this one too.
    """
    try:
        yield
    except Exception as error:
        if not is_imported(variant) or isinstance(error, torch.OutOfMemoryError):
            raise
        if kind is not R21DError and not _lines_of(variant, error):
            raise
        raise kind(f"variant {variant}: {describe_failure(variant, error)}") from error


def _source(variant: str) -> str:
    module = variant.partition(":")[0]
    try:
        found = find_spec(module)
    except ValueError:  # of a notebook's own __main__
        return ""
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # something that the package around it imports
            raise
        return ""
    return (found.origin or "") if found and found.has_location else ""
