# SPDX-License-Identifier: Apache-2.0
"""How many threads a session gets, and on which CPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import ArgumentError

MOST_THREADS = 64  # EQ_THREADS_MAX


def default_threads() -> int:
    """The number in the environment variable EDGEQ_THREADS (0: all usable cores), else 1."""
    text = os.environ.get("EDGEQ_THREADS", "").strip()
    if not text:
        return 1
    if not (text.isascii() and text.isdigit()) or int(text) > MOST_THREADS:
        raise ArgumentError(
            f"the environment's EDGEQ_THREADS must be a number from 0 to {MOST_THREADS}, "
            f"not {text!r}"
        )
    return int(text)


def usable_cores() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """`threads` as a number of at least 1: None is default_threads(), 0 all usable cores."""
    if threads is None:
        threads = default_threads()
    if (
        isinstance(threads, bool)
        or not isinstance(threads, int)
        or not 0 <= threads <= MOST_THREADS
    ):
        raise ArgumentError(
            f"threads must be an int from 1 to {MOST_THREADS}, or 0 for all cores, not {threads!r}"
        )
    return threads or min(usable_cores(), MOST_THREADS)


def cpu_list(affinity: Sequence[int]) -> tuple[int, ...]:
    """The CPU numbers in `affinity`, checked; whether the machine has them is for C to say."""
    if isinstance(affinity, (str, bytes)) or not isinstance(affinity, (Sequence, set, frozenset)):
        raise ArgumentError(f"affinity must be a list of CPU numbers, not {affinity!r}")
    cpus = tuple(sorted(affinity)) if isinstance(affinity, (set, frozenset)) else tuple(affinity)
    for cpu in cpus:
        if isinstance(cpu, bool) or not isinstance(cpu, int) or not 0 <= cpu < 1 << 16:
            raise ArgumentError(f"affinity must be a list of CPU numbers, not {affinity!r}")
    return cpus
