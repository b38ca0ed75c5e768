"""Tables and text on the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

Columns = Mapping[str, tuple[Any, ...]]  # by heading: the formatter of a cell, and the fields of a record that it takes

EXPLANATION = "what it is"  # a column that gives way on narrow terminals, so that names stay whole
LEAST_ROOM = 14  # characters below which it is left out


def text_table(title: str, records: Iterable[Mapping[str, Any]], texts: Columns, numbers: Columns) -> Table:
    """Tabulate records; text columns fold, number columns do not, and a narrow terminal leaves explanations out.

    Examples:
        >>> table = text_table("Users", [{"name": "Ann", "age": 7}], {"who": (str, "name")}, {"age": (str, "age")})
        >>> [column.header for column in table.columns], table.row_count
        (['who', 'age'], 1)
    """
    columns, explained = {**texts, **numbers}, EXPLANATION in texts
    rows = [
        [render(*(record[field] for field in fields)) for render, *fields in columns.values()] for record in records
    ]
    if explained:
        place = [*columns].index(EXPLANATION)
        widths = [max(map(len, "\n".join(cells).split("\n"))) for cells in zip(columns, *rows, strict=True)]
        if Console().width - sum(widths) + widths[place] - 3 * len(columns) - 1 < LEAST_ROOM:
            del columns[EXPLANATION]
            rows = [[*row[:place], *row[place + 1 :]] for row in rows]
    table = Table(title=title)
    for heading in columns:
        keeps = heading in numbers or (explained and heading != EXPLANATION)
        table.add_column(heading, justify="left" if heading in texts else "right", overflow="fold", no_wrap=keeps)
    for row in rows:
        table.add_row(*row)
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
