"""The parameters by which the registered pipelines are made, and which of the pipelines a command asks for.

Kedro calls ``register_pipelines()`` without arguments, and keeps what it returns for the life of the process. So the
parameters of a session are kept here, and the pipelines of a session with other parameters are made anew.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kedro.framework import project
from kedro.framework.project import pipelines, settings
from kedro.utils import find_kedro_project

_parameters: Mapping[str, Any] | None = None


def use_parameters(parameters: Mapping[str, Any]) -> None:
    """Have the pipelines made by a session's parameters, and made anew where those of another session differ."""
    global _parameters
    if parameters == _parameters:
        return
    _parameters = parameters
    requested = _requested()
    pipelines.configure(f"{project.PACKAGE_NAME}.pipeline_registry")
    pipelines.set_requested(requested)


def session_parameters() -> Mapping[str, Any]:
    """Return the parameters of the session whose context was made last; without any, those of the base environment."""
    return base_parameters() if _parameters is None else _parameters


def base_parameters(conf_source: str | None = None) -> dict[str, Any]:
    """Return the parameters of the base environment alone.

    Args:
        conf_source: the folder or archive of the configuration; by default that of the project around the current
            folder.
    """
    folder = find_kedro_project(Path.cwd()) or Path.cwd()
    arguments = dict(settings.CONFIG_LOADER_ARGS)
    arguments["default_run_env"] = arguments["base_env"]
    return settings.CONFIG_LOADER_CLASS(conf_source or str(folder / settings.CONF_SOURCE), **arguments)["parameters"]


def requested_pipelines() -> Collection[str] | None:
    """Return the names of the pipelines that a command asks for; None for all of them."""
    requested = _requested()
    return None if requested is None or "__default__" in requested else requested


def _requested() -> list[str] | None:
    """Return the names given to ``pipelines.set_requested``: Kedro has no public way to ask for them."""
    return pipelines._requested_pipelines
