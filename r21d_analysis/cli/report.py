"""`r21d report`: execute the notebooks and collect them on one page."""

from pathlib import Path

from r21d_core.cli.options import SEEDS, add_command
from r21d_core.study.recipes import RECIPES


def add_parser(subparsers) -> None:
    parser = add_command(
        subparsers, "report", "execute the notebooks on the records in results/ for one page, and write docs/results.md"
    )
    add = parser.add_argument
    add("--out", type=Path, help="folder of notebooks and page; default reports, with --runs: RUNS/reports")
    trains = "missing runs are trained first; `r21d train all --dry-run` prints their cost"
    add("--runs", type=Path, help=f"use the runs in this folder; {trains}")
    add("--profile", choices=RECIPES, default="demo", help="with --runs: their profile; default demo")
    add("--manifest", type=Path, help="with --runs: their CSV file; default: the built-in videos")
    add("--seeds", **SEEDS)


def run(options) -> None:
    from r21d_analysis.report import make_report, run_suite
    from r21d_analysis.results_page import write_results

    if options.runs:
        out, seeds = options.out or options.runs / "reports", ",".join(map(str, options.seeds))
        page = run_suite(out, options.runs, options.profile, options.manifest, seeds)
    else:
        page = make_report(options.out or "reports")
        print(f"results: {write_results()}")
    print(f"report: {page}")
