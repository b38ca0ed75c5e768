"""Types of numeric parameters, and parameter blocks with user-chosen names."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("input should be a number, not true or false")
    return value


def _no_bool_as_id(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("an id is a whole number or a text, not true or false")
    return value


MAX_INT32 = 2**31 - 1  # the largest count that torch, numpy and polars all take
# A field bounds one of these further by Annotated: a bound of the same kind in its own Field would be lost.
Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_no_bool)]
"""Seed of a random generator, in the common range of numpy, torch and scikit-learn."""
Count = Annotated[int, Field(ge=1, le=MAX_INT32), BeforeValidator(_no_bool)]
"""A positive 32-bit integer."""
CountOrZero = Annotated[int, Field(ge=0, le=MAX_INT32), BeforeValidator(_no_bool)]
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_bool)]
"""A finite number."""
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
Share = Annotated[Real, Field(ge=0, lt=1)]
"""A share in [0, 1), such as a dropout rate."""
Id = Annotated[int | str, BeforeValidator(_no_bool_as_id)]
"""Id of a user or an item."""


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if repeated is not None:
        raise ValueError(f"names {repeated} twice: name each once")
    return values


EachOnce = AfterValidator(_each_once)
"""Validator of tuples with distinct elements."""
LearningRate = Annotated[Positive, Field(le=1)]

BLOCKS_OF_NAMED_ENTRIES = ("history.short", "finetuning.variants", "black_box.hints")
"""Parameter blocks with user-chosen names of entries."""
