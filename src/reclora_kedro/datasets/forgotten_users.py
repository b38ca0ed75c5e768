"""The users who were forgotten, as a load-only dataset."""

from typing import Any, ClassVar, NoReturn

import polars as pl
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import Version
from kedro_datasets.json import JSONDataset

SCHEMA = {"salt": pl.String, "digest": pl.String}


class ForgottenUsersDataset(AbstractDataset[NoReturn, pl.DataFrame]):
    """Loads the newest version of the entry `forgotten_users`, as salt and digest; no rows where there is none.

    Args:
        path: that entry's filepath.
        credentials: of an object storage.
        metadata: anything for plugins such as kedro-viz.
    """

    RESOURCES: ClassVar = ("path",)  # the users decide what is made, and not where they are written down

    def __init__(
        self, *, path: str, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._path = path
        self._newest = JSONDataset(filepath=path, version=Version(None, None), credentials=credentials)
        self.metadata = metadata

    def load(self) -> pl.DataFrame:
        """The table, whose content says whether the users are still the same."""
        self._newest.release()  # it may remember which versions there were
        stored = self._newest.load() if self._newest.exists() else {"salt": "", "digests": []}
        return pl.DataFrame([(stored["salt"], each) for each in stored["digests"]], schema=SCHEMA, orient="row")

    def save(self, data: NoReturn) -> None:
        """Nothing is saved here.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("The forgotten users are saved to the entry forgotten_users.")

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path}
