"""Tables and text on the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

Columns = Mapping[str, tuple[Any, ...]]  # by heading: the formatter of a cell, and the fields of a record that it takes


def text_table(title: str, records: Iterable[Mapping[str, Any]], texts: Columns, numbers: Columns) -> Table:
    """Tabulate records for a terminal of at least 80 columns; text columns fold, number columns do not.

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
        table.add_row(*(render(*(record[field] for field in fields)) for render, *fields in columns))
    return table


def cleaning_table(title: str, records: Iterable[Mapping[str, Any]]) -> Table:
    """Tabulate the records of a `CleaningReport`, without checks that met no row."""
    rows = [record | {"rows": f"{record['rows']:,}"} for record in map(dict, records) if record["rows"]]
    return text_table(title, rows, {"check": (str, "check"), "rule": (str, "rule")}, {"rows": (str, "rows")})


def show(results: RenderableType) -> None:
    """Print results verbatim: titles and names may hold brackets and colons that rich would interpret.

    Examples:
        >>> show("[bold]Heat[/] [/] :smile:")
        [bold]Heat[/] [/] :smile:
    """
    # lines of text, such as paths, are not broken: the terminal does that, and they can be copied whole
    Console(markup=False, emoji=False).print(results, soft_wrap=isinstance(results, str))
