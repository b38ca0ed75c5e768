"""Sessions of the project, and what they know of it."""

from copy import deepcopy
from functools import cached_property
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from kedro.framework.context import CatalogCommandsMixin, KedroContext, compose_classes
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol
from kedro.runner import AbstractRunner, SequentialRunner

from reclora_kedro.parameters import with_copies
from reclora_kedro.runs.catalog import AtomicCatalog
from reclora_kedro.runs.manifest import git_revision
from reclora_kedro.runs.run import data_folder
from reclora_kedro.runs.runner import CELLS, IncrementalRunner
from reclora_kedro.runs.unfinished import was_unfinished


class CachingConfigLoader(OmegaConfigLoader):
    """Reads the files of a kind once; Kedro and the start of a run ask for parameters and globals several times.

    Entries of parameters that are like others are copies of these, see `reclora_kedro.parameters.copied`.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The configuration of a kind, such as ``parameters``; a copy, which may be changed."""
        if key not in self:
            found = super().__getitem__(key)
            self[key] = with_copies(found) if key == "parameters" else found
        return deepcopy(super().__getitem__(key))


class AtomicContext(KedroContext):
    """A context whose catalog is that of runs in notebooks and in kedro-viz, too: for these, Kedro takes its own."""

    @property
    def catalog(self) -> CatalogProtocol:
        """The catalog."""
        return self._get_catalog(compose_classes(AtomicCatalog, CatalogCommandsMixin))


class ResumingSession(KedroSession):
    """Runs as Kedro does, but when a command that did not end is typed again, it goes on: what fits is kept."""

    @cached_property
    def _config_loader(self) -> AbstractConfigLoader:
        return super()._get_config_loader()

    def _get_config_loader(self) -> AbstractConfigLoader:
        return self._config_loader

    def run(self, *, runner: AbstractRunner | None = None, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Run pipelines, see ``KedroSession.run``; after a run that did not end, with ``only_missing_outputs``.

        What is named SequentialRunner, or not named, is this project's runner. Kedro itself names all arguments.
        """
        data = data_folder(self._get_config_loader(), self._project_path)
        if was_unfinished(data, kwargs | {"env": self.store.get("env")}):
            kwargs["only_missing_outputs"] = True
        if runner is None or type(runner) is SequentialRunner:
            runner = IncrementalRunner(
                getattr(runner, "_is_async", False), git_revision(self._project_path), data / CELLS
            )
        return super().run(runner=runner, **kwargs)
