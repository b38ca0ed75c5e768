"""Names of aliases: entries that are versions of other entries from before a run, such as ``production.model``.

The project says which versions they are, see `kedro_provenance.run.Aliases`. What is read by an alias counts as of
another time than what the run makes.
"""

from kedro.framework import project


def alias_names() -> list[str]:
    """Return the names of the aliases of the project, such as ``production``."""
    return [name for hooks in project.settings.HOOKS if hasattr(hooks, "aliases") for name in hooks.aliases.names]


def is_alias(name: str) -> bool:
    """Whether an entry is a version of another entry from before the run."""
    alias, dot, _ = name.partition(".")
    return bool(dot) and alias in alias_names()


def entry_of(name: str) -> str:
    """Return the entry that an alias is a version of; any other name unchanged."""
    return name.partition(".")[2] if is_alias(name) else name
