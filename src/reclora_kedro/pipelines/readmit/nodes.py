"""Nodes of the readmit pipeline."""

from typing import Any

import polars as pl

from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.update.forgetting import ForgetConfig


def readmit_users(users_to_drop: pl.DataFrame, forget: ForgetConfig) -> dict[str, Any]:
    """Return the users who stay forgotten."""
    return ForgottenUsers.from_table(users_to_drop).without_users(forget.users).to_json()
