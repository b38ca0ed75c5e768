"""A run, as the functions of its start and end read it."""

import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fsspec.utils import get_protocol
from kedro.config import AbstractConfigLoader, MissingConfigException
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.context import KedroContext
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.files.storage import is_remote
from kedro_provenance.project import of_hooks
from kedro_provenance.records import FOLDER, Records
from kedro_provenance.stores import Store

Checks = Callable[[Pipeline, DataCatalog], Iterator[Callable[[], object]]]
"""Function that yields checks, which raise an error if a node of the pipeline would."""


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

    def versions_in_use(self, catalog: AtomicCatalog) -> set[tuple[str, str]]:
        """Return entries and versions that must not be removed."""
        return set()


@dataclass
class Run:
    """One run."""

    context: KedroContext
    params: Mapping[str, Any]  # Kedro's parameters of the command, such as `pipeline_names`
    pipeline: Pipeline  # the requested nodes
    catalog: AtomicCatalog
    checks: Sequence[Checks] = ()  # the project's own checks before its nodes run
    aliases: Aliases = field(default_factory=Aliases)
    to_run: Pipeline = field(init=False)  # all nodes, or with `--only-missing-outputs` those that are out of date
    pinned: dict[str, str] = field(default_factory=dict)  # versions that aliases have the run load, by entry
    mixed: list[str] = field(default_factory=list)  # sentences about entries that are read and do not fit together
    seconds: dict[Node, float] = field(default_factory=dict)  # duration of each finished node
    held: ExitStack = field(default_factory=ExitStack)  # resources to release at the end, such as the lock

    def __post_init__(self) -> None:
        self.to_run = self.pipeline

    @property
    def parameters(self) -> dict[str, Any]:
        """Nested blocks of all parameters of the session; empty where the project has none."""
        return configuration(self.context.config_loader, "parameters")

    @property
    def project(self) -> Path:
        """The project's folder."""
        return Path(self.context.project_path)

    @property
    def env(self) -> str | None:
        """Its environment; None for the default one."""
        return self.params["env"]

    @property
    def data_address(self) -> str:
        """Folder of the results, local or in an object storage: `data` of the globals."""
        return configuration(self.context.config_loader, "globals").get("data", "data")

    @property
    def data(self) -> Path:
        """Local folder of the results or, if these are in an object storage, of the run's notes on this machine."""
        return self.project / ("data" if is_remote(self.data_address) else self.data_address)

    @property
    def stores(self) -> list[Store]:
        """Stores of results by recipe: those of the project's hooks, and the shared cache, `cache` of the globals."""
        stores = [Store(str(self.data / folder)) for folder in of_hooks("stores")]
        settings = configuration(self.context.config_loader, "globals")
        if address := settings.get("cache"):
            credentials = configuration(self.context.config_loader, "credentials")
            options = credentials.get(get_protocol(address), {}) if is_remote(address) else {}
            place = str(address if is_remote(address) else self.project / address)
            secret = credentials.get("cache", {}).get("key", "")
            if "cache" in credentials and not (isinstance(secret, str) and secret):
                raise KedroCliError(
                    "`key` of the block `cache` in credentials.yml is not a text, or is empty. Set it to the text that "
                    "signs what is in the cache, or remove the block to take and give what is not signed."
                )
            is_read_only = bool(settings.get("cache_read_only"))
            stores.append(Store(place, options, is_cache=True, is_read_only=is_read_only, secret=secret))
        return stores

    @property
    def records(self) -> Records:
        """The records in the folder of the results."""
        return Records(self.data / FOLDER)

    @cached_property
    def revision(self) -> str | None:
        """Commit of the project's checkout, with "+changes" when files differ from it; None outside of git."""
        command = ["git", "-C", str(self.project), "describe", "--always", "--abbrev=40", "--exclude=*"]
        try:
            described = subprocess.run([*command, "--dirty=+changes"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return described.stdout.strip()


def configuration(loader: AbstractConfigLoader, kind: str) -> dict[str, Any]:
    """Return the configuration of a kind, such as `parameters`; empty if there is none."""
    with suppress(MissingConfigException):
        return loader[kind]
    return {}
