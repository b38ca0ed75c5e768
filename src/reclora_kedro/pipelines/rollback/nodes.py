"""Nodes of the rollback pipeline."""

from typing import Any

from reclora_kedro.terminal import show
from reclora_kedro.update.promotion import champion_table, rolled_back

Record = dict[str, Any]


def roll_back(champion_history: list[Record]) -> Record:
    """Return the previous champion as the next one."""
    champion = rolled_back(champion_history)
    show(champion_table(champion))
    return champion
