"""Aliases: entries that are versions of other entries from before a run, such as ``production.model``.

The project says which versions they are. The plug-in asks it which ones to load and which ones must stay, and counts
what is read by an alias as of another time than what the run makes.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from kedro.framework import project

if TYPE_CHECKING:
    from kedro_provenance.catalog import AtomicCatalog
    from kedro_provenance.run import Run


class Aliases:
    """The aliases of a project, by default none; a project derives its own, and gives it to `ProvenanceHooks`."""

    names: Collection[str] = ()  # such as `production`: an entry `production.model` is a version of `model`

    def versions_to_load(self, run: "Run") -> dict[str, str]:
        """Return the versions that a run loads in place of the newest ones, by entry."""
        return {}

    def begin(self, run: "Run") -> None:
        """Prepare a run that has been accepted and holds its lock, such as by data that its nodes need."""

    def entries_to_fit(self, run: "Run") -> set[str]:
        """Return entries that must be of one origin with the inputs of a run, besides these."""
        return set()

    def remedy(self, run: "Run") -> str | None:
        """Return what to do about inputs of different origin; None for the plug-in's own advice."""
        return None

    def versions_in_use(self, catalog: "AtomicCatalog") -> set[tuple[str, str]]:
        """Return entries and versions that must not be removed."""
        return set()


def project_aliases() -> Aliases:
    """Return the aliases that the hooks in the project's settings have."""
    return next((hooks.aliases for hooks in project.settings.HOOKS if hasattr(hooks, "aliases")), Aliases())


def is_alias(name: str) -> bool:
    """Whether an entry is a version of another entry from before the run."""
    alias, dot, _ = name.partition(".")
    return bool(dot) and alias in project_aliases().names


def entry_of(name: str) -> str:
    """Return the entry that an alias is a version of; any other name unchanged."""
    return name.partition(".")[2] if is_alias(name) else name
