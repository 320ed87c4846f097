# SPDX-License-Identifier: Apache-2.0
"""Check that this machine gives the bytes that the file says it must.

Runs the golden cases in the file and compares the SHA-256 of the outputs. Exit code 1 if one
differs, or if the file has none.

examples:
  edgeq verify model.eqm
  edgeq verify model.eqm --json
"""

from __future__ import annotations

import argparse
import sys

from ..errors import VerifyError
from ..runtime.model import load
from . import text
from .network import add_model


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Runs every golden case."""
    session = load(options.model, arithmetic=options.arithmetic)
    problem = ""
    try:
        cases = session.verify()
        if not cases:
            problem = "the file has no golden cases"
    except VerifyError as error:
        cases, problem = session.model.golden_count, str(error)
    isa = session.model.isa
    if options.json:
        text.print_json({"ok": not problem, "cases": cases, "isa": isa, "problem": problem})
    elif problem:
        print(f"edgeq: {options.model}: {problem}", file=sys.stderr)
    else:
        print(f"{options.model}: {cases} golden cases, all equal ({isa} kernels)")
    return 1 if problem else 0
