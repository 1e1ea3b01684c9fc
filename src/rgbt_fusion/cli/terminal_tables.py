"""Tables on a terminal: numbers to the right, and no line cut short."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as Drawn

    from rgbt_fusion.files.table import Table

__all__ = ["drawn_numbers", "print_whole"]


def drawn_numbers(title: str, table: "Table", *, digits: int | None = None) -> "Drawn":
    """Return a table whose first column is names and whose others are numbers, the best in bold.

    Args:
        title: what stands above it.
        table: what it shows.
        digits: decimals of numbers, as :func:`~rgbt_fusion.files.table.to_cells` takes them.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table as Drawn

    from rgbt_fusion.files.table import best_cells, to_cells

    header, *rows = to_cells(table, digits=digits)
    drawn = Drawn(
        title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    first, *others = header
    drawn.add_column(escape(first), justify="left", no_wrap=True)
    for name in others:
        drawn.add_column(escape(name), justify="right")
    for row, is_best in zip(rows, best_cells(table)[1:], strict=True):
        texts = []
        for text, best in zip(row, is_best, strict=True):
            text = escape(text)
            texts.append(f"[bold]{text}[/bold]" if best else text)
        drawn.add_row(*texts)
    return drawn


def print_whole(table: "Drawn") -> None:
    """Print a table as wide as it is: a line too long is better than one cut short."""
    from rich.console import Console

    needed = Console(width=10_000).measure(table).maximum
    Console(highlight=False, width=max(needed, Console().width)).print(table)
