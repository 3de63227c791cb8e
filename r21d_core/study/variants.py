"""The networks by name: Table 2's twelve, and any other five letters, one letter for each of conv1 … conv5_x."""

from __future__ import annotations

import re
from difflib import get_close_matches

from r21d_core import R21DError

# c: 2-D over the whole clip, which collapses time; 2: 1×3×3; 3: 3×3×3; p: (2+1)D, a 1×3×3 and a 3×1×1.
VARIANTS = {
    "R2D": "c2222", "f-R2D": "22222", "R3D": "33333",
    "MC2": "32222", "MC3": "33222", "MC4": "33322", "MC5": "33332",
    "rMC2": "23333", "rMC3": "22333", "rMC4": "22233", "rMC5": "22223", "R(2+1)D": "ppppp",
}  # fmt: skip
DEPTHS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # basic blocks of conv2_x … conv5_x


def variant_name(variant: str) -> str:
    """Return Table 2's name of a network given by name or letters, or the letters of one that is not in the table.

    Raises R21DError for anything else, with the closest name.
    """
    if variant in VARIANTS:
        return variant
    if re.fullmatch(r"[c23p][23p]{4}", variant):
        return next((name for name, letters in VARIANTS.items() if letters == variant), variant)
    names = {name.lower(): name for name in VARIANTS}
    close = get_close_matches(variant.lower(), names, 1, cutoff=0.3)
    hint = f"did you mean {names[close[0]]}? " if close else ""
    raise R21DError(
        f"variant {variant!r}: {hint}expected one of {', '.join(VARIANTS)}, or five letters such as 33p22 for "
        "conv1 … conv5_x: 2, 3 or p, and c for conv1 only"
    )


def stage_spec(variant: str, depth: int) -> tuple[str, tuple[int, ...]]:
    """Return the five letters, and the number of blocks of conv2_x … conv5_x; raises R21DError for unknown values."""
    name = variant_name(variant)
    if depth not in DEPTHS:
        raise R21DError(f"depth {depth!r}: expected one of {', '.join(map(str, DEPTHS))}")
    return VARIANTS.get(name, name), DEPTHS[depth]
