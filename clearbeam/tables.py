"""A table of text, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table as RichTable

Justify = Literal["left", "right"]


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of cells, all text; the note, if any, goes below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def to_rich(self) -> RichTable:
        """The table for `rich.console.Console.print`: first column left, numbers right."""
        table = RichTable(title=self.title, caption=self.note or None, title_justify="left")
        for name, justify in zip(self.header, self._justify(), strict=True):
            # Names may fold; a number broken over two lines could be read as two.
            table.add_column(name, justify=justify, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """The table as GitHub-flavoured Markdown, its title as a bold line."""
        rule = ["--:" if j == "right" else "---" for j in self._justify()]
        lines = ["| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows)]
        below = ["", self.note] if self.note else []
        return "\n".join([f"**{self.title}**", "", *lines, *below])

    def _justify(self) -> list[Justify]:
        """Left for names, right for what comes after "system": the numbers."""
        last_name = list(self.header).index("system") if "system" in self.header else 0
        return ["left" if i <= last_name else "right" for i in range(len(self.header))]
