"""The packages whose code decides what a project's nodes make."""

from kedro.framework import project


def project_packages() -> tuple[str, ...]:
    """Return the project's own package, those that its hooks name, and this one."""
    named = [name for hooks in project.settings.HOOKS for name in getattr(hooks, "packages", ())]
    return (*filter(None, [project.PACKAGE_NAME]), *named, __package__)
