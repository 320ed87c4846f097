# SPDX-License-Identifier: Apache-2.0
"""The memory plan of a file as a drawing: time goes down, addresses go to the right.

     step  op                    0                32.8 KB               65.5 KB      live
        0  (inputs)              [in##]                                             3,072
        1  CONV_2D               [in--][1######################]                   19,456

A block bears the number of the step that writes it.
"""

from __future__ import annotations

from .image import Image, Tensor

LEGEND = "# written in this step   % written over an input   - kept"
_MIN_MAP = 24
_SUFFIX = 12  # two spaces and the live bytes


def summary(image: Image) -> str:
    """One line: the arena's size, what it could be at least, and when it is full."""
    p = image.plan
    bound = f"{p.lower_bound:,} bytes of it" if p.lower_bound < p.arena_size else "all of it"
    return f"arena {p.arena_size:,} bytes, {bound} in use at step {p.peak_step} {_at(image)}"


def memory_map(image: Image, width: int = 100, max_rows: int = 64) -> str:
    """The drawing, at most `width` columns wide, and summary() below it.

    Where there are more steps than `max_rows`, a row stands for several and shows the fullest.
    """
    p = image.plan
    name_width = max([len("(outputs)"), *(len(op.opcode) for op in image.ops)])
    prefix = f"{{:>9}}  {{:<{name_width}}}  "
    columns = max(width - len(prefix.format("", "")) - _SUFFIX, _MIN_MAP)
    axis = _axis(p.arena_size, columns)
    lines = [f"{prefix.format('step', 'op')}{axis}  {'live':>10}"]
    inplace = {image.ops[op].output for op, _ in p.inplace}
    owners = [t for t in image.tensors if t.in_arena]
    group = -(-len(p.live) // max_rows)
    for start in range(0, len(p.live), group):
        steps = range(start, min(start + group, len(p.live)))
        fullest = max(steps, key=lambda s: p.live[s])
        blocks = [t for t in owners if t.first_step <= fullest <= t.last_step]
        drawn = _row(blocks, fullest, inplace, p.arena_size, columns)
        label = f"{steps[0]}-{steps[-1]}" if len(steps) > 1 else str(fullest)
        head = prefix.format(label, _step_name(image, fullest))
        lines.append(f"{head}{drawn}  {p.live[fullest]:>10,}")
    return "\n".join([*lines, LEGEND, summary(image)])


def _row(blocks: list[Tensor], step: int, inplace: set[int], arena: int, columns: int) -> str:
    """The arena at one step; small blocks are drawn over large ones so that all can be seen."""
    cells = [" "] * columns
    # An output in place has the size of the input below it and must be drawn after it.
    for t in sorted(blocks, key=lambda t: (-t.nbytes, t.first_step)):
        start = min(t.offset * columns // arena, columns - 1)
        end = max((t.offset + t.nbytes) * columns // arena, start + 1)
        fill = "-" if t.first_step < step else "%" if t.index in inplace else "#"
        cells[start:end] = _block(str(t.first_step or "in"), fill, end - start)
    return "".join(cells)


def _block(label: str, fill: str, width: int) -> str:
    """`[12####]`, without the label where that has no room."""
    if width < 3:
        return "[]" if width == 2 else "|"
    inner = label if len(label) <= width - 2 else ""
    return f"[{inner.ljust(width - 2, fill)}]"


def _axis(arena: int, columns: int) -> str:
    """Addresses above the columns where they are: 0, the middle, the end."""
    middle, end = _size(arena // 2), _size(arena)
    line = "0".ljust(columns // 2) + middle
    if len(line) + len(end) + 2 > columns:
        line = "0"
    return line + end.rjust(columns - len(line))


def _size(size: int) -> str:
    for unit, name in ((1_000_000, "MB"), (1_000, "KB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def _step_name(image: Image, step: int) -> str:
    if step == 0:
        return "(inputs)"
    return image.ops[step - 1].opcode if step <= len(image.ops) else "(outputs)"


def _at(image: Image) -> str:
    step = image.plan.peak_step
    named = 0 < step <= len(image.ops) and image.ops[step - 1].name
    return _step_name(image, step) + (f" {image.ops[step - 1].name!r}" if named else "")
