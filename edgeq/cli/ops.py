# SPDX-License-Identifier: Apache-2.0
"""List the operators that edgeq runs, and on which types.

examples:
  edgeq ops
  edgeq ops --json

The text is that of docs/OPS.md.
"""

from __future__ import annotations

import argparse
import dataclasses

from ..operators import markdown, operators
from . import text


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    found = operators()
    if options.json:
        text.print_json(dataclasses.asdict(found))
    else:
        print(markdown(found), end="")
    return 0
