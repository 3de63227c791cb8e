"""What convolutions have learned of space and of time, from their weights alone.

A temporal filter is a fibre of a kernel along time: one for each output channel, input channel and, of a 3-D kernel,
place. Its order is that of the member of the orthonormal cosine basis (DCT-II) that holds most of its energy. Of three
frames these are the average (1, 1, 1), the difference (1, 0, −1) and the second difference (1, −2, 1), to a scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.fft import dct

GROUPS = ("conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x")
ORDERS = ("average", "difference", "higher")
FREQUENCIES = 17  # from 0 to half a cycle a frame or pixel


class Layer(NamedTuple):
    """A convolution of a variant's letter; `kernel` is what it computes, of a (2+1)D pair with the ReLU left out."""

    name: str
    kernel: np.ndarray  # (out, in, t, h, w)
    temporal: np.ndarray  # the weights along time, (out, in, t, h, w) or of a pair (out, M_i, t, 1, 1)
    spatial: np.ndarray  # the weights in space, (out, in, t, h, w) or of a pair (M_i, in, 1, h, w)
    middle: int | None  # M_i of a pair


def layers(state: Mapping[str, np.ndarray], eps: float = 1e-3) -> Iterator[Layer]:
    """The convolutions of a network's state dict, shortcuts aside, from the first to the last.

    The kernel of a pair is Σ_m temporal[o, m] · scale[m] · spatial[m, i], where scale is that of the batch norm between
    them; the ReLU between them, which no kernel can say, is ignored.
    """
    for key, weight in state.items():
        if weight.ndim != 5 or "shortcut" in key or key.endswith(".3.weight"):
            continue
        weight, name = np.asarray(weight, np.float32), key.removesuffix(".weight")
        if not name.endswith(".0"):
            yield Layer(name, weight, weight, weight, None)
            continue
        name = name.removesuffix(".0")
        scale = state[f"{name}.1.weight"] / np.sqrt(state[f"{name}.1.running_var"] + eps)
        temporal = np.asarray(state[f"{name}.3.weight"] * scale[:, None, None, None], np.float32)
        (out, middle, t, *_), (_, inputs, _, *size) = temporal.shape, weight.shape
        kernel = temporal[..., 0, 0].swapaxes(1, 2).reshape(-1, middle) @ weight.reshape(middle, -1)
        yield Layer(name, kernel.reshape(out, t, inputs, *size).swapaxes(1, 2), temporal, weight, middle)


def temporal_taps(weight: np.ndarray) -> np.ndarray:
    """The temporal filters (n, t) of weights (out, in, t, h, w), those that are all zero left out."""
    flat = np.moveaxis(weight, 2, -1).reshape(-1, weight.shape[2])
    return flat[np.any(flat != 0, axis=1)]


def orders(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the temporal filters (n, t) are of each of ORDERS, and each one's share of energy; (3,) both."""
    energy = _by_basis(filters)
    counts = np.bincount(order_of(filters), minlength=3)
    share = energy.sum(axis=0) / energy.sum()
    return counts, np.array([share[0], share[1:2].sum(), share[2:].sum()])


def order_of(filters: np.ndarray) -> np.ndarray:
    """The place in ORDERS of each of the temporal filters (n, t), by the basis vector with most of its energy, (n,)."""
    return np.minimum(_by_basis(filters).argmax(axis=1), 2)


def temporal_spectrum(filters: np.ndarray) -> np.ndarray:
    """Power of temporal filters (n, t) at FREQUENCIES from 0 to 1/2 cycle a frame; noise has 1 at each of them."""
    power = np.abs(np.fft.rfft(filters, 2 * (FREQUENCIES - 1), axis=-1)) ** 2
    return power.sum(axis=0) / np.square(filters).sum()


def spatial_spectrum(weight: np.ndarray) -> np.ndarray:
    """Power of weights (…, h, w) at FREQUENCIES from 0 to 1/2 cycle a pixel, over all directions; noise has 1."""
    size = 4 * (FREQUENCIES - 1)
    power = np.abs(np.fft.fft2(weight.reshape(-1, *weight.shape[-2:]), (size, size))) ** 2
    power = power.sum(axis=0) / np.square(weight).sum()
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    ring = np.rint(cycles * 2 * (FREQUENCIES - 1)).astype(int)
    return np.array([power[ring == number].mean() for number in range(FREQUENCIES)])


def rank_one(matrices: np.ndarray) -> np.ndarray:
    """The share of energy in the first singular value of matrices (n, t, k) of time by space: 1 where it separates.

    Matrices that are all zero are left out.
    """
    squares = np.matmul(matrices, matrices.swapaxes(1, 2), dtype=np.float64)
    energy = np.trace(squares, axis1=1, axis2=2)
    return np.linalg.eigvalsh(squares[energy > 0])[:, -1] / energy[energy > 0]


def kernel_separability(kernel: np.ndarray) -> np.ndarray:
    """`rank_one` of each kernel t × (h·w) of one input and one output channel, of (out, in, t, h, w)."""
    return rank_one(kernel.reshape(-1, kernel.shape[2], kernel.shape[3] * kernel.shape[4]))


def filter_separability(kernel: np.ndarray) -> np.ndarray:
    """`rank_one` of each output channel's filter, t × (in·h·w): 1 where it is one spatial filter and one temporal."""
    return rank_one(kernel.swapaxes(1, 2).reshape(len(kernel), kernel.shape[2], -1))


def low_rank_energy(kernel: np.ndarray, middle: int) -> float:
    """The share of a layer's energy that the best (2+1)D pair with `middle` planes and no ReLU could hold.

    The kernels of such a pair, as a matrix (out·t) × (in·h·w), have rank `middle` at the most: Eckart and Young.
    """
    out, _, t, *_ = kernel.shape
    matrix = kernel.swapaxes(1, 2).reshape(out * t, -1).astype(np.float64)
    squares = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    energy = np.linalg.eigvalsh(squares)
    return float(energy[-min(middle, len(energy)) :].sum() / energy.sum())


def profiles(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each filter of (out, in, t, h, w) the first singular pair: pictures (out, in, h, w), curves (out, t).

    The picture has the filter's energy, the curve has length 1 and its largest value is positive.
    """
    out, inputs, t, h, w = kernel.shape
    curves, sizes, pictures = np.linalg.svd(kernel.swapaxes(1, 2).reshape(out, t, -1), full_matrices=False)
    curve, picture = curves[:, :, 0], sizes[:, :1] * pictures[:, 0]
    sign = np.sign(np.take_along_axis(curve, np.abs(curve).argmax(axis=1)[:, None], axis=1))
    return (picture * sign).reshape(out, inputs, h, w), curve * sign


def strongest(temporal: np.ndarray) -> np.ndarray:
    """Of each output channel of a pair's temporal convolution (out, M_i, t, 1, 1) the filter with most energy.

    (out, t), of length 1, the largest value positive.
    """
    filters = temporal[..., 0, 0]
    chosen = filters[np.arange(len(filters)), np.square(filters).sum(axis=2).argmax(axis=1)]
    return chosen / np.take_along_axis(chosen, np.abs(chosen).argmax(axis=1)[:, None], axis=1) * _peak(chosen)


def filter_statistics(state: Mapping[str, np.ndarray], eps: float = 1e-3) -> dict[str, np.ndarray]:
    """All of the above of a network's state dict, as arrays with a row a layer, and its first layer's filters.

    `random_…` is what untrained, normally distributed weights of the same shape give, in a pair where the layer is one.
    """
    rows: dict[str, list] = {}
    for layer in layers(state, eps):
        t = layer.temporal.shape[2]
        row = {"layer": layer.name, "length": t, "midplanes": layer.middle or 0, "n_filters": 0}
        row |= dict.fromkeys(("counts", "energy"), np.zeros(3)) | {"spectrum": np.full(FREQUENCIES, np.nan)}
        row |= {
            "kernel_separability": np.full(3, np.nan),
            "filter_separability": np.full(3, np.nan),
            "low_rank_energy": np.nan,
        }
        row |= dict.fromkeys(
            ("random_kernel_separability", "random_filter_separability", "random_low_rank_energy"), np.nan
        )
        if t > 1:
            found = temporal_taps(layer.temporal)
            row |= {"n_filters": len(found), "spectrum": temporal_spectrum(found)}
            row["counts"], row["energy"] = orders(found)
            row["kernel_separability"] = _spread(kernel_separability(layer.kernel))
            row["filter_separability"] = _spread(filter_separability(layer.kernel))
            by_pairs = _middle(layer) if layer.middle is None else layer.middle
            row["low_rank_energy"] = low_rank_energy(layer.kernel, by_pairs) if layer.middle is None else 1.0
            shape = layer.kernel.shape
            at_random = _at_random(shape, by_pairs, layer.middle is not None)
            row["random_kernel_separability"], row["random_filter_separability"], row["random_low_rank_energy"] = (
                at_random
            )
        for key, value in row.items():
            rows.setdefault(key, []).append(value)
    first = next(layers(state, eps))
    pictures, curves = profiles(first.kernel)
    if first.middle:
        pictures, curves = first.spatial[:, :, 0], strongest(first.temporal)
    return {key: np.array(values) for key, values in rows.items()} | {
        "pictures": pictures.astype(np.float16),
        "curves": curves.astype(np.float16),
        "spatial_spectrum": spatial_spectrum(first.spatial),
    }


def _by_basis(filters: np.ndarray) -> np.ndarray:
    return dct(filters.astype(np.float64), norm="ortho", axis=-1) ** 2


def _peak(filters: np.ndarray) -> np.ndarray:
    """The largest absolute value of each filter (n, t) when its length is 1, (n, 1)."""
    return np.abs(filters).max(axis=1, keepdims=True) / np.linalg.norm(filters, axis=1, keepdims=True)


def _middle(layer: Layer) -> int:
    """M_i that Section 3.5 gives a pair in the place of a full convolution with this many weights."""
    out, inputs, t, h, w = layer.kernel.shape
    return t * h * w * inputs * out // (h * w * inputs + t * out)


def _spread(values: np.ndarray) -> np.ndarray:
    """The mean, and where the lowest and highest tenth begin."""
    return np.array([values.mean(), *np.quantile(values, (0.1, 0.9))])


@lru_cache
def _at_random(shape: tuple[int, ...], middle: int, pair: bool) -> tuple[float, float, float]:
    """The means of the two separabilities, and what a pair holds, of a full kernel or one composed of a pair."""
    random, (out, inputs, t, h, w) = np.random.default_rng(0), shape
    kernel = random.standard_normal(shape, np.float32)
    if pair:
        temporal = random.standard_normal((out * t, middle), np.float32)
        spatial = random.standard_normal((middle, inputs * h * w), np.float32)
        kernel = (temporal @ spatial).reshape(out, t, inputs, h, w).swapaxes(1, 2)
    held = 1.0 if pair else low_rank_energy(kernel, middle)
    return kernel_separability(kernel).mean(), filter_separability(kernel).mean(), held
