"""Results that a process keeps until `forget` is called."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import invalidate_caches
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_clear = list[Callable[[], None]]()


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a function or method returns, by its arguments, until `forget` is called."""
    kept: Any = cache(function)  # whose type says nothing of its arguments
    _clear.append(kept.cache_clear)
    return kept


@contextmanager
def no_collection() -> Iterator[None]:
    """Put off the search for garbage: what is read stays, and to look through it takes a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def forget() -> None:
    """Forget the code that was read: a process reads it once, as it imports modules once."""
    invalidate_caches()
    for clear in _clear:
        clear()
