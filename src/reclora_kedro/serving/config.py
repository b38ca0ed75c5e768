"""Settings of the service."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from reclora_kedro.parameters import Block, Count, CountOrZero, NonNegative, Positive
from reclora_kedro.serving.models import ModelName


class ServiceConfig(Block):
    """Where the service listens, what answers, and how much of it anyone may ask."""

    host: str = Field(min_length=1)
    port: Annotated[CountOrZero, Field(le=65535)]
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    folder: Path
    token_variable: str | None
    model: ModelName
    variant: str | None
    reload_seconds: Positive | None
    deadline_ms: NonNegative
    rows_per_batch: Count
    max_waiting: Count
    timeout_seconds: Positive
    max_body_bytes: Count
    max_items: Count
    max_events: Count
    max_requests: Count
    requests_per_second: Positive | None
    clock_skew_seconds: NonNegative
