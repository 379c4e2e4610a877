"""`glam report`: a run as one HTML page."""

import argparse
from pathlib import Path

from moegen.cli.program import DONE, Subparsers, add_command, log


def register(subparsers: Subparsers) -> None:
    """Add the command `report`."""
    parser = add_command(
        subparsers,
        "report",
        "write the curves of a training run as one HTML page",
        "glam report runs/tiny --html tiny.html",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of the run")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="the page (default: RUN/report.html)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    from glam.train.page import write_page

    page = arguments.html or arguments.run / "report.html"
    write_page(arguments.run, page)
    log(f"wrote {page}")
    return DONE
