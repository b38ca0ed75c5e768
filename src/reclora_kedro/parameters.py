"""The base of every model of parameters, and which fields of one a function reads."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

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


def reads(**fields: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a function the named fields of its blocks alone, and have ``function.reads`` say which.

    A study need not run such a function again when another field of the block changes, see `reclora_kedro.cells`.

    Args:
        fields: by the name of an argument, which is a block, the fields that the function reads. Any other one is not
            there for it, so that a field that is forgotten here is an AttributeError.

    Examples:
        >>> class Prompt(Block):
        ...     max_tokens: int
        ...     template: str
        >>> @reads(prompt=["max_tokens"])
        ... def budget(prompt: Prompt) -> int:
        ...     return prompt.max_tokens
        >>> budget(Prompt(max_tokens=256, template="sections")), budget.reads
        (256, {'prompt': ['max_tokens']})
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def narrowed(*arguments: Any, **named: Any) -> Any:
            bound = signature.bind(*arguments, **named)
            for argument, names in fields.items():
                block = bound.arguments[argument]
                bound.arguments[argument] = type(block).model_construct(
                    **{name: getattr(block, name) for name in names}
                )
            return function(*bound.args, **bound.kwargs)

        narrowed.reads = fields  # type: ignore[attr-defined]  # functions take any attribute
        return narrowed

    return decorate
