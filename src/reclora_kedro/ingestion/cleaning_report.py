"""Counts of rows that a cleaning read, dropped, changed and kept."""

from collections import Counter
from typing import TypedDict


class CheckedRows(TypedDict):
    """The number of rows that a check met, and what became of them."""

    check: str
    rows: int
    rule: str


class CleaningReport:
    """Counts of rows by check and rule, in the order in which the checks were first recorded.

    Examples:
        >>> report = CleaningReport()
        >>> report.record("missing rating", 2)
        >>> report.record("missing rating", 1)
        >>> report.records()
        [{'check': 'missing rating', 'rows': 3, 'rule': 'dropped'}]
    """

    def __init__(self) -> None:
        self._rows = Counter[tuple[str, str]]()

    def record(self, check: str, rows: int, rule: str = "dropped") -> None:
        self._rows[check, rule] += rows

    def rows(self, check: str) -> int:
        return self._rows[check, "dropped"]

    def add(self, other: "CleaningReport") -> None:
        for (check, rule), rows in other._rows.items():
            self.record(check, rows, rule)

    def records(self) -> list[CheckedRows]:
        return [{"check": check, "rows": rows, "rule": rule} for (check, rule), rows in self._rows.items()]
