"""Readmit forgotten users; on request."""

from typing import Any

import polars as pl
from kedro.pipeline import Pipeline

from reclora_kedro.ingestion.forgotten import ForgottenUsers
from reclora_kedro.pipelines.names import PipelineNames
from reclora_kedro.pipelines.wiring import node, step
from reclora_kedro.update.config import ForgetConfig


def readmit_users(users_to_drop: pl.DataFrame, forget: ForgetConfig) -> dict[str, Any]:
    """Return the users who stay forgotten."""
    return ForgottenUsers.from_table(users_to_drop).without_users(forget.users).to_json()


def create_pipeline(names: PipelineNames) -> Pipeline:
    """Remove readmitted users from the forgotten ones."""
    return step("readmit", node(readmit_users, ["users_to_drop", "params:forget"], "forgotten_users"))
