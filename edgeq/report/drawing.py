# SPDX-License-Identifier: Apache-2.0
"""Drawings as SVG, in a page that needs nothing else: no script, no font, nothing to fetch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
@page { size: A4 landscape; margin: 12mm; }
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5f6975; --line: #d7dde4; --paper:
  #ffffff; --tint: #f3f6f9; --one: #1668c4; --two: #c4560f; --three: #8794a3; --bad: #b3261e;
  --cut: #1668c422; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #9aa5b1; --line: #333c47;
  --paper: #14181d; --tint: #1c2229; --one: #5aa6f5; --two: #f0924f; --three: #7c8896; --bad:
  #ff8a80; --cut: #5aa6f533; } }
@media print { :root { --ink: #000000; --soft: #444444; --line: #bbbbbb; --paper: #ffffff; --tint:
  #ffffff; --one: #0b4f9e; --two: #b34700; --three: #777777; --bad: #a01010; --cut: #0b4f9e22; }
  body { max-width: none; margin: 0; } section, figure, tr, .card { break-inside: avoid; } h2 {
  break-after: avoid; } .wide { overflow: visible; } table { font-size: 8px; }
  td.n, th.n { white-space: normal !important; } }
* { box-sizing: border-box; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .4rem; }
p { margin: 0 0 .8rem; }
.soft { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .6rem;
  margin: 1rem 0; }
.tile, .card { border: 1px solid var(--line); border-radius: 6px; background: var(--tint);
  padding: .5rem .8rem; }
.tile b { display: block; font-size: 1.2rem; }
.tile span { color: var(--soft); font-size: .85rem; }
.card { margin: 0 0 .7rem; }
.card h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.card p { margin: .3rem 0 0; }
.card ul { margin: .3rem 0 .2rem; padding-left: 1.2rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1rem; }
figure { margin: 0; }
figcaption { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); stroke-width: 1; }
.axis { stroke: var(--soft); stroke-width: 1; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0
  .9em; }
.one { fill: var(--one); stroke: none; }
.two { fill: var(--two); stroke: none; }
.three { fill: var(--three); stroke: none; }
.line-one { fill: none; stroke: var(--one); stroke-width: 2; stroke-linejoin: round; }
.line-three { fill: none; stroke: var(--three); stroke-width: 1.5; stroke-linejoin: round; }
.cut { fill: var(--cut); }
.edge { stroke: var(--two); stroke-width: 1.5; stroke-dasharray: 4 3; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """One HTML document."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Numbers with what they are below them."""
    made = [
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in facts
    ]
    return f'<div class="tiles">{"".join(made)}</div>'


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int]) -> str:
    """`numbers`: columns aligned to the right."""
    right = set(numbers)

    def line(cells: Sequence[str], tag: str) -> str:
        made = [
            f"<{tag}{' class=n' if i in right else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table>\n<thead>{line(headers, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


class Frame:
    """Axes of a drawing: `x` and `y` take values to places in it."""

    def __init__(
        self,
        size: tuple[int, int],
        across: tuple[float, float],
        up: tuple[float, float],
        label: str,
        left: int = 40,
    ) -> None:
        self.width, self.height = size
        self.left, self.right, self.top, self.bottom = left, size[0] - 8, 8, size[1] - 22
        self.across, self.up = across, up
        self.parts = [
            f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(label)}">'
        ]

    def x(self, value: float) -> float:
        low, high = self.across
        return self.left + (value - low) / ((high - low) or 1) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.up
        share = min(max((value - low) / ((high - low) or 1), 0.0), 1.0)
        return self.bottom - share * (self.bottom - self.top)

    def grid(self, levels: Iterable[tuple[float, str]]) -> None:
        """Lines across, with what they stand for."""
        for value, text in levels:
            y = self.y(value)
            self.parts.append(
                f'<path class="grid" d="M{self.left} {y:.1f}H{self.right}"/>'
                f'<text x="{self.left - 5}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
            )

    def below(self, values: Iterable[tuple[float, str]]) -> None:
        """What is written below the drawing; the ends stay inside of it."""
        marks = list(values)
        for i, (value, text) in enumerate(marks):
            x = self.x(value)
            anchor = "middle"
            if i == 0 and x < self.left + 30:
                anchor = "start"
            elif i == len(marks) - 1 and x > self.right - 30:
                anchor = "end"
            self.parts.append(
                f'<text x="{x:.1f}" y="{self.height - 6}" text-anchor="{anchor}">'
                f"{escape(text)}</text>"
            )

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        if points:
            steps = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
            self.parts.append(f'<path class="{kind}" d="M{steps}"/>')

    def done(self) -> str:
        self.parts.append(f'<path class="axis" d="M{self.left} {self.bottom}H{self.right}"/></svg>')
        return "\n".join(self.parts)
