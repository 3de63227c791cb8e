"""The networks by name: Table 2's twelve, eight ablations, and any other letters, one for each of conv1 … conv5_x."""

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
# R(2+1)D with one thing changed in its residual blocks; conv1 stays R(2+1)D's. Between the spatial and the temporal
# convolution n has no ReLU, l neither batch norm nor ReLU, h half of the planes M and d twice M; t has the temporal
# convolution first; b and s are P3D's parallel and skip forms (Qiu et al., ICCV 2017); r is a 3×3×3 and a 1×1×1, with
# batch norm and ReLU between. All but h and d have as many weights as a 3×3×3, to 1.2 % at width 64.
ABLATIONS = {
    "R(2+1)D-noReLU": "pnnnn", "R(2+1)D-noBN-noReLU": "pllll", "R(2+1)D-0.5M": "phhhh", "R(2+1)D-2M": "pdddd",
    "R(1+2)D": "ptttt", "P3D-B": "pbbbb", "P3D-C": "pssss", "R3D+ReLU": "prrrr",
}  # fmt: skip
NETWORKS = VARIANTS | ABLATIONS
LETTERS = "23pnlhdtbsr"  # of conv2_x … conv5_x; the first three are conv1's too
FIVE_LETTERS = f"[c23p][{LETTERS}]{{4}}"  # the pattern of a network without a name
# Networks of other papers, by torchvision's names, and C3D (Tran et al., ICCV 2015).
NEIGHBORS = ("s3d", "mvit_v2_s", "swin3d_t", "C3D")
# A network of one's own: a function in a module that Python finds. Only what trains or plans a run imports it.
IMPORT_PATH = r"([^\W\d]\w*\.)*[^\W\d]\w*:[^\W\d]\w*"
NOT_OF_NEIGHBORS = ("depth", "width", "frozen_stages", "midplanes_per_block", "eps")  # Spec fields; theirs are fixed
DEPTHS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # basic blocks of conv2_x … conv5_x


class UnknownVariantError(R21DError):
    """No network has this name here."""


def is_imported(variant: str) -> bool:
    """Return whether the variant is `module:function`, a network of one's own."""
    return ":" in variant


def is_neighbor(variant: str) -> bool:
    """Return whether the network is of NEIGHBORS or one's own, so that its layers are unknown here."""
    return variant in NEIGHBORS or is_imported(variant)


def absent_fields(variant: str) -> tuple[str, ...]:
    """Return the fields of Spec that the network does not have."""
    return NOT_OF_NEIGHBORS if is_neighbor(variant) else ()


def variant_name(variant: str) -> str:
    """Return the name of a network given by name or letters, the letters of one without a name, or `module:function`.

    Raises UnknownVariantError for anything else, with the closest name.
    """
    if variant in NETWORKS or variant in NEIGHBORS or re.fullmatch(IMPORT_PATH, variant):
        return variant
    if re.fullmatch(FIVE_LETTERS, variant):
        return next((name for name, letters in NETWORKS.items() if letters == variant), variant)
    names = {name.lower(): name for name in (*NETWORKS, *NEIGHBORS)}
    close = get_close_matches(variant.lower(), names, 1, cutoff=0.3)
    hint = f"did you mean {names[close[0]]}? " if close else ""
    raise UnknownVariantError(
        f"variant {variant!r}: {hint}expected one of {', '.join((*NETWORKS, *NEIGHBORS))}, or five letters such as "
        "33p22 for conv1 … conv5_x: 2, 3 or p, c for conv1 only, and "
        f"{', '.join(LETTERS[3:-1])} or {LETTERS[-1]} for the other four, or module:function for a network of your own"
    )


def is_sized_by_frames(variant: str) -> bool:
    """Return whether weights fit clips of one length only, as those of a conv1 that spans the clip."""
    name = variant_name(variant)
    return not is_neighbor(name) and NETWORKS.get(name, name).startswith("c")


def stage_spec(variant: str, depth: int) -> tuple[str, tuple[int, ...]]:
    """Return the five letters, and the number of blocks of conv2_x … conv5_x; raises R21DError for unknown values."""
    name = variant_name(variant)
    if depth not in DEPTHS:
        raise R21DError(f"depth {depth!r}: expected one of {', '.join(map(str, DEPTHS))}")
    if is_neighbor(name):
        raise R21DError(f"variant {name}: its layers are not those of {', '.join(VARIANTS)}")
    return NETWORKS.get(name, name), DEPTHS[depth]
