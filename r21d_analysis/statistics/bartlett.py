"""Bartlett's test of equal variances. A page of results makes a thousand, which take SciPy twenty times as long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc


def bartlett_p(samples: Sequence[np.ndarray]) -> float:
    """The p-value that the variances of two or more `samples`, (n,) each, are equal, as `scipy.stats.bartlett` has it.

    Each sample has two values or more that differ.
    """
    df = np.array([len(values) - 1 for values in samples])
    variances = np.array([values.var(ddof=1) for values in samples])
    total, tests = df.sum(), len(samples) - 1
    spread = total * np.log(df @ variances / total) - df @ np.log(variances)
    return float(chdtrc(tests, spread / (1 + ((1 / df).sum() - 1 / total) / (3 * tests))))
