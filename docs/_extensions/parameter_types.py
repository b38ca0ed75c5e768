"""Types, ranges and choices of parameters in words, from the types that a run checks them by."""

import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import MinLen
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from reclora_kedro.extensions import Registry
from reclora_kedro.parameters import MAX_INT32

ROOT = Path(__file__).parents[2]
NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "text", date: "day"}
PLURAL = re.compile("^(whole number|number|text|block)")


def type_of(path: str) -> str:
    """Return the type of a parameter in words; empty if no block has it.

    Args:
        path: its dotted path.
    """
    names, known = path.split("."), types_of_blocks_by_path()
    for length in range(len(names), 0, -1):
        if (block := known.get(".".join(names[:length]))) is not None:
            return joined(words for kind in kinds_at(block, names[length:]) for words in alternatives(kind))
    return ""


@cache
def types_of_blocks_by_path() -> dict[str, Any]:
    """Return the types of all blocks of parameters, by path."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from kedro_provenance.check_parameters import FLAGS, types_of_blocks
    from reclora_kedro.adapters.registry import DEFAULT, adapter_method
    from reclora_kedro.pipelines.names import source_types
    from reclora_kedro.settings import BLOCKS

    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, runtime_params={"update": {"variant": "reclora"}}) as session:
        parameters = session.load_context().config_loader["parameters"]
        read = types_of_blocks(parameters, [source_types])
    adapters = (f"finetuning.variants.{name}.adapter" for name in parameters["finetuning"]["variants"])
    return read | FLAGS | BLOCKS | dict.fromkeys(adapters, adapter_method(DEFAULT).settings)


def kinds_at(kind: Any, names: Sequence[str]) -> Iterator[Any]:
    """Yield the types at a path below a block's type."""
    if get_origin(kind) in (Annotated, Union, types.UnionType) and names:
        inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
        for each in inner:
            yield from kinds_at(each, names)
    elif not names:
        yield kind
    elif get_origin(kind) is dict:
        yield from kinds_at(get_args(kind)[1], names[1:])
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and names[0] in kind.model_fields:
        field = kind.model_fields[names[0]]
        whole = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        yield from kinds_at(whole, names[1:])
    elif is_dataclass(kind):
        yield from kinds_at(get_type_hints(kind, include_extras=True)[names[0]], names[1:])


def alternatives(kind: Any, constraints: Sequence[Any] = ()) -> Iterator[str]:
    """Yield what a type takes, in words."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        yield from alternatives(arguments[0], (*constraints, *arguments[1:]))
    elif get_origin(kind) in (Union, types.UnionType):
        for each in arguments:
            yield from alternatives(each, constraints)
    elif get_origin(kind) is Literal:
        yield from (f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    elif get_origin(kind) in (tuple, list, set):
        least = max((each.min_length for each in flat(constraints) if isinstance(each, MinLen)), default=0)
        items = PLURAL.sub(r"\1s", joined(alternatives(arguments[0])))
        yield f"list of {items}" + (f"; at least {least}" if least else "")
    elif kind is type(None):
        yield "null"
    elif kind in NAMES:
        registries = [owner for each in flat(constraints) if isinstance(owner := owner_of(each), Registry)]
        choices = [f"`{name}`" for registry in registries for name in registry.modules()]
        yield from [*choices, "dotted path"] if choices else [" ".join([NAMES[kind], *bounds(constraints)])]
    elif kind is not Any:
        yield "block"


def flat(constraints: Sequence[Any]) -> Iterator[Any]:
    """Yield constraints, those of pydantic's fields among them one by one."""
    for each in constraints:
        yield from flat(each.metadata) if isinstance(each, FieldInfo) else [each]


def owner_of(constraint: Any) -> Any:
    """Return the object whose method validates a value; None if none does."""
    return getattr(constraint.func, "__self__", None) if isinstance(constraint, AfterValidator) else None


def bounds(constraints: Sequence[Any]) -> list[str]:
    """Return the narrowest lower and the narrowest upper bound."""
    found = [*flat(constraints)]
    low, high = (
        [(getattr(each, name), sign) for each in found for name, sign in signs.items() if hasattr(each, name)]
        for signs in ({"ge": "≥", "gt": ">"}, {"le": "≤", "lt": "<"})
    )
    narrowest = [*([max(low)] if low else []), *(each for each in sorted(high)[:1] if each[0] < MAX_INT32)]
    text = ", ".join(f"{sign}\N{NO-BREAK SPACE}{value:g}" for value, sign in narrowest)
    return [text] if text else []


def joined(words: Iterator[str]) -> str:
    """Join alternatives by commas and "or"."""
    *first, last = dict.fromkeys(words) or [""]
    joint = "; or " if any(re.search("[,;] ", word) for word in first) else " or "
    return f"{', '.join(first)}{joint}{last}" if first else last
