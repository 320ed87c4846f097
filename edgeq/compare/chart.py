# SPDX-License-Identifier: Apache-2.0
"""A bar chart of a race: one HTML file with its drawing inside, no script, nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .race import Lane

_WIDTH, _LABEL, _VALUE, _BAR, _GAP = 860, 190, 190, 30, 14

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --soft: #66707d; --own: #1668c4; --peer: #9aa7b5;
  --paper: #ffffff; --tick: #1c2430; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8ecf1; --soft: #9aa5b1; --own: #4d9cf2;
  --peer: #5c6875; --paper: #14181d; --tick: #e8ecf1; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: {width}px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; margin: 0 0 .2rem; }}
p {{ color: var(--soft); margin: 0 0 1.2rem; }}
svg {{ width: 100%; height: auto; }}
text {{ fill: var(--ink); font: 15px system-ui, sans-serif; }}
.soft {{ fill: var(--soft); font-size: 13px; }}
.own {{ fill: var(--own); }} .peer {{ fill: var(--peer); }}
.tick {{ stroke: var(--tick); stroke-width: 2; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
{drawing}
<p>{notes}</p>
</body>
</html>
"""


def page(title: str, subtitle: str, lanes: Sequence[Lane]) -> str:
    """Bars of the best single runs, fastest first; a tick where the median is."""
    timed = sorted((lane for lane in lanes if lane.minima), key=lambda lane: lane.minimum)
    notes = ["Bars: the best single runs, and how many times the fastest they are. Ticks: medians."]
    notes += [f"{lane.name}: {lane.problem}" for lane in lanes if lane.problem]
    return _PAGE.format(
        title=escape(title),
        subtitle=escape(subtitle),
        width=_WIDTH,
        drawing=_drawing(title, timed),
        notes="<br>".join(map(escape, notes)),
    )


def _drawing(title: str, lanes: Sequence[Lane]) -> str:
    height = len(lanes) * (_BAR + _GAP) + _GAP
    longest = max((lane.median for lane in lanes), default=1)
    scale = (_WIDTH - _LABEL - _VALUE) / longest
    best = lanes[0].minimum if lanes else 1
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
    ]
    for i, lane in enumerate(lanes):
        y = _GAP + i * (_BAR + _GAP)
        kind = "own" if lane.name == "edgeq" else "peer"
        tick = _LABEL + lane.median * scale
        middle = y + _BAR * 0.66
        parts += [
            f'<text x="0" y="{middle:.1f}">{escape(lane.name)} '
            f'<tspan class="soft">{escape(lane.version)}</tspan></text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{lane.minimum * scale:.1f}" '
            f'height="{_BAR}" rx="3"/>',
            f'<path class="tick" d="M{tick:.1f} {y - 3}V{y + _BAR + 3}"/>',
            f'<text x="{tick + 10:.1f}" y="{middle:.1f}">{lane.minimum / 1e6:.4g} ms '
            f'<tspan class="soft">{lane.minimum / best:.2f} x</tspan></text>',
        ]
    return "\n".join([*parts, "</svg>"])
