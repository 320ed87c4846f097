# SPDX-License-Identifier: Apache-2.0
"""Tables, numbers and JSON for people and programs."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from ..runtime.model import TensorInfo


def table(rows: Iterable[Sequence[object]], headers: Sequence[str] = (), indent: str = "") -> str:
    """Columns two spaces apart; a column of numbers is aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    lines = [list(headers), *cells] if headers else cells
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(widths))]
    return "\n".join(
        (
            indent
            + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right))
        ).rstrip()
        for line in lines
    )


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] == "-" or cell == ""


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names of at most `width` characters, without the middle of long ones."""
    head = (width - 3) // 2
    return [n if len(n) <= width else f"{n[:head]}...{n[head + 3 - width :]}" for n in names]


def wrapped(sentence: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most `width` characters."""
    return textwrap.wrap(
        sentence,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )


_STYLES = {"bad": "bold red", "soft": "dim", "": ""}


def emphasised(lines: Iterable[tuple[str, str]]) -> None:
    """Prints lines that are "bad", "soft" or "": in colour on a terminal where rich is there."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        console = None
    else:
        console = Console() if sys.stdout.isatty() else None
    for line, emphasis in lines:
        if console is None:
            print(line)
        else:
            console.print(Text(line, _STYLES[emphasis]), soft_wrap=True)


def count(number: float) -> str:
    """1234567 -> "1,234,567"."""
    return f"{number:,.0f}"


def short(number: float) -> str:
    """1234567 -> "1.23 M"."""
    return _scaled(number, ((1e9, "G"), (1e6, "M"), (1e3, "k"))) or f"{number:.3g}"


def duration(nanoseconds: float) -> str:
    """1234567 -> "1.23 ms"."""
    scaled = _scaled(nanoseconds, ((1e9, "s"), (1e6, "ms"), (1e3, "us")))
    return scaled or f"{nanoseconds:.0f} ns"


def _scaled(number: float, units: Sequence[tuple[float, str]]) -> str:
    """Three digits and the unit, "" below all of them."""
    for limit, unit in units:
        if number >= 0.9995 * limit:
            return f"{number / limit:.3g} {unit}"
    return ""


def shape(dims: Sequence[int]) -> str:
    """(1, 8, 8, 1) -> "1x8x8x1"."""
    return "x".join(map(str, dims)) or "scalar"


def tensor_row(role: str, t: TensorInfo) -> tuple[str, ...]:
    """A row of TENSOR_HEADERS."""
    quantized = (f"{t.scale:.6g}", str(t.zero_point)) if t.scale else ("-", "-")
    return role, t.name, str(t.dtype), shape(t.shape), *quantized


TENSOR_HEADERS = ("", "name", "dtype", "shape", "scale", "zero point")


def tensor_json(t: TensorInfo) -> dict[str, Any]:
    """A tensor as JSON has it."""
    return {
        "name": t.name,
        "dtype": str(t.dtype),
        "shape": list(t.shape),
        "scale": t.scale,
        "zero_point": t.zero_point,
    }


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
