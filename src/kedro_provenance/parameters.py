"""Typed blocks of parameters, the fields of them that a function reads, and messages about wrong parameters."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ArgsKwargs, to_jsonable_python

from kedro_provenance.errors import Fault, Faults, Parameter, Value
from kedro_provenance.files.digests import digest, text_key

T = TypeVar("T")
_RESOURCE, _PRIVATE = object(), object()
Resource = Annotated[T, _RESOURCE]
"""A field that decides where and how results are computed, but not their values: another value remakes nothing."""
Private = Annotated[T, _PRIVATE]
"""A field whose value is never stored: recipes have its digest, and run manifests leave it out."""


class Block(BaseModel):
    """A block of parameters, which is read-only and refuses unknown keys.

    Fields have types and bounds. Their meaning and their values are written in the project's parameter files alone.

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
    """Return parameters as plain data, with digests of private fields and without fields that change no results.

    Examples:
        >>> class Scoring(Block):
        ...     seed: int
        ...     tokens_per_batch: Resource[int]
        >>> deciding({"scoring": Scoring(seed=3, tokens_per_batch=512)})
        {'scoring': {'seed': 3}}
    """
    if isinstance(value, Block):
        return {
            name: digest(each) if _PRIVATE in kinds else deciding(each)
            for name, each, kinds in _fields(value)
            if _RESOURCE not in kinds
        }
    if isinstance(value, Mapping):
        return {text_key(name): deciding(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [deciding(each) for each in value]
    return to_jsonable_python(value, fallback=str)


def private_fields(value: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each private field of blocks at any depth.

    Examples:
        >>> class Service(Block):
        ...     token: Private[str]
        >>> list(private_fields({"services": [Service(token="secret")]}))
        [('services', 0, 'token')]
    """
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Block):
        fields = [*_fields(value)]
        yield from ((name,) for name, _, kinds in fields if _PRIVATE in kinds)
        items = [(name, each) for name, each, kinds in fields if _PRIVATE not in kinds]
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, each in items:
        yield from ((key, *keys) for keys in private_fields(each))


def _fields(block: Block) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield names and values of the fields that a block has, with what their annotations say besides types."""
    for name, field in type(block).model_fields.items():
        if name in vars(block):
            yield name, getattr(block, name), field.metadata


def reads(**fields: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Pass only the named fields of its blocks to a function, and record these as ``function.reads``.

    The node of such a function does not run again when another field of the block changes, see
    `kedro_provenance.recipe`.

    Args:
        fields: for each argument that is a block, the fields that the function reads; a dot separates the fields of
            inner blocks. To read another field raises an AttributeError.

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
    """Return a block that has these fields alone."""
    inner: dict[str, list[str]] = {}
    for name, _, rest in (path.partition(".") for path in paths):
        inner.setdefault(name, []).extend([rest] if rest else [])
    fields: dict[str, Any] = {name: getattr(block, name) for name in inner}
    fields |= {name: _narrowed(fields[name], rest) for name, rest in inner.items() if rest}
    return type(block).model_construct(**fields)


def parameter_paths(parameters: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """Yield the dotted paths of all blocks and values; keys that begin with an underscore hold YAML anchors alone.

    Examples:
        >>> list(parameter_paths({"model": {"kind": "trees"}, "_anchor": {"r": 8}}))
        ['model', 'model.kind']
    """
    for name, value in parameters.items():
        if str(name).startswith("_"):
            continue
        yield f"{parent}{name}"
        if isinstance(value, Mapping):
            yield from parameter_paths(value, f"{parent}{name}.")


def soft_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested blocks; values of `above` override single values of `below`.

    Examples:
        >>> soft_merge({"prune": {"ratio": 0.25, "seed": 1}}, {"prune": {"ratio": 0.5}})
        {'prune': {'ratio': 0.5, 'seed': 1}}
    """
    both = {
        name: soft_merge(below[name], value)
        for name, value in above.items()
        if isinstance(value, Mapping) and isinstance(below.get(name), Mapping)
    }
    return {**below, **above, **both}


def copied(value: Any, path: str, entries: Mapping[str, Any]) -> Any:
    """Return ``{like: name, ...}`` as a changed copy of the entry of that name, and any other value as it is.

    Raises:
        Fault: there is no such entry beside it, or the changes replace all of it.

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
        raise Fault(Parameter(path), f"is like {like!r}", f"{parent} has {', '.join(others) or 'no other entry'}")
    copy = _changed(copied(others[like], f"{parent}.{like}", others), changes)
    if copy == changes:
        raise Fault(Parameter(path), f"is like {like!r}, but changes all of its values", advice="Give it another name")
    return copy


def _changed(entry: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with changes; an inner block with another ``method``, by which its keys differ, is replaced.

    Examples:
        >>> report = {"title": "Sales", "forecast": {"method": "trees", "depth": 8, "rate": 0.1}}
        >>> _changed(report, {"forecast": {"depth": 4}})
        {'title': 'Sales', 'forecast': {'method': 'trees', 'depth': 4, 'rate': 0.1}}
        >>> _changed(report, {"forecast": {"method": "mean", "days": 7}})
        {'title': 'Sales', 'forecast': {'method': 'mean', 'days': 7}}
    """
    replaced = [
        name
        for name, value in changes.items()
        if isinstance(value, Mapping) and isinstance(own := entry.get(name), Mapping)
        if value.get("method", own.get("method")) != own.get("method")
    ]
    return soft_merge({name: value for name, value in entry.items() if name not in replaced}, changes)


def with_copies(parameters: Mapping[str, Any], named: Collection[str], parent: str = "") -> dict[str, Any]:
    """Return parameters in which entries of the blocks at the named paths may be ``like`` others, see `copied`.

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
    """Return the known path whose spelling is nearest to a path.

    Examples:
        >>> nearest_path("modle.depth", ["model.depth", "model.rate"])
        'model.depth'
    """
    [nearest] = get_close_matches(path, sorted(paths), n=1, cutoff=0)
    return nearest


def structure_faults(
    parameters: Mapping[str, Any], declared: Mapping[str, Any], named: Collection[str], parent: str = ""
) -> Iterator[Fault]:
    """Yield a fault for each unknown block or key, and for each value where a block belongs.

    Blocks of named entries are not looked into, nor are blocks that are declared empty: those who read them check them.

    Examples:
        >>> declared = {"model": {"depth": 8}, "history": {"short": {"recent": {"k": 10}}, "rating_levels": None}}
        >>> given = {"modle": {"depth": 3}, "history": {"short": {"latest": {}}, "rating_levels": {"step": 0.5}}}
        >>> print(*structure_faults(given, declared, ["history.short"]))
        modle is not a parameter. The nearest one is `model`.
        >>> print(*structure_faults({"model": 3}, declared, []))
        model is 3: it must be a block of depth.
    """
    for name, value in parameters.items():
        path, default = f"{parent}{name}", declared.get(name)
        if not parent and str(name).startswith("_"):  # YAML anchors
            continue
        if name not in declared:
            paths = [f"{parent}{name}" for name in declared if parent or not str(name).startswith("_")]
            yield _no_parameter(path, paths)
        elif isinstance(default, Mapping) and default:
            if value is None and parent:  # the type of the block decides whether it may be left out
                continue
            if not isinstance(value, Mapping):
                yield Fault(Parameter(path), ("is ", Value(value)), f"it must be a block of {', '.join(default)}")
            elif path not in named:
                yield from structure_faults(value, default, named, f"{path}.")


def value_faults(error: ValidationError, block: Any, path: str, paths: Collection[str]) -> Faults:
    """Return the faults of a block that its type refuses.

    A fault that a validator of the block raises is taken as it is, with the full paths of the block's parameters.

    Examples:
        >>> from pydantic import Field
        >>> class Prompt(Block):
        ...     max_tokens: Annotated[int, Field(ge=1)]
        >>> try:
        ...     Prompt(max_token=256, max_tokens=-1)
        ... except ValidationError as error:
        ...     paths = ["prompt.max_token", "prompt.max_tokens"]
        ...     print(value_faults(error, {"max_token": 256, "max_tokens": -1}, "prompt", paths))
        prompt.max_tokens is -1: input should be greater than or equal to 1.
        prompt.max_token is not a parameter. The nearest one is `prompt.max_tokens`.
    """
    found = error.errors()
    places = [fault["loc"][:-1] for fault in found]  # a list with a wrong element counts as too short, too
    own = (fault for fault in found if not (fault["type"] == "too_short" and fault["loc"] in places))
    return Faults(*(_value_fault(fault, block, path, paths) for fault in own))


def _value_fault(fault: Mapping[str, Any], block: Any, path: str, paths: Collection[str]) -> Fault:
    place = _path_within(block, fault["loc"], path)
    cause = fault["ctx"]["error"] if fault["type"] == "value_error" else None
    if isinstance(cause, Fault):
        return cause.within(place)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return _no_parameter(place, [each for each in paths if each != place])  # conf/base may be of an earlier release
    if fault["type"] == "missing":
        return Fault(Parameter(f"{place}.{fault['loc'][-1]}"), "is missing")
    message = str(cause or fault["msg"]).rstrip(".")
    if cause is not None and isinstance(fault["input"], Mapping | ArgsKwargs):  # of a whole block
        return Fault(Parameter(place), "", message)
    return Fault(Parameter(place), ("is ", Value(fault["input"])), f"{message[0].lower()}{message[1:]}")


def _no_parameter(path: str, paths: Collection[str]) -> Fault:
    nearest = Parameter(nearest_path(path, paths))
    return Fault(Parameter(path), "is not a parameter", advice=("The nearest one is ", nearest))


def _path_within(block: Any, keys: Sequence[int | str], path: str) -> str:
    """Return the path of a value in a block; keys that are pydantic's names of the members of a union are left out."""
    for key in keys:
        if isinstance(block, Mapping) and key in block:
            block, path = block[key], f"{path}.{key}"
        elif isinstance(block, list | tuple) and isinstance(key, int):
            block, path = block[key], f"{path}[{key}]"
    return path
