"""Statistics of a network's spatial and temporal filters, from its weights.

A temporal filter is the slice of a kernel along time for one output channel, one input channel and, in a 3-D kernel,
one position. Its order is that of the vector of the orthonormal cosine basis (DCT-II) with most of its energy; for
three frames the average (1, 1, 1), the difference (1, 0, −1) and the second difference (1, −2, 1), up to scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np
from scipy.fft import dct

from r21d_core.models.cost import cost

STAGES = ("conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x")
ORDERS = ("average", "difference", "higher")
FREQUENCIES = 17  # from 0 to half a cycle a frame or pixel
PART = re.compile(r"(\.(\d|spatial|temporal|project))?\.weight$")  # what follows a layer's name in a key
SEPARABILITY = ("kernel_separability", "filter_separability", "low_rank_energy")


class Layer(NamedTuple):
    """A convolution of a block or the stem, whose `kernel` is composed of its parts without the ReLUs between them.

    One part filters along time and one in space, which may be the same. Those of a pair are (M_i, in, 1, h, w) and
    (out, M_i, t, 1, 1), with the scale of the batch norm between them in the latter.
    """

    name: str
    kernel: np.ndarray  # (out, in, t, h, w)
    temporal: np.ndarray
    spatial: np.ndarray
    midplanes: int | None  # M_i of a pair, whose first part is the spatial one
    keys: tuple[str, str]  # of the temporal and the spatial weights in the state dict
    shapes: tuple[tuple[int, ...], ...]  # of all parts


def layers(state: Mapping[str, np.ndarray], eps: float = 1e-3) -> Iterator[Layer]:
    """Yield the convolutions of a network's state dict in order, without shortcuts.

    The kernel of a pair is Σ_m temporal[o, m] · scale[m] · spatial[m, i] with the scale of the batch norm between them,
    if there is one; other parts are composed alike. ReLUs are ignored, because with them the parts are not linear.
    """
    names: dict[str, list[str]] = {}
    for key, weight in state.items():
        if weight.ndim == 5 and "shortcut" not in key:
            names.setdefault(PART.sub("", key), []).append(key)
    for name, keys in names.items():
        parts = [np.asarray(state[key], np.float32) for key in keys]
        shapes = tuple(part.shape for part in parts)
        if len(parts) == 2 and f"{name}.1.running_var" in state:  # the second part takes the scale
            parts[1] = np.asarray(parts[1] * _scale(state, f"{name}.1", eps)[:, None, None, None], np.float32)
        if len(parts) == 3:
            norms = [f"{name}.{part}_norm" for part in ("spatial", "temporal")]
            scales = [np.float32(_scale(state, norm, eps)[:, None, None, None, None]) for norm in norms]
            parts[:2] = [part * scale for part, scale in zip(parts[:2], scales, strict=True)]
        # The part whose kernel is longest in time, and the one whose kernel is widest.
        time, space = (max(range(len(parts)), key=lambda n, axis=axis: shapes[n][axis]) for axis in (2, 3))
        planes = shapes[0][0] if (len(parts), time, space) == (2, 1, 0) else None
        yield Layer(name, _compose(parts), parts[time], parts[space], planes, (keys[time], keys[space]), shapes)


def _scale(state: Mapping[str, np.ndarray], norm: str, eps: float) -> np.ndarray:
    """Return what the batch norm `norm` multiplies each channel with, (channels,)."""
    return state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + eps)


def _compose(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the one kernel of a convolution, of two in series, or of P3D's spatial, temporal and projecting ones."""
    if len(parts) < 3:
        return reduce(_in_series, parts)
    spatial, temporal, project = parts
    if temporal.shape[1] == temporal.shape[0]:  # of M planes: the skip form
        temporal = _in_series(spatial, temporal)
    kernel = np.zeros((*spatial.shape[:2], 3, 3, 3), np.float32)
    for part in (spatial, temporal):
        kernel[_centered(part.shape)] += part
    return _in_series(kernel, project)


def _centered(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the center of a kernel (…, 3, 3, 3) that a kernel of `shape`, of size 1 or 3 along each axis, covers."""
    return (slice(None), slice(None), *(slice(None) if size == 3 else slice(1, 2) for size in shape[2:]))


def _in_series(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the kernel of two convolutions in series, one of which has size 1 along each axis."""
    (planes, inputs, *a), (out, _, *b) = first.shape, second.shape
    product = np.moveaxis(second, 1, -1).reshape(-1, planes) @ first.reshape(planes, -1)
    product = product.reshape(out, *b, inputs, *a).transpose(0, 4, 1, 5, 2, 6, 3, 7)
    return product.reshape(out, inputs, *(n * m for n, m in zip(a, b, strict=True)))


def temporal_taps(weight: np.ndarray) -> np.ndarray:
    """Return the temporal filters (n, t) of weights (out, in, t, h, w), without those that are all zero."""
    flat = np.moveaxis(weight, 2, -1).reshape(-1, weight.shape[2])
    return flat[np.any(flat != 0, axis=1)]


def order_statistics(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of temporal filters (n, t) of each of ORDERS and each order's fraction of energy, (3,) each."""
    energy = _dct_energy(filters).sum(axis=0)
    counts = np.bincount(filter_order(filters), minlength=3)
    return counts, np.array([energy[0], energy[1:2].sum(), energy[2:].sum()]) / energy.sum()


def filter_order(filters: np.ndarray) -> np.ndarray:
    """Return the index in ORDERS of each temporal filter (n, t), by the basis vector with most of its energy, (n,)."""
    return np.minimum(_dct_energy(filters).argmax(axis=1), 2)


def _dct_energy(filters: np.ndarray) -> np.ndarray:
    return np.square(np.asarray(dct(filters.astype(np.float64), norm="ortho", axis=-1)))


def temporal_spectrum(filters: np.ndarray) -> np.ndarray:
    """Return the power of temporal filters (n, t) at FREQUENCIES from 0 to 1/2 cycle a frame; that of noise is 1."""
    power = np.abs(np.fft.rfft(filters, 2 * (FREQUENCIES - 1), axis=-1)) ** 2
    return power.sum(axis=0) / np.square(filters).sum()


def spatial_spectrum(weight: np.ndarray) -> np.ndarray:
    """Return the power of weights (…, h, w) at FREQUENCIES from 0 to 1/2 cycle a pixel, averaged over directions."""
    size = 4 * (FREQUENCIES - 1)
    power = np.abs(np.fft.fft2(weight.reshape(-1, *weight.shape[-2:]), (size, size))) ** 2
    power = power.sum(axis=0) / np.square(weight).sum()
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    ring = np.rint(cycles * 2 * (FREQUENCIES - 1)).astype(int)
    return np.array([power[ring == number].mean() for number in range(FREQUENCIES)])


def rank_one_energy(matrices: np.ndarray) -> np.ndarray:
    """Return the fraction of energy in the first singular value of matrices (n, t, k), without those all zero.

    It is 1 if time and space separate.
    """
    squares = np.matmul(matrices, matrices.swapaxes(1, 2), dtype=np.float64)
    energy = np.trace(squares, axis1=1, axis2=2)
    return np.linalg.eigvalsh(squares[energy > 0])[:, -1] / energy[energy > 0]


def separability(kernel: np.ndarray, planes: int, pair: bool = False) -> dict:
    """Return how far each kernel of (out, in, t, h, w) separates, each filter, and the whole layer.

    `rank_one_energy` of each kernel t × (h·w) of one input and output channel, and of each output channel's filter
    t × (in·h·w). Of the layer, the largest fraction of energy that a (2+1)D pair with `planes` planes and no ReLU
    represents: its matrix (out·t) × (in·h·w) has at most rank `planes` (Eckart and Young). A `pair` represents itself.
    """
    out, _, t, h, w = kernel.shape
    filters, low_rank = kernel.swapaxes(1, 2).reshape(out, t, -1), np.float64(1)
    if not pair:
        matrix = filters.reshape(out * t, -1).astype(np.float64)
        squares = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        energy = np.linalg.eigvalsh(squares)
        low_rank = energy[-min(planes, len(energy)) :].sum() / energy.sum()
    values = rank_one_energy(kernel.reshape(-1, t, h * w)), rank_one_energy(filters), low_rank
    return dict(zip(SEPARABILITY, values, strict=True))


def separate_filters(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first singular pair of each filter of (out, in, t, h, w): images (out, in, h, w), curves (out, t).

    The image has the filter's energy, the curve has norm 1 and its largest value is positive.
    """
    out, inputs, t, h, w = kernel.shape
    curves, values, images = np.linalg.svd(kernel.swapaxes(1, 2).reshape(out, t, -1), full_matrices=False)
    sign = _peak_sign(curves[:, :, 0])
    return (values[:, :1] * images[:, 0] * sign).reshape(out, inputs, h, w), curves[:, :, 0] * sign


def strongest_taps(temporal: np.ndarray) -> np.ndarray:
    """Return the temporal filter with most energy of each output channel of weights (out, M_i, t, 1, 1), (out, t).

    Filters have norm 1 and their largest value is positive.
    """
    filters = temporal[..., 0, 0]
    strongest = filters[np.arange(len(filters)), np.square(filters).sum(axis=2).argmax(axis=1)]
    return strongest * _peak_sign(strongest) / np.linalg.norm(strongest, axis=1, keepdims=True)


def _peak_sign(curves: np.ndarray) -> np.ndarray:
    """Return the sign of the largest value of each of the curves (n, t), (n, 1)."""
    return np.sign(np.take_along_axis(curves, np.abs(curves).argmax(axis=1)[:, None], axis=1))


def filter_statistics(state: Mapping[str, np.ndarray], eps: float = 1e-3) -> dict[str, np.ndarray]:
    """Return the statistics above of a network's state dict, a row a layer, and the filters of its first layer.

    Separabilities are (mean, first decile, last decile). `random_…` is the value of normally distributed weights of the
    same shapes, composed alike.
    """
    rows: list[dict] = []
    for layer in layers(state, eps):
        kernel, pair = layer.kernel, bool(layer.midplanes)
        row = {"layer": layer.name, "length": layer.temporal.shape[2], "midplanes": layer.midplanes or 0}
        row |= {"n_filters": 0, "counts": np.zeros(3), "energy": np.zeros(3), "spectrum": np.full(FREQUENCIES, np.nan)}
        row |= {"kernel_counts": np.zeros(3)}  # of the slices of the whole kernel, of a pair that without its ReLU
        row |= dict.fromkeys(SEPARABILITY[:2], np.full(3, np.nan))
        row |= dict.fromkeys((SEPARABILITY[2], *(f"random_{name}" for name in SEPARABILITY)), np.nan)
        if row["length"] > 1:
            out, inputs, t, h, w = kernel.shape  # as many planes as give a pair the weights of the kernel, Section 3.5
            planes = layer.midplanes or t * h * w * inputs * out // (h * w * inputs + t * out)
            taps = temporal_taps(layer.temporal)
            row |= {"n_filters": len(taps), "spectrum": temporal_spectrum(taps)}
            row["counts"], row["energy"] = order_statistics(taps)
            row["kernel_counts"], _ = order_statistics(temporal_taps(kernel))
            for name, values in separability(kernel, planes, pair).items():
                row[name] = np.array([values.mean(), *np.quantile(values, (0.1, 0.9))]) if values.ndim else values
            if len(layer.shapes) < 3:
                row |= _random_separability(layer.shapes, planes, pair)
        rows.append(row)
    first = next(layers(state, eps))
    images, curves = separate_filters(first.kernel)
    if first.midplanes:
        images, curves = first.spatial[:, :, 0], strongest_taps(first.temporal)
    return {key: np.array([row[key] for row in rows]) for key in rows[0]} | {
        "pictures": images.astype(np.float16),
        "curves": curves.astype(np.float16),
        "spatial_spectrum": spatial_spectrum(first.spatial),
    }


@lru_cache
def _random_separability(shapes: tuple[tuple[int, ...], ...], planes: int, pair: bool) -> dict[str, float]:
    """Return the mean SEPARABILITY of the kernel that is composed of normal weights of these shapes."""
    rng = np.random.default_rng(0)
    kernel = _compose([rng.standard_normal(shape, np.float32) for shape in shapes])
    return {f"random_{name}": float(np.mean(values)) for name, values in separability(kernel, planes, pair).items()}


def weight_changes(state: Mapping[str, np.ndarray], initial: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return how each layer's weights differ from the initial ones, (layers,) each.

    `temporal_change` is ‖W − W₀‖ / ‖W₀‖ of the temporal weights, weight decay included. `temporal_angle` and
    `spatial_angle` are the angles between W and W₀ in degrees, which weight decay does not change.
    """
    rows = []
    for layer in layers(state):
        pairs = [(state[key].astype(np.float64), initial[key].astype(np.float64)) for key in layer.keys]
        change = np.linalg.norm(pairs[0][0] - pairs[0][1]) / np.linalg.norm(pairs[0][1])
        rows.append((change, *(_angle(*pair) for pair in pairs)))
    return dict(zip(("temporal_change", "temporal_angle", "spatial_angle"), np.array(rows).T, strict=True))


def _angle(weight: np.ndarray, other: np.ndarray) -> float:
    """Return the angle between two arrays as vectors, in degrees."""
    cosine = (weight * other).sum() / (np.linalg.norm(weight) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def input_frames(spec: Mapping) -> dict[str, int]:
    """Return the number of frames in the input of each of `layers`, for the fields of a Spec.

    With one frame, only the center taps of a temporal filter meet anything but padding and are trained.
    """
    variant, depth, width, frames = (spec[name] for name in ("variant", "depth", "width", "frames"))
    result: dict[str, int] = {}
    for conv in cost(variant, depth, width, frames, midplanes_per_block=spec["midplanes_per_block"]).convs:
        if not conv.is_branch:
            result.setdefault(PART.sub("", f"{conv.name}.weight"), frames)
            frames = conv.size[0]
    return result
