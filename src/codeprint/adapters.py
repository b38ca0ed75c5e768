"""Fingerprints for tools that cache results and hash one function alone, by a decorator or an adapter for each.

A tool is imported when its adapter is used. For Kedro, see the plug-in `kedro_provenance`. Code is read once per
process: what a long one edits while it runs counts in the next.
"""

import inspect
from collections.abc import Callable
from functools import cache, update_wrapper
from typing import Any

from codeprint.fingerprints import fingerprint

Decorator = Callable[[Callable[..., Any]], Any]


def joblib_cache(memory: Any, **options: Any) -> Decorator:
    """Cache a function by a ``joblib.Memory``, with the options of `Memory.cache`, under the digest of its code."""

    def decorate(function: Callable[..., Any]) -> Any:
        def call(*arguments: Any, codeprint: str, **named: Any) -> Any:
            return function(*arguments, **named)

        signature, code = inspect.signature(function), cache(lambda: fingerprint(function).digest)
        digest = inspect.Parameter("codeprint", inspect.Parameter.KEYWORD_ONLY)
        given = sorted([*signature.parameters.values(), digest], key=lambda each: each.kind)
        vars(update_wrapper(call, function))["__signature__"] = signature.replace(parameters=given)
        cached = memory.cache(call, **options)
        return update_wrapper(lambda *given, **named: cached(*given, codeprint=code(), **named), function)

    return decorate


def dagster_asset(**options: Any) -> Decorator:
    """Make an asset of Dagster, with the options of `asset`, whose code version is the digest of its code."""
    from dagster import asset

    return lambda function: asset(code_version=fingerprint(function).digest, **options)(function)


def redun_task(hash_includes: tuple[Any, ...] = (), **options: Any) -> Decorator:
    """Make a task of redun, with the options of `task`, whose hash includes the digest of its code."""
    from redun import task

    return lambda function: task(hash_includes=[fingerprint(function).digest, *hash_includes], **options)(function)


def zenml_step(**options: Any) -> Decorator:
    """Make a step of ZenML, with the options of `step`, whose cache key has the digest of its code for its text."""
    from zenml import step
    from zenml.config.cache_policy import CachePolicy

    def decorate(function: Callable[..., Any]) -> Any:
        def code() -> str:
            return fingerprint(function).digest

        name = code.__name__ = code.__qualname__ = f"{function.__name__}_code"
        code.__module__ = function.__module__
        function.__globals__[name] = code  # where ZenML finds it
        return step(cache_policy=CachePolicy(include_step_code=False, cache_func=code), **options)(function)

    return decorate


def hamilton_cache(**options: Any) -> Any:
    """Return a cache for ``driver.Builder().with_adapters(...)`` of Hamilton, with the options of `with_cache`."""
    from hamilton.caching.adapter import HamiltonCacheAdapter

    class Cache(HamiltonCacheAdapter):
        def version_code(self, node_name: str, run_id: str | None = None) -> str:
            node = self._fn_graphs[run_id or self.last_run_id].nodes[node_name]  # which nothing public returns
            functions = node.originating_functions
            return fingerprint(functions[0]).digest if functions else super().version_code(node_name, run_id)

    return Cache(**options)
