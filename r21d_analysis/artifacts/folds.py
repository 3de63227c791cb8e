"""Networks over the folds of a data set that are tested together, such as MIRACL-VC1's five folds by speaker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from r21d_analysis.artifacts.networks import RGB, difference, networks
from r21d_analysis.statistics.inference import Estimate, holm
from r21d_core import R21DError
from r21d_core.runs.run import Run

BASELINE = "R(2+1)D"


def fold_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each network, the best first: accuracies in per cent, means over folds, and the difference to R(2+1)D.

    Intervals and p are clustered by group, the speaker of MIRACL-VC1; the p-values of all networks are one family.
    `training error` is that of the last epoch. Raises R21DError without R(2+1)D and for different test videos.
    """
    rows = [network for network in networks(runs)[0] if network.stream == RGB]
    rows.sort(key=lambda network: -network.video_at(1))
    baseline = next((network for network in rows if network.spec.variant == BASELINE), None)
    if baseline is None:
        raise R21DError(f"no finished run of {BASELINE}, which the other networks are compared with; train it first")
    others = [network for network in rows if network is not baseline]
    gaps: dict[str, Estimate] = {network.spec.variant: difference(network, baseline) for network in others}
    p = dict(zip(gaps, holm([gap.p for gap in gaps.values()]), strict=True))
    records = []
    for network in rows:
        name, accuracy = network.spec.variant, network.accuracy
        errors = [run.history[-1]["train_error"] for group in network.splits.values() for run in group.runs]
        gap = gaps.get(name)
        records.append(
            {"network": name, "clip@1": network.clip_at_1, "video@1": accuracy.value, "low": accuracy.low,
             "high": accuracy.high, "training error": 100 * float(np.mean(errors)), "folds": len(network.splits),
             "seeds": accuracy.seeds, "groups": accuracy.recordings}
            | {"minus R(2+1)D": gap.value if gap else np.nan, "gap low": gap.low if gap else np.nan,
               "gap high": gap.high if gap else np.nan, "p, Holm": p.get(name, np.nan)}
        )  # fmt: skip
    return pd.DataFrame(records)
