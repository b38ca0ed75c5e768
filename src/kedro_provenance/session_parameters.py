"""The parameters of the registered pipelines, and the pipelines that a command requests.

Kedro calls ``register_pipelines()`` without arguments, and keeps its result for the life of the process. So this module
keeps the parameters of the session whose context was made last; if they change, its pipelines are made again.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from kedro.framework import project
from kedro.framework.project import pipelines, settings
from kedro.utils import find_kedro_project

from kedro_provenance.kedro_internals import requested_names

making_pipelines = Lock()
"""Held while a session makes pipelines by its parameters and checks both: a server has sessions in several threads."""

_by_package: dict[str | None, Mapping[str, Any]] = {}


def use_parameters(parameters: Mapping[str, Any]) -> None:
    """Set the parameters of the pipelines, which are made again if these have changed."""
    if parameters == parameters_in_use():
        return
    _by_package[project.PACKAGE_NAME] = parameters
    requested = requested_names()
    pipelines.configure(f"{project.PACKAGE_NAME}.pipeline_registry")
    pipelines.set_requested(requested)


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
    arguments = dict(settings.CONFIG_LOADER_ARGS)
    arguments["default_run_env"] = arguments["base_env"]
    return settings.CONFIG_LOADER_CLASS(str(conf_source or folder / settings.CONF_SOURCE), **arguments)["parameters"]


def requested_pipelines() -> Collection[str] | None:
    """Return the names of the pipelines that a command requests; None for all of them."""
    requested = requested_names()
    return None if requested is None or "__default__" in requested else requested
