"""What a project's settings say of it, the code of its hooks, and the parameters of its registered pipelines.

Kedro calls ``register_pipelines()`` without arguments, and keeps its result for the life of the process. So this module
keeps the parameters of the session whose context was made last; if they change, its pipelines are made again.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from kedro.framework import project
from kedro.framework.hooks.markers import HOOK_NAMESPACE
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.utils import find_kedro_project

from codeprint import Fingerprint, fingerprint
from codeprint.modules import is_own
from kedro_provenance.files.digests import digest
from kedro_provenance.kedro_internals import request_pipelines, requested_names

CHANGEABLE = {"inputs", "outputs", "data", "catalog", "context", "conf_catalog", "feed_dict", "parameters", "pipeline"}
"""Arguments of hooks whose values a hook may change."""
TOO_LATE = {"after_pipeline_run", "after_dataset_saved", "on_node_error", "on_pipeline_error"}
"""Hooks that are called when results are saved, or none are."""

making_pipelines = Lock()
"""Held while a session makes pipelines by its parameters and checks both: a server has sessions in several threads."""

_by_package: dict[str | None, Mapping[str, Any]] = {}
_codes: dict[int, tuple[Any, Fingerprint]] = {}


def project_packages() -> tuple[str, ...]:
    """Return the project's own package and those of its hooks."""
    return (*filter(None, [project.PACKAGE_NAME]), *of_hooks("packages"))


def of_hooks(attribute: str) -> list[str]:
    """Return the names in an attribute of the project's hooks, such as `packages`, `late_tags` or `stores`."""
    return [name for hooks in project.settings.HOOKS for name in getattr(hooks, attribute, ())]


def alias_names() -> list[str]:
    """Return the names of the aliases of the project, such as ``production``, see `kedro_provenance.run.Aliases`."""
    return [name for hooks in project.settings.HOOKS if hasattr(hooks, "aliases") for name in hooks.aliases.names]


def is_alias(name: str) -> bool:
    """Whether an entry is a version of another entry from before the run, such as ``production.model``."""
    alias, dot, _ = name.partition(".")
    return bool(dot) and alias in alias_names()


def entry_of(name: str) -> str:
    """Return the entry that an alias is a version of; any other name unchanged."""
    return name.partition(".")[2] if is_alias(name) else name


def code_of(value: Any, values: Collection[str] = ()) -> Fingerprint:
    """Return the fingerprint of the project's code that an object runs, with these texts among its parameters."""
    packages = project_packages()
    begins = ("settings", "pipeline_registry", "pipelines.*")  # what Kedro imports before it runs anything
    imported = [f"{package}.{name}" for package in packages for name in begins]
    return fingerprint(value, packages=packages, values=values, imported=imported)


def all_pipelines() -> dict[str, Pipeline]:
    """Return all pipelines of the project by name, of whichever a command requests."""
    requested = requested_names()
    request_pipelines(None)
    try:
        return dict(pipelines)
    finally:
        request_pipelines(requested)


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


def use_parameters(parameters: Mapping[str, Any]) -> None:
    """Set the parameters of the pipelines, which are made again if these have changed."""
    if parameters == parameters_in_use():
        return
    _by_package[project.PACKAGE_NAME] = parameters
    requested = requested_names()
    pipelines.configure(f"{project.PACKAGE_NAME}.pipeline_registry")
    request_pipelines(requested)


def parameters_in_use() -> Mapping[str, Any] | None:
    """Return the object with the pipelines' parameters, if any; another object means that pipelines were made again."""
    return _by_package.get(project.PACKAGE_NAME)


def session_parameters() -> Mapping[str, Any]:
    """Return the parameters of the session whose context was made last; those of the base environment without any."""
    parameters = parameters_in_use()
    return base_parameters() if parameters is None else parameters


def base_parameters(conf_source: str | Path | None = None) -> dict[str, Any]:
    """Return the parameters of the base environment alone, by default of the project around the current folder."""
    folder = find_kedro_project(Path.cwd()) or Path.cwd()
    arguments = dict(project.settings.CONFIG_LOADER_ARGS)
    arguments["default_run_env"] = arguments["base_env"]
    source = str(conf_source or folder / project.settings.CONF_SOURCE)
    return project.settings.CONFIG_LOADER_CLASS(source, **arguments)["parameters"]


def requested_pipelines() -> Collection[str] | None:
    """Return the names of the pipelines that a command requests; None for all of them."""
    requested = requested_names()
    return None if requested is None or "__default__" in requested else requested
