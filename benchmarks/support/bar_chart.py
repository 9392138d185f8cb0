"""A bar chart as an SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

_WIDTH, _LABELS, _FIGURES, _TOP, _ROW = 640, 190, 90, 40, 28
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2937 }
.title { font-weight: 600 }
.bar { fill: #2563eb }
rect.page { fill: #ffffff }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a chart; the value must not be negative."""

    label: str
    value: float


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A chart with one horizontal bar per row, from 0, and its value."""
    height = _TOP + _ROW * len(rows) + 12
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=str(_WIDTH),
        height=str(height),
        role="img",
    )
    SubElement(svg, "title").text = title
    SubElement(svg, "style").text = _STYLE
    SubElement(svg, "rect", {"class": "page", "width": "100%", "height": "100%"})
    _text(svg, 12, 24, title, "title")
    highest = max((row.value for row in rows), default=0.0) or 1.0
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        wide = (_WIDTH - _LABELS - _FIGURES) * row.value / highest
        _text(svg, _LABELS - 10, top + 17, row.label, "label", anchor="end")
        shape = {"x": str(_LABELS), "y": str(top + 3), "width": f"{max(wide, 1.0):.1f}", "height": "20"}
        SubElement(svg, "rect", {"class": "bar", **shape})
        _text(svg, _LABELS + wide + 8, top + 17, f"{row.value:,.6g}", "figure")
    return tostring(svg, encoding="unicode") + "\n"


def _text(parent: Element, x: float, y: float, content: str, style: str, anchor: str = "start") -> None:
    at = {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    SubElement(parent, "text", at).text = content
