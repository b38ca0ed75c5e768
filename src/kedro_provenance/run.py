"""One run, as the functions of its start see it."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.storage import is_remote


@dataclass
class Run:
    """One run.

    Attributes:
        context: of its session.
        params: what Kedro says of the command, such as `pipeline_names`.
        pipeline: the nodes that were asked for.
        catalog: where their data lie.
        to_run: the nodes that run: all, or with `--only-missing-outputs` those whose outputs don't fit.
        promoted: entries that it reads in the versions that the champion names.
        mixed: sentences about entries that the run reads, and that do not fit together.
        seconds: of each node that has ended.
        held: what the run holds until it ends, such as its lock.
    """

    context: KedroContext
    params: Mapping[str, Any]
    pipeline: Pipeline
    catalog: AtomicCatalog
    to_run: Pipeline = field(init=False)
    promoted: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    seconds: dict[Node, float] = field(default_factory=dict)
    held: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.to_run = self.pipeline

    @property
    def parameters(self) -> dict[str, Any]:
        """Nested blocks of all parameters of the session."""
        return self.context.config_loader["parameters"]

    @property
    def project(self) -> Path:
        """The project's folder."""
        return Path(self.context.project_path)

    @property
    def env(self) -> str | None:
        """Its environment; None for the default one."""
        return self.params["env"]

    @property
    def data(self) -> Path:
        """Folder of what runs leave in files on this machine."""
        return data_folder(self.context.config_loader, self.project)


def data_folder(loader: AbstractConfigLoader, project: Path) -> Path:
    """Folder of what an environment's runs leave; where that is an object storage, of their notes on this machine."""
    data = loader["globals"]["data"]
    return project / ("data" if is_remote(data) else data)
