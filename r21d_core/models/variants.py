"""The twelve networks of Table 2 as twelve rows of data, a letter for each of conv1 … conv5_x."""

from __future__ import annotations

from difflib import get_close_matches

from r21d_core import R21DError

# c: 2-D over the whole clip, which collapses time; 2: 1×3×3; 3: 3×3×3; p: (2+1)D, a 1×3×3 and a 3×1×1.
VARIANTS = {
    "R2D": "c2222",
    "f-R2D": "22222",
    "R3D": "33333",
    "MC2": "32222",
    "MC3": "33222",
    "MC4": "33322",
    "MC5": "33332",
    "rMC2": "23333",
    "rMC3": "22333",
    "rMC4": "22233",
    "rMC5": "22223",
    "R(2+1)D": "ppppp",
}
DEPTHS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # basic blocks of conv2_x … conv5_x


def stage_spec(variant: str, depth: int) -> tuple[str, tuple[int, ...]]:
    """The five letters and the blocks a group; raises R21DError for what is not in the tables."""
    if variant not in VARIANTS:
        names = {name.lower(): name for name in VARIANTS}
        close = get_close_matches(variant.lower(), names, 1, cutoff=0.3)
        hint = f"did you mean {names[close[0]]}? " if close else ""
        raise R21DError(f"variant {variant!r}: {hint}there are {', '.join(VARIANTS)}")
    if depth not in DEPTHS:
        raise R21DError(f"depth {depth!r}: expected one of {', '.join(map(str, DEPTHS))}")
    return VARIANTS[variant], DEPTHS[depth]


def midplanes(inputs: int, outputs: int) -> int:
    """M_i of Section 3.5 for t = d = 3, which gives a (2+1)D pair at most as many weights as a 3×3×3 has."""
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)
