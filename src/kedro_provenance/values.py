"""Objects taken apart: the functions and classes that they run, and their values by content."""

import copyreg
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from kedro_provenance.files.digests import digest

MOST_OBJECTS = 1000
"""Number of objects among data that are looked at."""

CALLED_BEFORE = ("dispatch_cache", "cache_token")
"""Variables in which functions of `functools.singledispatch` note of which types earlier arguments were."""


@dataclass(frozen=True)
class Start:
    """A function, a class or a module of the project's own code.

    Attributes:
        module: its module.
        name: its name, with those of the functions around it; empty for the module itself.
        line: first line of a function; 0 for anything else.
    """

    module: str
    name: str
    line: int = 0


class Taken:
    """Describes objects as plain data, by their content.

    Args:
        is_own: whether a module is the project's own code.

    Attributes:
        starts: the project's functions and classes that were found.
        uncompared: types of values that have no content to compare.
    """

    def __init__(self, is_own: Callable[[str], bool]) -> None:
        self.starts = set[Start]()
        self.uncompared = list[str]()
        self._is_own = is_own
        self._described = dict[int, Any]()
        self._kept = list[Any]()  # so that no other object takes the place of one that was described

    def describe(self, value: Any) -> Any:
        """Return a description of an object, which is equal for objects of equal content in any process."""
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str):
            return [kind.__name__, repr(value)]
        if kind in (bytes, bytearray, memoryview):
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if isinstance(value, type):
            return self._named(value.__module__, value.__qualname__)
        if isinstance(value, ModuleType):
            return self._named(value.__name__, "")
        if id(value) not in self._described:
            self._described[id(value)] = "an object around this one"
            self._kept.append(value)
            self._described[id(value)] = self._of_parts(value)
        return self._described[id(value)]

    def _of_parts(self, value: Any) -> Any:
        kind = type(value)
        if kind in (list, tuple):
            return [kind.__name__, *map(self.describe, value)]
        if isinstance(value, Mapping) and kind.__module__ in ("builtins", "collections"):
            return [kind.__name__, *([self.describe(key), self.describe(value[key])] for key in value)]
        if kind in (set, frozenset):
            return [kind.__name__, *sorted(digest(self.describe(each)) for each in value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return ["method", self.describe(value.__func__), self.describe(value.__self__)]
        if isinstance(value, functools.partial):
            return ["partial", self.describe(value.func), self.describe(value.args), self.describe(value.keywords)]
        if hasattr(value, "__wrapped__") and callable(value):
            return ["wrapper", kind.__qualname__, self.describe(value.__wrapped__)]
        if isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            bound = None if isinstance(owner, ModuleType) else self.describe(owner)
            return ["builtin", str(value.__module__), value.__qualname__, bound]
        return self._reduced(value)

    def _named(self, module: str, name: str) -> Any:
        if self._is_own(module):
            self.starts.add(Start(module, name))
        return ["named", module, name]

    def _function(self, function: FunctionType) -> Any:
        """Describe a function: its own code is found by its name, what it holds counts here."""
        module, code = str(function.__globals__.get("__name__")), function.__code__
        name = code.co_qualname  # `functools.wraps` overwrites that of the function
        is_own = self._is_own(module)
        described: list[Any] = ["function", module, name]
        if is_own:
            self.starts.add(Start(module, name, code.co_firstlineno))
        elif module == "__main__":  # of a notebook
            described.append(self._compiled(code, function.__globals__))
        before = len(self.uncompared)
        described += [self.describe(value) for value in _held(function) if value is not function]
        if not is_own and module != "__main__":
            del self.uncompared[before:]  # a library's wrappers keep locks and counters
        return described

    def _compiled(self, code: CodeType, names: Mapping[str, Any]) -> Any:
        """Describe code without a file, and the functions and values that it refers to."""
        inner = [each for each in code.co_consts if isinstance(each, CodeType)]
        constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
        used = [self.describe(names[name]) for name in code.co_names if name in names]
        return [
            code.co_code.hex(),
            [*code.co_names],
            self.describe(constants),
            [self._compiled(each, names) for each in inner],
            used,
        ]

    def _reduced(self, value: Any) -> Any:
        """Describe an object by what pickle would keep of it."""
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        self._named(kind.__module__, kind.__qualname__)
        try:
            reduce = copyreg.dispatch_table.get(kind)
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:  # whatever an object raises that cannot be pickled
            self.uncompared.append(name)
            return ["uncompared", name]
        if isinstance(reduced, str):
            return ["global", name, reduced]
        function, arguments, *rest = reduced
        state, items, pairs = [*rest, None, None, None][:3]
        return [
            name,
            self.describe(function),
            self.describe(arguments),
            self.describe(state),
            [self.describe(each) for each in items or ()],
            [[self.describe(key), self.describe(each)] for key, each in pairs or ()],
        ]


def _held(function: FunctionType) -> list[Any]:
    """Return what a function holds: values of its closure, its default arguments, and the function that it wraps."""
    held: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    dispatches = function.__globals__.get("__name__") == functools.__name__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if dispatches and name in CALLED_BEFORE:
            continue
        try:
            held.append(cell.cell_contents)
        except ValueError:  # it is empty
            continue
    return [*held, *([function.__wrapped__] if hasattr(function, "__wrapped__") else [])]


def kinds_of(data: Any, is_own: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the project's classes and functions among data, such as ``shop.models:Model``.

    Args:
        data: the data; elements of collections and attributes of objects are looked at, too.
        is_own: whether a module is the project's own code.
    """
    kinds, left, seen = set[str](), [data], set[int]()
    while left and len(seen) < MOST_OBJECTS:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        named = value if isinstance(value, type | FunctionType) else type(value)
        if is_own(named.__module__):
            kinds.add(f"{named.__module__}:{named.__qualname__.partition('.')[0]}")
        if isinstance(value, Mapping):
            left += [*value.keys(), *value.values()][:MOST_OBJECTS]
        elif isinstance(value, list | tuple | set | frozenset):
            left += [*value][:MOST_OBJECTS]
        elif is_own(type(value).__module__):
            left += vars(value).values() if hasattr(value, "__dict__") else ()
    return tuple(sorted(kinds))
