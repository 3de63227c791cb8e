"""Draws the reports and the README's pictures anew from the records in results/: `make reports`, a minute, no GPU."""

from pathlib import Path

import papermill

from r21d_core.engine.launch import find_all
from r21d_core.results import figures
from r21d_core.study.experiments import variant_comparison

HERE = Path(__file__).parent
FOUR = "f-R2D, R3D, MC3, R(2+1)D"
SMALL = {"profile": "small", "manifest": "../data_manifests/ucf101-14-split1.csv", "runs": "../results/small"}
REPORTS = {
    "variant_comparison-demo": {"runs": "../results/demo"},
    "variant_comparison-small-action": SMALL | {"variants": FOUR, "seeds": "0, 1"},
    "variant_comparison-small-speed": SMALL | {"variants": FOUR, "seeds": "0, 1", "task": "speed"},
}


def main() -> None:
    for name, parameters in REPORTS.items():
        notebook = HERE.parent / "notebooks" / f"{name.split('-')[0]}.ipynb"
        papermill.execute_notebook(
            notebook,
            HERE / f"{name}.ipynb",
            parameters | {"train": False},
            cwd=HERE.parent / "notebooks",
            progress_bar=False,
        )
    demo = find_all(variant_comparison("demo"), HERE.parent / "results" / "demo")
    figures.family_bars(demo).savefig(HERE / "what-each-network-sees.png", dpi=110)


if __name__ == "__main__":
    main()
