"""What a dataset is, by its configuration, and where its data lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from kedro.io import AbstractDataset, AbstractVersionedDataset, DataCatalog, MemoryDataset
from kedro.io.core import VersionNotFoundError, get_protocol_and_path

from kedro_provenance.files.storage import OPEN_ARGS, is_remote
from kedro_provenance.remote_versions import RemoteVersions

_configurations: WeakKeyDictionary[AbstractDataset, dict[str, Any]] = WeakKeyDictionary()


def entry_name(name: str) -> str:
    """Return the name that an entry has in all of its formats, such as ``table`` of ``table@pandas``."""
    return name.partition("@")[0]


def is_of_kind(dataset: AbstractDataset | None, name: str) -> bool:
    """Whether a dataset is of a class of this name, or of one that inherits from it."""
    return any(kind.__name__ == name for kind in type(dataset).__mro__)


def cannot_tell(dataset: AbstractDataset | None) -> bool:
    """Whether a dataset has no way to find out if its data exist."""
    return dataset is not None and type(dataset)._exists is AbstractDataset._exists


def is_in_memory(dataset: AbstractDataset | None) -> bool:
    """Whether data are kept in memory alone, as are those in no catalog, whose datasets Kedro makes as a run begins."""
    return dataset is None or isinstance(dataset, MemoryDataset)


def is_versioned(dataset: Any) -> bool:
    """Whether a dataset keeps versions, so that its path is a folder of them."""
    return isinstance(dataset, AbstractVersionedDataset) and dataset.resolve_save_version() is not None


def is_scratch(dataset: AbstractDataset | type[AbstractDataset] | None) -> bool:
    """Whether a dataset, or a type of datasets, keeps a node's work for the case of an interruption: checkpoints.

    Before it is loaded, its `recipe_key` is set to that of the node's recipe; its `clear` removes everything.
    """
    return hasattr(dataset, "recipe_key")


def configuration(dataset: AbstractDataset | None) -> dict[str, Any]:
    """Return the configuration of a dataset; empty in memory, and if it holds what cannot be copied: a connection."""
    if dataset is None:
        return {}
    if dataset not in _configurations:
        try:
            config, *_ = DataCatalog({"dataset": dataset}).to_config()
        except Exception:  # whatever an object raises that cannot be copied
            config = {}
        _configurations[dataset] = reusable(config.get("dataset", {}))
    return _configurations[dataset]


def reusable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that Kedro gives as one that it takes: it nests arguments that a class inherits."""
    given = {name: value for name, value in entry.items() if name not in ("args", "kwargs")} | entry.get("kwargs", {})
    return {**given, "versioned": True} if given.pop("version", None) else given


def at_local_path(entry: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the configuration of an entry with another local file or folder."""
    moved = {**entry, "filepath": str(path)}
    if is_remote(entry["filepath"]):
        moved.pop("credentials", None)
        if fs_args := moved.pop("fs_args", None):
            moved["fs_args"] = {key: value for key, value in fs_args.items() if key in OPEN_ARGS}
    return moved


def location(dataset: AbstractDataset | None) -> str:
    """Return the location of a dataset's data, as in its catalog entry."""
    remote = remote_versions(dataset)
    return remote.address if remote else str(configuration(dataset).get("filepath"))


def local_path(dataset: AbstractDataset | None) -> Path | None:
    """Return the local file or folder of a dataset, or of the one that a cached dataset saves to.

    A dataset that notes in its folder what was read has none: the folder is not what was saved.
    """
    config = configuration(dataset)
    if is_of_kind(dataset, "CachedDataset") and isinstance(config.get("dataset"), Mapping):
        config = config["dataset"]
    is_folder = is_of_kind(dataset, "PartitionedDataset") and not is_of_kind(dataset, "IncrementalDataset")
    address = config.get("filepath") or config.get("source") or (config.get("path") if is_folder else None)
    protocol, path = get_protocol_and_path(str(address or ""))
    return Path(path) if path and protocol == "file" else None


def unversioned_path(dataset: AbstractDataset | None) -> Path | None:
    """Return the local file or folder of a dataset that keeps no versions; None if it keeps some, or has none."""
    return None if is_versioned(dataset) or is_in_memory(dataset) else local_path(dataset)


def version_folder(dataset: AbstractDataset) -> Path | None:
    """Return the folder of the version that a dataset will save; None if it keeps no versions in local files."""
    version = dataset.resolve_save_version() if isinstance(dataset, AbstractVersionedDataset) else None
    path = local_path(dataset)
    return path / version if path and version else None


def loaded_version(dataset: AbstractDataset | None) -> str | None:
    """Return the version that a dataset loads; None if there is none, or it keeps no versions."""
    try:
        return dataset.resolve_load_version() if isinstance(dataset, AbstractVersionedDataset) else None
    except VersionNotFoundError:
        return None


def loaded_folder(dataset: AbstractDataset | None, version: str | None = None) -> Path | None:
    """Return the folder of a version that a dataset loads, by default the newest; None without one in local files."""
    if remote_versions(dataset):
        return None
    path, version = local_path(dataset), version or loaded_version(dataset)
    return path / version if path and version else None


def remote_versions(dataset: AbstractDataset | None) -> RemoteVersions | None:
    """Return the versions of a dataset in an object storage; None if it has none there."""
    return getattr(dataset, "remote_versions", None)
