"""What the hooks in a project's settings say of it."""

from collections.abc import Collection
from typing import Any

from kedro.framework import project
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from codeprint import Fingerprint, fingerprint
from kedro_provenance.kedro_internals import requested_names


def project_packages() -> tuple[str, ...]:
    """Return the project's own package and those of its hooks."""
    named = [name for hooks in project.settings.HOOKS for name in getattr(hooks, "packages", ())]
    return (*filter(None, [project.PACKAGE_NAME]), *named)


def code_of(value: Any, values: Collection[str] = ()) -> Fingerprint:
    """Return the fingerprint of the project's code that an object runs.

    Args:
        values: texts among the parameters: names or dotted paths of modules, or names of entry points.
    """
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


def late_tags() -> set[str]:
    """Return the tags of nodes that run after all others that do not depend on them."""
    return {tag for hooks in project.settings.HOOKS for tag in getattr(hooks, "late_tags", ())}


def store_folders() -> list[str]:
    """Return the folders, relative to that of the data, with results by recipe."""
    return [folder for hooks in project.settings.HOOKS for folder in getattr(hooks, "stores", ())]
