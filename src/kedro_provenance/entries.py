"""A catalog that knows the configuration of its entries, and may load other versions or places of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsspec.utils import get_protocol
from kedro.io import AbstractDataset, CatalogConfigResolver, DataCatalog, DatasetError
from kedro.io.core import is_parameter

from kedro_provenance.datasets import at_local_path, configuration, is_in_memory, reusable
from kedro_provenance.errors import quoted_value
from kedro_provenance.files.storage import ADDRESSES, is_remote
from kedro_provenance.kedro_internals import CatalogOfCopies
from kedro_provenance.layers import state_layer


class ConfiguredCatalog(CatalogOfCopies):
    """A catalog that returns the configuration of an entry, also of one that a pattern or code has made.

    An entry without credentials takes those with its own name or that of its protocol, such as `s3`, if there are any.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pinned: dict[str, AbstractDataset] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._configured: set[str] = set()
        self._in_code: dict[str, AbstractDataset] = {}
        super().__init__(*args, **kwargs)

    @classmethod
    def from_config(
        cls, catalog: dict[str, dict[str, Any]] | None, credentials: Any = None, *args: Any, **kwargs: Any
    ) -> DataCatalog:
        """Make a catalog from configuration; raise DatasetError for an entry that is no block."""
        for name, entry in (catalog or {}).items():
            if not isinstance(entry, Mapping):
                raise DatasetError(
                    f"The catalog entry {name} is {quoted_value(entry)}, but an entry is a block with a `type`. A "
                    "missing table is `{type: MemoryDataset, data: null}`"
                )
        entries = {name: with_credentials(name, entry, credentials or {}) for name, entry in (catalog or {}).items()}
        return super().from_config(entries, credentials, *args, **kwargs)

    def get(self, key: str, *args: Any, **kwargs: Any) -> AbstractDataset | None:
        """Return the dataset of an entry, of its pinned version if any."""
        return self._pinned.get(key) or super().get(key, *args, **kwargs)

    def __setitem__(self, key: str, value: Any) -> None:
        is_first_use = key in self._configured and key not in self.keys()  # for which Kedro makes the dataset
        super().__setitem__(key, value)
        if isinstance(value, AbstractDataset) and not is_parameter(key):
            state_layer(value, key)
        if is_first_use and isinstance(value, AbstractDataset):
            return
        self._entries.pop(key, None)
        self._in_code.pop(key, None)
        if not isinstance(value, AbstractDataset):
            self._configured.add(key)
        elif not is_in_memory(value):
            self._in_code[key] = value

    def entry(self, ds_name: str) -> dict[str, Any]:
        """Return the configuration of an entry, by its pattern if it has one; to match patterns takes a while.

        The configuration of a dataset that code has put into the catalog, such as a hook, is in its arguments.
        """
        if ds_name not in self._entries:
            made = self._in_code.get(ds_name)
            if made is None:
                self._entries[ds_name] = self.config_resolver.resolve_pattern(ds_name)
            elif configuration(made):
                config, credentials, *_ = type(self)({ds_name: made}).to_config()
                self._entries[ds_name] = CatalogConfigResolver(config, credentials).resolve_pattern(ds_name)
            else:
                self._entries[ds_name] = {}
        return self._entries[ds_name]

    def pin(self, versions: Mapping[str, str]) -> None:
        """Load these versions, by entry, instead of the newest ones."""
        for ds_name, version in versions.items():
            self.reconfigure(ds_name, self.entry(ds_name), load_versions={ds_name: version})

    def move(self, ds_name: str, folder: Path) -> None:
        """Load and save an entry in another local folder from now on; raise ValueError if it is in no file."""
        entry = self.entry(ds_name)
        if "filepath" not in entry:
            raise ValueError(
                f"The catalog entry {ds_name} has no filepath, so the output of its node cannot be kept elsewhere."
            )
        self.reconfigure(ds_name, at_local_path(entry, folder / Path(entry["filepath"]).name))

    def reconfigure(self, ds_name: str, entry: dict[str, Any], **versions: Any) -> None:
        """Load and save an entry by another configuration from now on."""
        self._pinned[ds_name] = type(self).from_config({ds_name: entry}, **versions)[ds_name]

    def to_config(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, str | None], str | None]:
        """Return what ``from_config`` takes to make this catalog again."""
        config, credentials, load_versions, save_version = super().to_config()
        return {name: reusable(entry) for name, entry in config.items()}, credentials, load_versions, save_version


def with_credentials(name: str, entry: Any, credentials: Mapping[str, Any]) -> Any:
    """Add the credentials of its name or protocol to a catalog entry, if it has none and they exist."""
    protocols = [get_protocol(entry[key]) for key in ADDRESSES if is_remote(entry.get(key))]
    given = next((block for block in (name, *protocols) if block in credentials), None)
    return {"credentials": given} | dict(entry) if given else entry
