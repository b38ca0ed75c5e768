"""The catalog of a run, and what its entries' configuration says."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, AbstractVersionedDataset, DataCatalog, DatasetError
from kedro.io.core import VersionNotFoundError, get_protocol_and_path

from reclora_kedro.atomic import atomic_folder
from reclora_kedro.provenance import FILE, Provenance, is_intact, read_provenance


class AtomicCatalog(DataCatalog):
    """Catalog that saves each version of local files whole or not at all, and loads what was saved or nothing.

    While an entry saves, a dataset of the same configuration takes its place that writes to a draft; the complete
    version then moves in among the others. A kill, a full disk or an error leaves no half version, and earlier
    versions are never touched. Entries in memory, without versions or on remote storage are saved as Kedro does.

    A version that a node saves takes its provenance along. Whoever loads it later gets the files that were saved: a
    version with other files is refused.

    Attributes:
        provenances: by the name of an entry, what its next version is made of.
        outdated: entries whose newest version doesn't fit this run; they count as missing until they are saved.
        mixed: sentences about entries that this run reads, and that do not fit together.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._drafts: dict[str, AbstractDataset] = {}
        self.provenances: dict[str, Provenance] = {}
        self.outdated: set[str] = set()
        self.mixed: list[str] = []
        super().__init__(*args, **kwargs)

    def __getitem__(self, ds_name: str) -> AbstractDataset:
        return self._drafts[ds_name] if ds_name in self._drafts else super().__getitem__(ds_name)

    def save(self, ds_name: str, data: Any) -> None:
        """Validate data and save them to an entry.

        Raises:
            DatasetNotFoundError: there is no such entry.
            DatasetError: the dataset cannot save the data, or its version is there already.
            OSError: the version does not fit on the disk, or cannot be moved into its place.
        """
        dataset = self[ds_name]
        folder = version_folder(dataset)
        if folder is None or folder.exists() or folder.parent.is_file():  # Kedro refuses the latter two, and says why
            super().save(ds_name, data)
            return
        config, credentials, load_versions, _ = AtomicCatalog({ds_name: dataset}).to_config()
        with atomic_folder(folder) as draft:
            config[ds_name]["filepath"] = str(draft.parent)
            # Load versions may be null: Kedro gives and takes them so, whatever its annotation of what it takes says.
            drafts = DataCatalog.from_config(config, credentials, load_versions, folder.name)  # type: ignore[arg-type]
            self._drafts[ds_name] = drafts[ds_name]
            try:
                super().save(ds_name, data)
                if ds_name in self.provenances:
                    self.provenances.pop(ds_name).write(draft)
            except DatasetError as error:
                raise DatasetError(str(error).replace(str(draft.parent), str(folder.parent))) from error.__cause__
            finally:
                del self._drafts[ds_name]
        dataset.release()  # it may remember which versions there were
        self.outdated.discard(ds_name)

    def load(self, ds_name: str, version: str | None = None) -> Any:
        """Load an entry.

        Raises:
            DatasetNotFoundError: there is no such entry.
            DatasetError: the dataset cannot load the data, or their files are not those that were saved.
        """
        folder = loaded_folder(self.get(ds_name), version)
        provenance = folder and read_provenance(folder)
        if folder and provenance and not is_intact(folder, provenance):
            raise DatasetError(
                f"The files of {ds_name} in {folder} are not those that were saved there: something changed them. They "
                "were not read. Make them again with `kedro run --only-missing-outputs`, name another version "
                f"with --load-versions, or, if the change is meant, remove {folder / FILE}."
            )
        return super().load(ds_name, version)

    def exists(self, ds_name: str) -> bool:
        """Whether an entry has data that fit this run."""
        return ds_name not in self.outdated and super().exists(ds_name)

    def provenance(self, ds_name: str) -> Provenance | None:
        """What the version that would be loaded was made of; None if there is none, or if nothing says so."""
        folder = loaded_folder(self.get(ds_name))
        return read_provenance(folder) if folder else None

    def to_config(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, str | None], str | None]:
        """Return what ``from_config`` takes to make this catalog again."""
        config, credentials, load_versions, save_version = super().to_config()
        for entry in config.values():  # Kedro 1.7 nests the arguments of a class that inherits its __init__
            entry.pop("args", None)
            entry.update(entry.pop("kwargs", {}))
            if entry.pop("version", None):
                entry["versioned"] = True
        return config, credentials, load_versions, save_version


def configuration(dataset: AbstractDataset | None) -> dict[str, Any]:
    """Configuration of a dataset, as a catalog file would give it; empty for data in memory."""
    config, *_ = AtomicCatalog({"dataset": dataset} if dataset else {}).to_config()
    return config.get("dataset", {})


def local_path(dataset: AbstractDataset | None) -> Path | None:
    """The local file or folder that a dataset's configuration names, if it names one."""
    config = configuration(dataset)
    protocol, path = get_protocol_and_path(config.get("filepath") or config.get("source") or "")
    return Path(path) if path and protocol == "file" else None


def version_folder(dataset: AbstractDataset) -> Path | None:
    """Folder of the version that a dataset will save; None if it keeps no versions in local files."""
    version = dataset.resolve_save_version() if isinstance(dataset, AbstractVersionedDataset) else None
    path = local_path(dataset)
    return path / version if path and version else None


def loaded_folder(dataset: AbstractDataset | None, version: str | None = None) -> Path | None:
    """Folder of the version that a dataset loads, the newest one if none is named.

    None if there is none, or if the dataset keeps no versions in local files.
    """
    path = local_path(dataset)
    if not isinstance(dataset, AbstractVersionedDataset) or path is None:
        return None
    try:
        version = version or dataset.resolve_load_version()
    except VersionNotFoundError:
        return None
    return path / version if version else None
