"""What errors name besides parameters, and checks that several packages share."""

from dataclasses import dataclass

from kedro_provenance.errors import Fault, Parameter, Phrase, Term


@dataclass(frozen=True)
class Table(Term):
    """A raw table, by its catalog entry."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Column(Term):
    """A column of a raw table."""

    name: str
    table: Table

    def __str__(self) -> str:
        return f"Column {self.name!r} of {self.table}"


@dataclass(frozen=True)
class NameColumn(Term):
    """Advice: name one of a table's columns in a parameter."""

    parameter: Parameter

    def __str__(self) -> str:
        return f"set `{self.parameter}` to one of them"


@dataclass(frozen=True)
class NameIds(Term):
    """Advice: name the columns of users and items."""

    def __str__(self) -> str:
        return "name them user_id and item_id, or write the environment by hand, as docs/guides/swap-data.md tells"


@dataclass(frozen=True)
class GiveTable(Term):
    """Advice: give another table."""

    table: Table

    def __str__(self) -> str:
        return f"point the catalog entry {self.table} at another table, by a dataset of polars or pandas"


@dataclass(frozen=True)
class Loading(Term):
    """Where a way in sets with what types a table is loaded."""

    table: Table

    def __str__(self) -> str:
        return f", by load_args of the catalog entry {self.table}"


def require_both_classes(likes: int, rows: int, subject: Term | str, advice: Phrase, least: int = 1) -> None:
    """Raise Fault with advice if a class of the labels of a subject has fewer than `least` rows."""
    if min(likes, rows - likes) < least:
        found = f"has {likes} of {rows} rows that are liked (label 1)"
        raise Fault(subject, found, f"expected at least {least} liked and {least} disliked", advice)
