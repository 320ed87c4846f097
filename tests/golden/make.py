# SPDX-License-Identifier: Apache-2.0
"""Makes the .eqm files beside this script: python tests/golden/make.py

Here are small good files, in bad/ files that are wrong in one way each. bad/index.json says for
each of them the C library's status ("" where it does not look), and parts of the sentences that the
library ("core") and edgeq.format.reader ("reader") give; null where one of them does not look.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from eqm_damage import HEADER, SECTIONS, STRINGS, TENSORS, Case  # noqa: E402
from eqm_damage_ops import CASES  # noqa: E402
from eqm_damage_picture import PICTURES  # noqa: E402
from eqm_damage_program import OPS, PLAN, PORTS, REFS  # noqa: E402
from eqm_damage_whole import CASES as WHOLE  # noqa: E402
from eqm_damage_words import CASES as WORDS  # noqa: E402
from eqm_editor import Editor  # noqa: E402
from eqm_evaluate import golden_case  # noqa: E402
from eqm_programs import PROGRAMS  # noqa: E402

from edgeq.format.golden import SEEDS  # noqa: E402
from edgeq.format.writer import write_program  # noqa: E402

BAD: list[Case] = [
    *HEADER,
    *SECTIONS,
    *STRINGS,
    *TENSORS,
    *OPS,
    *PLAN,
    *PORTS,
    *REFS,
    *CASES,
    *PICTURES,
    *WORDS,
    *WHOLE,
]


def files() -> dict[str, bytes]:
    """Every file, by its path below this folder."""
    made = {}
    for name, build in PROGRAMS.items():
        program = build()
        made[f"{name}.eqm"] = write_program(program, [golden_case(program, s) for s in SEEDS])
    index = {}
    for case in BAD:
        editor = Editor(made[f"{case.base}.eqm"])
        case.edit(editor)
        made[f"bad/{case.name}.eqm"] = editor.build()
        expected = {"status": case.status, "core": case.core, "reader": case.reader}
        assert f"{case.name}.eqm" not in index, f"two cases are called {case.name}"
        index[f"{case.name}.eqm"] = expected
    made["bad/index.json"] = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    return made


def main() -> None:
    made = files()
    (HERE / "bad").mkdir(exist_ok=True)
    for old in [*HERE.glob("*.eqm"), *HERE.glob("bad/*")]:
        if old.relative_to(HERE).as_posix() not in made:
            old.unlink()
    for name, data in made.items():
        (HERE / name).write_bytes(data)
    print(f"{len(made)} files, {sum(map(len, made.values())):,} bytes")


if __name__ == "__main__":
    main()
