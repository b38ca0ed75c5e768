"""The packages whose code is part of recipes, wherever they are installed."""

from kedro.framework import project


def project_packages() -> tuple[str, ...]:
    """Return the project's own package and those of its hooks."""
    named = [name for hooks in project.settings.HOOKS for name in getattr(hooks, "packages", ())]
    return (*filter(None, [project.PACKAGE_NAME]), *named)
