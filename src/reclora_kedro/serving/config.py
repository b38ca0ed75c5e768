"""Settings of the service."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, CountOrZero, NonNegative, Positive

ModelName = Literal["lens", "llm"]
"""Model that ranks."""


class ServiceConfig(Block):
    """Address of the service, the model that answers, and the limits of requests."""

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
    prompts_per_batch: Count
    max_waiting: Count
    max_connections: Count
    max_connections_per_client: Count
    receive_seconds: Positive
    timeout_seconds: Positive
    shutdown_seconds: Positive
    max_body_bytes: Count
    max_items: Count
    max_events: Count
    max_requests: Count
    max_pairs: Count
    max_prompts: Count
    requests_per_second: Positive | None
    clock_skew_seconds: NonNegative

    @model_validator(mode="after")
    def _an_llm_that_answers_is_loaded(self) -> Self:
        if self.model == "llm" and self.variant is None:
            raise ValueError(
                "model is llm, but variant is null, so that no LLM is loaded: name one, or set model to lens"
            )
        return self
