"""What the hooks in a project's settings say of it, and the code of these hooks, which may change results."""

import inspect
from collections.abc import Collection, Iterator
from typing import Any

from kedro.framework import project
from kedro.framework.hooks.markers import HOOK_NAMESPACE
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from codeprint import Fingerprint, fingerprint
from codeprint.modules import is_own
from kedro_provenance.files.digests import digest
from kedro_provenance.kedro_internals import requested_names

CHANGEABLE = {"inputs", "outputs", "data", "catalog", "context", "conf_catalog", "feed_dict", "parameters", "pipeline"}
"""Arguments of hooks whose values a hook may change."""
TOO_LATE = {"after_pipeline_run", "after_dataset_saved", "on_node_error", "on_pipeline_error"}
"""Hooks that are called when results are saved, or none are."""

_codes: dict[int, tuple[Any, Fingerprint]] = {}


def project_packages() -> tuple[str, ...]:
    """Return the project's own package and those of its hooks."""
    return (*filter(None, [project.PACKAGE_NAME]), *of_hooks("packages"))


def of_hooks(attribute: str) -> list[str]:
    """Return the names in an attribute of the project's hooks, such as `packages`, `late_tags` or `stores`."""
    return [name for hooks in project.settings.HOOKS for name in getattr(hooks, attribute, ())]


def code_of(value: Any, values: Collection[str] = ()) -> Fingerprint:
    """Return the fingerprint of the project's code that an object runs, with these texts among its parameters."""
    packages = project_packages()
    begins = ("settings", "pipeline_registry", "pipelines.*")  # what Kedro imports before it runs anything
    imported = [f"{package}.{name}" for package in packages for name in begins]
    return fingerprint(value, packages=packages, values=values, imported=imported)


def all_pipelines() -> dict[str, Pipeline]:
    """Return all pipelines of the project by name, of whichever a command requests."""
    requested = requested_names()
    pipelines.set_requested(None)
    try:
        return dict(pipelines)
    finally:
        pipelines.set_requested(requested)


def code_around(catalog: Any) -> Fingerprint:
    """Return the project's code that runs around every node."""
    codes = [code_of_hook(hook) for hook in project.settings.HOOKS]
    kind = type(catalog)
    if is_own(kind.__module__) and not kind.__module__.startswith(f"{__package__}."):
        codes.append(code_of(kind))
    parts = {name: text for code in codes for name, text in code.parts.items()}
    return Fingerprint(digest([code.digest for code in codes if code.digest]), parts)


def code_of_hook(hook: Any) -> Fingerprint:
    """Return the code of the methods of a hook that may change results, and its state when this is called first.

    An installed package's hooks do not count, nor does a class of hooks with ``changes_results = False``.
    """
    if id(hook) not in _codes:
        methods = [*changing_methods(hook)] if is_own(type(hook).__module__) else []
        code = code_of(methods) if methods else Fingerprint("")
        # What cannot be compared is of the present session.
        _codes[id(hook)] = hook, Fingerprint(code.digest, code.parts)
    return _codes[id(hook)][1]


def changing_methods(hook: Any) -> Iterator[Any]:
    """Yield the methods of a hook that take what they could change, or could replace the inputs of a node."""
    if not getattr(hook, "changes_results", True):
        return
    for name in sorted(set(dir(type(hook))) - TOO_LATE):
        method = getattr(hook, name)
        if hasattr(method, f"{HOOK_NAMESPACE}_impl") and (
            name == "before_node_run" or CHANGEABLE & inspect.signature(method).parameters.keys()
        ):
            yield method
