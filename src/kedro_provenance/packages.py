"""What the hooks in a project's settings say of it: its packages, and the tags of nodes that run late."""

from kedro.framework import project


def project_packages() -> tuple[str, ...]:
    """Return the project's own package and those of its hooks."""
    named = [name for hooks in project.settings.HOOKS for name in getattr(hooks, "packages", ())]
    return (*filter(None, [project.PACKAGE_NAME]), *named)


def late_tags() -> set[str]:
    """Return the tags of nodes that run after all others that do not depend on them."""
    return {tag for hooks in project.settings.HOOKS for tag in getattr(hooks, "late_tags", ())}
