# SPDX-License-Identifier: Apache-2.0
"""The options --threads and --affinity."""

from __future__ import annotations

import argparse
import os

from ..errors import ArgumentError, UnsupportedError
from ..runtime.model import Source, load
from ..runtime.session import Session


def add(parser: argparse.ArgumentParser) -> None:
    """Both options."""
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="0: all cores [EDGEQ_THREADS in the environment, 1]",
    )
    parser.add_argument(
        "--affinity", metavar="CPUS", help="bind the threads to CPUs, one each: 0,2 or 4-7"
    )


def session(options: argparse.Namespace, source: Source) -> Session:
    """A session of these options and add_model()'s; --affinity binds this thread too."""
    cpus = cpu_numbers(options.affinity) if options.affinity is not None else []
    made = load(source, options.threads, options.arithmetic, cpus)
    if cpus:
        if not hasattr(os, "sched_setaffinity"):
            raise UnsupportedError("threads cannot be bound to CPUs on this system")
        try:
            os.sched_setaffinity(0, {cpus[0]})
        except OSError:
            raise ArgumentError(f"--affinity: this process may not run on CPU {cpus[0]}") from None
    return made


def cpu_numbers(text: str) -> list[int]:
    """The numbers in "0,2,4-7", in that order."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) < 6 for end in ends):
            raise ArgumentError(f"--affinity takes CPU numbers such as 0,2 or 4-7, not {text!r}")
        numbers += range(int(first), int(ends[-1]) + 1)
    if not numbers:
        raise ArgumentError(f"--affinity takes CPU numbers such as 0,2 or 4-7, not {text!r}")
    return numbers
