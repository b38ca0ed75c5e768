"""A load-only dataset of the forgotten users."""

from typing import Any, ClassVar

import polars as pl
from kedro.io.core import Version
from kedro_datasets.json import JSONDataset

from reclora_kedro.datasets.load_only import LoadOnlyDataset

SCHEMA = {"salt": pl.String, "digest": pl.String}


class ForgottenUsersDataset(LoadOnlyDataset):
    """Loads the newest version of the entry `forgotten_users` as salt and digest; empty if there is no version."""

    RESOURCES: ClassVar = ("path",)  # the users decide what is made, and not where they are written down

    def __init__(
        self, *, path: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._newest = JSONDataset(filepath=path, version=Version(None, None), credentials=credentials)
        self.metadata = metadata

    def load(self) -> pl.DataFrame:
        """Load the table, whose content changes whenever the users do."""
        self._newest.release()  # it may remember which versions there were
        stored = self._newest.load() if self._newest.exists() else {"salt": "", "digests": []}
        return pl.DataFrame([(stored["salt"], each) for each in stored["digests"]], schema=SCHEMA, orient="row")

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path}
