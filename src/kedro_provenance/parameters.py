"""Typed blocks of parameters, paths of parameters, and which fields of them a function reads."""

import functools
import inspect
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ArgsKwargs, to_jsonable_python

T = TypeVar("T")
_RESOURCE = object()
Resource = Annotated[T, _RESOURCE]
"""A field that says where and how something is computed, but does not change what: nothing is made again for it."""
_PRIVATE = object()
Private = Annotated[T, _PRIVATE]
"""A field whose value no run may write down: recipes have its digest, and run manifests leave it out."""


class NameRefusedError(ValueError):
    """A name under ``conf/`` is none that it can be."""


class Block(BaseModel):
    """A block of parameters: read-only, and a key that it does not know is refused.

    A field has a type and bounds. What it means and which value it has stand in conf/base/parameters_*.yml alone.

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


def deciding(value: Any) -> Any:
    """Plain data of parameters, without the private fields and those that change no results.

    Examples:
        >>> class Scoring(Block):
        ...     seed: int
        ...     tokens_per_batch: Resource[int]
        >>> deciding({"scoring": Scoring(seed=3, tokens_per_batch=512)})
        {'scoring': {'seed': 3}}
    """
    if isinstance(value, Block):
        kinds = type(value).model_fields
        left_out = private_fields(value) | {name for name in kinds if _RESOURCE in kinds[name].metadata}
        return {name: deciding(getattr(value, name)) for name in vars(value) if name not in left_out}
    if isinstance(value, Mapping):
        return {str(name): deciding(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [deciding(each) for each in value]
    return to_jsonable_python(value, fallback=str)


def private_fields(value: Any) -> set[str]:
    """Names of the private fields of a block; none of anything else."""
    kinds = type(value).model_fields if isinstance(value, Block) else {}
    return {name for name in kinds if name in vars(value) and _PRIVATE in kinds[name].metadata}


def reads(**fields: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a function the named fields of its blocks alone, and have ``function.reads`` say which.

    Such a function need not run again when another field of the block changes, see `kedro_provenance.recipe`.

    Args:
        fields: by the name of an argument, which is a block, the fields that the function reads, a field of a block in
            it with a dot. Any other one is not there for it, so that a field that is forgotten here is an
            AttributeError.

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
            bound.arguments |= {
                argument: _narrowed(bound.arguments[argument], paths) for argument, paths in fields.items()
            }
            return function(*bound.args, **bound.kwargs)

        vars(narrowed).update(reads=fields, __signature__=signature)  # by which Kedro orders named inputs
        return narrowed

    return decorate


def _narrowed(block: Block, paths: Collection[str]) -> Block:
    """A block with these fields alone."""
    inner: dict[str, list[str]] = {}
    for name, _, rest in (path.partition(".") for path in paths):
        inner.setdefault(name, []).extend([rest] if rest else [])
    fields: dict[str, Any] = {name: getattr(block, name) for name in inner}
    fields |= {name: _narrowed(fields[name], rest) for name, rest in inner.items() if rest}
    return type(block).model_construct(**fields)


def parameter_paths(parameters: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """Dotted paths of all blocks and values; what a file's own anchors share is left out.

    Examples:
        >>> list(parameter_paths({"lens": {"model": "sim"}, "_adapter": {"r": 8}}))
        ['lens', 'lens.model']
    """
    for name, value in parameters.items():
        if str(name).startswith("_"):
            continue
        yield f"{parent}{name}"
        if isinstance(value, Mapping):
            yield from parameter_paths(value, f"{parent}{name}.")


def merge(block: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A block with changes, which may be blocks within it; one with another ``method`` is taken as it is.

    Examples:
        >>> variant = {"history": "retrieved", "adapter": {"method": "reclora", "r": 8, "gate_scope": "shared"}}
        >>> merge(variant, {"adapter": {"r": 4}})
        {'history': 'retrieved', 'adapter': {'method': 'reclora', 'r': 4, 'gate_scope': 'shared'}}
        >>> merge(variant, {"adapter": {"method": "mtl_lora", "r": 4}})
        {'history': 'retrieved', 'adapter': {'method': 'mtl_lora', 'r': 4}}
    """
    merged = dict(block)
    for name, value in changes.items():
        own = merged.get(name)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            own_method = own.get("method")
            merged[name] = merge(own, value) if value.get("method", own_method) == own_method else value
        else:
            merged[name] = value
    return merged


def copied(value: Any, path: str, entries: Mapping[str, Any]) -> Any:
    """What a parameter is: a value as it is, but for ``{like: name, ...}``, which is a copy of another entry, changed.

    Args:
        value: of the parameter.
        path: its path.
        entries: the block that it is in, or will be, with the other entry.

    Raises:
        ValueError: there is no such other entry, or nothing of it is left.

    Examples:
        >>> copied({"like": "recent", "k": 5}, "history.short.latest", {"recent": {"kind": "recent", "k": 10}})
        {'kind': 'recent', 'k': 5}
    """
    if not isinstance(value, Mapping) or "like" not in value:
        return value
    parent, _, name = path.rpartition(".")
    like, changes = value["like"], {key: of_key for key, of_key in value.items() if key != "like"}
    others = {other: entry for other, entry in entries.items() if other != name and isinstance(entry, Mapping)}
    if like not in others:
        raise ValueError(f"{path} is like {like!r}, but {parent} has {', '.join(others) or 'no other entry'}")
    copy = merge(copied(others[like], f"{parent}.{like}", others), changes)
    if copy == changes:
        raise ValueError(f"{path} is like {like!r}, but has values of its own for all of it: give it another name")
    return copy


def with_copies(parameters: Mapping[str, Any], named: Collection[str], parent: str = "") -> dict[str, Any]:
    """Resolve `like` in the blocks of named entries, see `copied`.

    Args:
        parameters: nested blocks.
        named: paths of the blocks whose entries have names of the user's choice.
        parent: path of `parameters` itself.

    Raises:
        ValueError: see `copied`.

    Examples:
        >>> short = {"recent": {"kind": "recent", "k": 9}, "last": {"like": "recent"}}
        >>> with_copies({"history": {"short": short}}, ["history.short"])
        {'history': {'short': {'recent': {'kind': 'recent', 'k': 9}, 'last': {'kind': 'recent', 'k': 9}}}}
    """
    paths = {name: f"{parent}.{name}" if parent else str(name) for name in parameters}
    if parent in named:
        return {name: copied(value, paths[name], parameters) for name, value in parameters.items()}
    return {
        name: with_copies(value, named, paths[name]) if isinstance(value, Mapping) else value
        for name, value in parameters.items()
    }


def nearest_path(path: str, paths: Collection[str]) -> str:
    """The known path that is spelt most like a path.

    Examples:
        >>> nearest_path("lenz.hidden_dim", ["lens.hidden_dim", "lens.dropout"])
        'lens.hidden_dim'
    """
    [nearest] = get_close_matches(path, sorted(paths), n=1, cutoff=0)
    return nearest


def misplaced(
    parameters: Mapping[str, Any], declared: Mapping[str, Any], named: Collection[str], parent: str = ""
) -> Iterator[str]:
    """What is wrong with the structure of parameters: unknown blocks and keys, and values where blocks belong.

    Blocks of named entries, and blocks where none or an empty one is declared, are left to whoever reads them.

    Args:
        parameters: nested blocks.
        declared: nested blocks of all parameters that there are.
        named: paths of the blocks whose entries have names of the user's choice.
        parent: path of these blocks, with a dot at its end.

    Examples:
        >>> declared = {"lens": {"hidden_dim": 128}, "history": {"short": {"recent": {"k": 10}}, "rating_levels": None}}
        >>> given = {"lenz": {"hidden_dim": 3}, "history": {"short": {"latest": {}}, "rating_levels": {"step": 0.5}}}
        >>> list(misplaced(given, declared, ["history.short"])), list(misplaced({"lens": 3}, declared, []))
        (['lenz is no parameter. The nearest one is lens.'], ['lens is 3, but it must be a block of hidden_dim.'])
    """
    for name, value in parameters.items():
        path, default = f"{parent}{name}", declared.get(name)
        if not parent and str(name).startswith("_"):  # what a file's own anchors share
            continue
        if name not in declared:
            paths = [f"{parent}{name}" for name in declared if parent or not str(name).startswith("_")]
            yield f"{path} is no parameter. The nearest one is {nearest_path(path, paths)}."
        elif isinstance(default, Mapping) and default:
            if value is None and parent:  # a block that may be left out, or that its reader refuses
                continue
            if not isinstance(value, Mapping):
                yield f"{path} is {shown(value)}, but it must be a block of {', '.join(default)}."
            elif path not in named:
                yield from misplaced(value, default, named, f"{path}.")


def wrong_values(error: ValidationError, block: Any, path: str, paths: Collection[str]) -> list[str]:
    """What is wrong with the values of a block, one line each: the parameter, what was found and what was expected.

    Args:
        error: why the block was refused.
        block: the block as it was given.
        path: its path.
        paths: paths of all parameters that there are.

    Examples:
        >>> class Prompt(Block):
        ...     max_tokens: Annotated[int, Field(ge=1)]
        >>> try:
        ...     Prompt(max_token=256, max_tokens=-1)
        ... except ValidationError as error:
        ...     for line in wrong_values(error, {"max_token": 256, "max_tokens": -1}, "prompt", ["prompt.max_tokens"]):
        ...         print(line)
        prompt.max_tokens is -1: input should be greater than or equal to 1.
        prompt.max_token is no parameter. The nearest one is prompt.max_tokens.
    """
    lines = []
    for fault in error.errors():
        place = _place(fault["loc"], block, path)
        message = fault["msg"].removeprefix("Value error, ").rstrip(".")
        if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(f"{place} is no parameter. The nearest one is {nearest_path(place, paths)}.")
        elif fault["type"] == "missing":
            lines.append(f"{place}.{fault['loc'][-1]} is missing.")
        elif fault["type"] == "value_error" and isinstance(fault["input"], Mapping | ArgsKwargs):  # of a whole block
            lines.append(f"{place}: {message}.")
        else:
            lines.append(f"{place} is {shown(fault['input'])}: {message[0].lower()}{message[1:]}.")
    return list(dict.fromkeys(lines))


def shown(value: Any) -> str:
    """A value as a message quotes it, as YAML has it: null for None, and not too long.

    Examples:
        >>> shown(None), shown("x" * 99)
        ('null', "'xxxxxxxxxxxx...xxxxxxxxxxxxx'")
    """
    return "null" if value is None else reprlib.repr(value)


def _place(keys: Sequence[int | str], block: Any, path: str) -> str:
    """Path of a value in a block; pydantic's names of the alternatives of a type are no keys, and left out."""
    for key in keys:
        if isinstance(block, Mapping) and key in block:
            block, path = block[key], f"{path}.{key}"
        elif isinstance(block, list | tuple) and isinstance(key, int):
            block, path = block[key], f"{path}[{key}]"
    return path
