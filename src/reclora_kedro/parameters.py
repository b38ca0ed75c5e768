"""Types of numeric parameters, and blocks that were saved."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from kedro_provenance.parameters import Block

B = TypeVar("B", bound=Block)


def _no_bool(value: Any, expected: str = "input should be a number") -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{expected}, not true or false")
    return value


MAX_INT32 = 2**31 - 1  # the largest count that torch, numpy and polars all take
# A field bounds one of these further by Annotated: a bound of the same kind in its own Field would be lost.
Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_no_bool)]
"""Seed of a random generator, in the common range of numpy, torch and scikit-learn."""
Count = Annotated[int, Field(ge=1, le=MAX_INT32), BeforeValidator(_no_bool)]  # a positive 32-bit integer
CountOrZero = Annotated[int, Field(ge=0, le=MAX_INT32), BeforeValidator(_no_bool)]
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_bool)]  # a finite number
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
Share = Annotated[Real, Field(ge=0, lt=1)]  # a share in [0, 1), such as a dropout rate
Id = Annotated[int | str, BeforeValidator(lambda value: _no_bool(value, "an id is a whole number or a text"))]
"""Id of a user or an item."""


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if repeated is not None:
        raise ValueError(f"names {repeated} twice: name each once")
    return values


EachOnce = AfterValidator(_each_once)  # validator of tuples with distinct elements
LearningRate = Annotated[Positive, Field(le=1)]


def saved_settings(kind: type[B], saved: Mapping[str, Any], pipeline: str) -> B:
    """Return the settings that were saved with a model, of an earlier release, too, where constants were settings.

    ValueError, which names the pipeline that trains the model, is raised where a constant had another value.
    """
    constants = saved.keys() - kind.model_fields.keys() & kind.__class_vars__
    for name in sorted(constants):
        if saved[name] != (value := getattr(kind, name)):
            raise ValueError(
                f"This model was trained with {name} {saved[name]}, but {name} is always {value} now: train it again "
                f"with kedro run --pipelines {pipeline}."
            )
    return kind(**{name: value for name, value in saved.items() if name not in constants})
