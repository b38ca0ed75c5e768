"""The base of every model of parameters."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block of parameters: read-only, and a key that it does not know is refused.

    Examples:
        >>> class Prompt(Block):
        ...     max_tokens: int
        >>> Prompt(max_tokens=256)
        Prompt(max_tokens=256)
        >>> Prompt(max_token=256)
        Traceback (most recent call last):
        ...
        pydantic_core._pydantic_core.ValidationError: 2 validation errors for Prompt
        ...
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
