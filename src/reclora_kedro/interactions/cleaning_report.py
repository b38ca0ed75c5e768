"""The account of a cleaning: how many rows came in, were dropped or changed, and were kept."""

from collections import Counter
from typing import Any


class CleaningReport:
    """Rows by check and rule, in the order in which the checks were first recorded.

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
        """Count rows that meet a check, beside those that were counted before."""
        self._rows[check, rule] += rows

    def rows(self, check: str) -> int:
        """How many rows a check has dropped."""
        return self._rows[check, "dropped"]

    def add(self, other: "CleaningReport") -> None:
        """Count what another report holds, such as that of a part of a log."""
        for (check, rule), rows in other._rows.items():
            self.record(check, rows, rule)

    def records(self) -> list[dict[str, Any]]:
        """One record of check, rows and rule per check."""
        return [{"check": check, "rows": rows, "rule": rule} for (check, rule), rows in self._rows.items()]
