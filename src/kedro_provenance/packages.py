"""The packages whose code is part of recipes."""

from kedro.framework import project


def project_packages() -> tuple[str, ...]:
    """Return the project's own package, those of its hooks, and this one."""
    named = [name for hooks in project.settings.HOOKS for name in getattr(hooks, "packages", ())]
    return (*filter(None, [project.PACKAGE_NAME]), *named, __package__)
