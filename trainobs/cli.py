"""The command line: ``python -m trainobs demo``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import trainobs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name. Default: `sys.argv`.
    """
    parser = argparse.ArgumentParser(prog="trainobs", description="Why is this gradient zero?")
    parser.add_argument("--version", action="version", version=f"trainobs {trainobs.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train on real digits with a planted fault, and explain it")
    demo.add_argument(
        "--out", type=Path, default=Path("trainobs-demo"), help="folder for the report and pictures"
    )
    options = parser.parse_args(arguments)
    from trainobs.demo import run_demo

    run_demo(options.out)
    return 0
