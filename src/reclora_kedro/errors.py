"""What errors name besides parameters, and checks that several packages share."""

from dataclasses import dataclass

from kedro_provenance.errors import Fault, Parameter, Phrase, Term


@dataclass(frozen=True)
class Table(Term):
    """A raw table, by its catalog entry."""

    in_run = "{name}"
    name: str


@dataclass(frozen=True)
class Column(Term):
    """A column of a raw table."""

    in_run = "Column {name!r} of {table}"
    name: str
    table: Table


@dataclass(frozen=True)
class NameColumn(Term):
    """Advice: name one of a table's columns in a parameter."""

    in_run = "set `{parameter}` to one of them"
    parameter: Parameter


@dataclass(frozen=True)
class NameIds(Term):
    """Advice: name the columns of users and items."""

    in_run = "name them user_id and item_id, or write the environment by hand, as docs/guides/swap-data.md tells"


@dataclass(frozen=True)
class GiveTable(Term):
    """Advice: give another table."""

    in_run = "point the catalog entry {table} at another table, by a dataset of polars or pandas"
    table: Table


@dataclass(frozen=True)
class Loading(Term):
    """Where a way in sets with what types a table is loaded."""

    in_run = ", by load_args of the catalog entry {table}"
    table: Table


def require_both_classes(likes: int, rows: int, subject: Term | str, advice: Phrase, least: int = 1) -> None:
    """Raise Fault with advice if a class of the labels of a subject has fewer than `least` rows."""
    if min(likes, rows - likes) < least:
        found = f"has {likes} of {rows} rows that are liked (label 1)"
        raise Fault(subject, found, f"expected at least {least} liked and {least} disliked", advice)
