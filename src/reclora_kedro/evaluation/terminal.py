"""What people read on the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

Columns = Mapping[str, tuple[Any, ...]]  # by heading, what writes a cell, and the fields of a record that it writes


def text_table(title: str, records: Iterable[Mapping[str, Any]], texts: Columns, numbers: Columns) -> Table:
    """A table of records, whose texts fold and whose numbers do not: it fits a terminal of 80 columns or more.

    Examples:
        >>> table = text_table("Users", [{"name": "Ann", "age": 7}], {"who": (str, "name")}, {"age": (str, "age")})
        >>> [column.header for column in table.columns], table.row_count
        (['who', 'age'], 1)
    """
    table = Table(title=title)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        columns = (*texts.values(), *numbers.values())
        table.add_row(*(write(*(record[field] for field in fields)) for write, *fields in columns))
    return table


def show(results: RenderableType) -> None:
    """Print results, every text in them as it is: titles and names hold square brackets and colons of their own.

    Examples:
        >>> show("[bold]Heat[/] [/] :smile:")
        [bold]Heat[/] [/] :smile:
    """
    Console(markup=False, emoji=False).print(results)
