"""Objects taken apart: the functions and classes that they run, and their values by content."""

import ast
import copyreg
import enum
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from codeprint.files import digest
from codeprint.forms import form
from codeprint.modules import is_own, package_of, source_file
from codeprint.statements import Statement, inner_function

MADE_ANEW = ("pydantic_core", "pydantic._internal._namespace_utils")
"""What pydantic makes in each process of classes and annotations, and all names of the module that these are in."""
CALLED_BEFORE = ("dispatch_cache", "cache_token")  # where `functools.singledispatch` notes types of arguments

Start = tuple[str, str | Statement]
"""A module of the project's own with the name of a function or class in it, a function without one, or "" for all."""


class Description:
    """Describes objects as plain data, by their content; `packages` as in `is_own`."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.starts = set[Start]()  # the project's functions and classes that were found
        self.uncompared = list[str]()  # types of values that have no content to compare
        self._packages = packages
        self._described = dict[int, Any]()
        self._kept = list[Any]()  # so that no other object takes the place of one that was described

    def describe(self, value: Any) -> Any:
        """Return a description of an object, which is equal for objects of equal content in any process."""
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str):
            return [kind.__name__, f"{value:x}" if kind is int else ascii(value)]
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
            made_by = self.describe(getattr(value, "default_factory", None))
            return [kind.__name__, made_by, *([self.describe(key), self.describe(value[key])] for key in value)]
        if isinstance(value, PurePath | Fraction):  # of which each version of Python keeps something else
            return [kind.__name__, str(value)]
        if isinstance(value, enum.Enum):
            return ["member", self._named(kind.__module__, kind.__qualname__), value.name, self.describe(value.value)]
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
        if kind.__module__.startswith(MADE_ANEW):
            return self._named(kind.__module__, kind.__qualname__)
        return self._reduced(value)

    def _named(self, module: str, name: str) -> Any:
        if is_own(module, self._packages):
            self.starts.add((module, name))
        return ["named", module, name]

    def _function(self, function: FunctionType) -> Any:
        """Describe a function: its own code is found by its name, what it holds counts here."""
        module, code = str(function.__globals__.get("__name__")), function.__code__
        name = getattr(code, "co_qualname", function.__qualname__)  # `functools.wraps` overwrites the latter
        is_counted = is_own(module, self._packages) or module == "__main__"
        described: list[Any] = ["function", module, name]
        if module == "__main__":  # of a notebook
            described.append(self._written(function))
        elif is_counted:
            start = _within(module, code) or name
            self.starts.add((module, start))
            described = ["function", module, start if isinstance(start, str) else start.digest]
        before = len(self.uncompared)
        described += [self.describe(value) for value in _held(function) if value is not function]
        if not is_counted:
            del self.uncompared[before:]  # a library's wrappers keep locks and counters
        return described

    def _written(self, function: FunctionType) -> Any:
        """Describe a function of no module by its source, if there is one, and all that it refers to."""
        code = function.__code__
        try:
            written = form(ast.parse(textwrap.dedent(inspect.getsource(function))))
        except (OSError, TypeError, SyntaxError):
            written = ""
        return [written, self._compiled(code, function.__globals__, not written)]

    def _compiled(self, code: CodeType, names: Mapping[str, Any], by_instructions: bool) -> Any:
        """Describe the functions and values that code without a module refers to; also its instructions, if asked."""
        inner = [each for each in code.co_consts if isinstance(each, CodeType)]
        constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
        used = [self.describe(names[name]) for name in code.co_names if name in names]
        instructions = [code.co_code.hex(), [*code.co_names], self.describe(constants)] if by_instructions else []
        return [instructions, [self._compiled(each, names, by_instructions) for each in inner], used]

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


def _within(module: str, code: CodeType) -> Statement | None:
    """Return the statement of a function within another one, or of a lambda; None for a function of its module."""
    if not (code.co_flags & inspect.CO_NESTED or code.co_name == "<lambda>"):
        return None
    file = source_file(module)
    return inner_function(file, code, package_of(module)) if file else None


def _held(function: FunctionType) -> list[Any]:
    """Return what a function holds: values of its closure, its default arguments, and the function that it wraps."""
    held: list[Any] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    dispatches = function.__globals__.get("__name__") == functools.__name__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if not (dispatches and name in CALLED_BEFORE):
            with suppress(ValueError):  # it is empty
                held.append(cell.cell_contents)
    return [*held, *([function.__wrapped__] if hasattr(function, "__wrapped__") else [])]
