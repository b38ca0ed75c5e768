"""Nodes of the rollback pipeline."""

from typing import Any

from reclora_kedro.evaluation.terminal import show
from reclora_kedro.lifelong.promotion import champion_table, rolled_back

Record = dict[str, Any]


def roll_back(champion_history: list[Record]) -> Record:
    champion = rolled_back(champion_history)
    show(champion_table(champion))
    return champion
