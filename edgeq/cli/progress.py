# SPDX-License-Identifier: Apache-2.0
"""How far a command is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from ..converter import Progress


@contextlib.contextmanager
def bar(wanted: bool) -> Iterator[Progress | None]:
    """A bar where rich is installed and stderr is a terminal, else nothing."""
    made = _rich_bar() if wanted and sys.stderr.isatty() else None
    if made is None:
        yield None
        return
    start, advance, stop = made
    start()
    try:
        yield advance
    finally:
        stop()


def _rich_bar() -> tuple[Callable[[], None], Progress, Callable[[], None]] | None:
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    shown = Bar(console=Console(stderr=True), transient=True)
    task = shown.add_task("", total=1.0)

    def advance(step: str, fraction: float) -> None:
        shown.update(task, description=step, completed=fraction)

    return shown.start, advance, shown.stop
