"""Settings of the service."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from kedro_provenance.parameters import Block
from reclora_kedro.parameters import Count, CountOrZero, NonNegative, Positive

ModelName = Literal["lens", "llm"]  # model that ranks


class ServiceConfig(Block):
    """Address of the service, the model that answers, and the limits of requests."""

    max_body_bytes: ClassVar[int] = 2**20  # of a request: a thousand events with long ids take a fifth of it
    max_items: ClassVar[int] = 1000  # candidates, items to score, and items of a list, of one request
    max_events: ClassVar[int] = 1000  # of one request, or of a history in it
    max_requests: ClassVar[int] = 64  # users of one request
    clock_skew_seconds: ClassVar[float] = 60  # how far ahead of this machine's clock an event may be

    host: str = Field(min_length=1)
    port: Annotated[CountOrZero, Field(le=65535)]
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    journal: str = Field(min_length=1)
    token_variable: str | None
    write_token_variable: str | None
    read_token_variable: str | None
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
    max_pairs: Count
    max_prompts: Count
    requests_per_second: Positive | None

    @model_validator(mode="after")
    def _what_is_needed_is_named(self) -> Self:
        if self.token_variable is None and (self.write_token_variable or self.read_token_variable):
            raise ValueError(
                "token_variable is null, but there are tokens for writing or reading, so nobody could administer the "
                "service: name the variable of the token for all requests"
            )
        if self.model == "llm" and self.variant is None:
            raise ValueError(
                "model is llm, but variant is null, so no LLM is loaded: name a variant, or set model to lens"
            )
        return self
