"""A console on which texts of other users cannot control the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hypervisor.cli.core.terminal_text import without_controls


class SafeConsole(Console):
    """Shows the control characters in texts, such as the name of a command that was not found.

    The console's own colours are not in the texts.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(without_controls(segment.text), segment.style)
