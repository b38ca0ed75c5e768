"""A load-only dataset of the forgotten users."""

from typing import ClassVar

import polars as pl
from kedro_datasets.json import JSONDataset

from reclora_kedro.datasets.load_only import NewestVersionDataset

SCHEMA = {"salt": pl.String, "digest": pl.String}


class ForgottenUsersDataset(NewestVersionDataset):
    """Loads the newest version of the entry `forgotten_users` as salt and digest; empty if there is no version."""

    KIND: ClassVar = JSONDataset

    def load(self) -> pl.DataFrame:
        """Load the table, whose content changes whenever the users do."""
        stored = self.newest() or {"salt": "", "digests": []}
        return pl.DataFrame([(stored["salt"], each) for each in stored["digests"]], schema=SCHEMA, orient="row")
