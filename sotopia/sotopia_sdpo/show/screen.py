"""Write for people's eyes: wrapped to the terminal, 80 columns where there is none, coloured only on a screen.

Comes in: texts of models and files. Goes out: lines on stdout. Invariant: nothing that was said can move the cursor,
turn the direction of writing, or stand on the line of something else; NO_COLOR and pipes get plain text.
"""

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from sotopia_sdpo.text import LINE_BREAK, one_line, printable


BOLD, DIM, PLAIN = Style(bold=True), Style(dim=True), Style()
MOST_NAME = 60


class Screen:
    """The terminal, or what stdout is instead."""

    def __init__(self) -> None:
        """Take stdout as it is now."""
        self._console = Console(highlight=False, markup=False, emoji=False)

    def line(self, text: str = "", style: Style = PLAIN) -> None:
        """Write one line; a long one is wrapped."""
        self._console.print(Text(printable(LINE_BREAK.sub(" ", text)), style), overflow="fold")

    def block(self, text: str, indent: int = 2, style: Style = PLAIN) -> None:
        """Write a text, its line breaks kept, with a margin on its left."""
        shown = Text(printable(text.strip("\n")), style, overflow="fold")
        self._console.print(Padding(shown, (0, 0, 0, indent), expand=False))

    def grid(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Write rows of a name, a number and a text, which is wrapped beside them."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(max_width=18, overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold", ratio=1)
        for row in rows:
            table.add_row(*map(Text, map(printable, row)))
        self._console.print(Padding(table, (0, 0, 0, 2), expand=False))


def name(text: str) -> str:
    """Return a name as one line of bounded length."""
    return one_line(text, MOST_NAME)
