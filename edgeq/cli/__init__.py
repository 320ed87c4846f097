# SPDX-License-Identifier: Apache-2.0
"""The command line: one module a command, each with add(parser) and run(arguments)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import EdgeqError
from ..runtime._core import version
from . import bench, compare, convert, doctor, evaluate, inspect, ops, run, verify

COMMANDS = {
    "convert": convert,
    "run": run,
    "inspect": inspect,
    "verify": verify,
    "bench": bench,
    "eval": evaluate,
    "compare": compare,
    "ops": ops,
    "doctor": doctor,
}


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="edgeq",
        description="Quantized neural networks in integers, the same bytes on every machine.",
        epilog="edgeq COMMAND --help has the options and examples of a command",
    )
    top.add_argument("--version", action="version", version=f"edgeq {version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary, _, examples = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=examples.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add(command)
        command.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0, or 1 with one message on stderr, 2 for wrong usage, 130 for Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (EdgeqError, OSError) as error:
        print(f"edgeq: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
