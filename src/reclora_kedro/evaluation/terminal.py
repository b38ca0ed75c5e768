"""What people read on the terminal."""

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table


def empty_table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table without rows, whose texts fold and whose numbers do not: it fits a terminal of 80 columns or more.

    Args:
        title: what stands above it.
        texts: headings of the columns of texts, which come first.
        numbers: headings of the columns of numbers.
    """
    table = Table(title=title)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def show(results: RenderableType) -> None:
    """Print results, every text in them as it is: titles and names hold square brackets and colons of their own.

    Examples:
        >>> show("[bold]Heat[/] [/] :smile:")
        [bold]Heat[/] [/] :smile:
    """
    Console(markup=False, emoji=False).print(results)
