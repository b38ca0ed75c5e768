"""Load-only datasets of what a run reads of the versions before it."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import polars as pl
from kedro.io import AbstractVersionedDataset, Version
from kedro_datasets.json import JSONDataset
from kedro_datasets.polars import EagerPolarsDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset
from reclora_kedro.ingestion.events import PLAIN

FORGOTTEN = {"salt": pl.String, "digest": pl.String}
WITHHELD = PLAIN.table | dict.fromkeys(("user_id", "item_id", "source", "group", "alarm"), pl.String)


class NewestVersionDataset(LoadOnlyDataset):
    """Loads the newest version of another entry, if there is any, by the path of its versions."""

    RESOURCES: ClassVar = ("path",)  # the data decide what is made, and not where they are written down
    KIND: ClassVar[Callable[..., AbstractVersionedDataset[Any, Any]]]
    """Type of that entry's dataset."""

    def __init__(
        self, *, path: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._newest = self.KIND(filepath=path, version=Version(None, None), credentials=credentials)
        self.metadata = metadata

    def newest(self) -> Any | None:
        """Return the data of the newest version now; None if there is none."""
        self._newest.release()  # it may remember which versions there were
        return self._newest.load() if self._newest.exists() else None

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path}


class ForgottenUsersDataset(NewestVersionDataset):
    """Loads the newest version of the entry `forgotten_users` as salt and digest; empty if there is no version."""

    KIND: ClassVar = JSONDataset

    def load(self) -> pl.DataFrame:
        """Load the table, whose content changes whenever the users do."""
        stored = self.newest() or {"salt": "", "digests": []}
        return pl.DataFrame([(stored["salt"], each) for each in stored["digests"]], schema=FORGOTTEN, orient="row")


class WithheldInteractionsDataset(NewestVersionDataset):
    """Loads the newest version of the entry `quarantined_interactions`; empty if there is no version."""

    KIND: ClassVar = staticmethod(partial(EagerPolarsDataset, file_format="parquet"))

    def load(self) -> pl.DataFrame:
        """Load the table, whose content changes with every update."""
        newest = self.newest()
        return pl.DataFrame(schema=WITHHELD) if newest is None else newest
