"""The catalog of a run, and the configuration of its entries."""

import json
import logging
import os
import pickle
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from fsspec.utils import get_protocol
from kedro.io import (
    AbstractDataset,
    AbstractVersionedDataset,
    CatalogConfigResolver,
    DataCatalog,
    DatasetError,
    MemoryDataset,
)
from kedro.io.core import VersionNotFoundError, get_protocol_and_path, is_parameter, parse_dataset_definition
from kedro.pipeline import Node

from codeprint.files import files_in
from codeprint.pickles import kinds_in, pickled_kinds
from kedro_provenance.aliases import is_alias
from kedro_provenance.entry_digests import digest_of_entry
from kedro_provenance.errors import quoted_value
from kedro_provenance.files.atomic import atomic_file, atomic_folder
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import ADDRESSES, OPEN_ARGS, StorageError, is_remote, storage_options
from kedro_provenance.kedro_internals import AdaptingCatalog, reading_remote
from kedro_provenance.lineage import LINEAGE
from kedro_provenance.project import project_packages
from kedro_provenance.recipe import FILE, Recipe, StoredVersion, content_of, local_versions, read_record, read_version
from kedro_provenance.remote_versions import RemoteVersions
from kedro_provenance.stores import Store

logger = logging.getLogger(__name__)

FORCED = "forced.json"  # file among the records
RAW = "raw"
LAYERS = (RAW, "intermediate", "primary", "feature", "model_input", "models", "model_output", "reporting")
FOLDER = re.compile(rf"(?:^|/)0\d_({'|'.join(LAYERS)})/")  # of the layers of Kedro's data engineering convention

_configurations: WeakKeyDictionary[AbstractDataset, dict[str, Any]] = WeakKeyDictionary()


class AtomicCatalog(AdaptingCatalog):
    """Catalog that saves each version of files as a whole, and loads complete versions only.

    While an entry saves, a dataset of the same configuration writes to a draft; the complete version is then moved
    among the others, which never change. Entries in memory or without versions are saved as by Kedro.

    Versions in an object storage are uploaded from drafts and fetched to the user's cache, see
    :class:`kedro_provenance.remote_versions.RemoteVersions`; the entry's dataset reads that copy. An entry without
    credentials takes those with its own name or that of its protocol, such as `s3`, if there are any.

    The provenance of data is saved with them: in the folder of a version, in a hidden file next to a single local file,
    or in this catalog for data in memory. A version whose files have changed is refused.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.node: Node | None = None  # the present one, once its outputs are announced
        self.making: dict[str, StoredVersion] = {}  # provenance of the next version of each entry
        self.made: StoredVersion | None = None  # provenance of what the node leaves
        self.begun = time.perf_counter()  # of the node
        self.raw_digests: dict[str, str] = {}  # of contents of entries that no node made, as far as they are known
        self.outdated: set[str] = set()  # entries that `exists` does not count, so that Kedro makes them again
        self.fitting: Set[str] = frozenset()  # names of nodes that the plan of the run keeps
        self.resumes = False  # whether the run continues an interrupted one
        self.revision: str | None = None  # git revision of the project's code, to save with outputs
        self.stores: Sequence[Store] = ()  # of earlier results by recipe, besides this catalog's versions
        self.records: Path | None = None  # folder of the records of data in no local file, and of nodes without data
        self.read: Set[str] = frozenset()  # entries that the nodes of the run read
        self._drafts: dict[str, AbstractDataset] = {}
        self._stored: dict[str, StoredVersion | None] = {}
        self._pinned: dict[str, AbstractDataset] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._configured: set[str] = set()
        self._in_code: dict[str, AbstractDataset] = {}
        self._with_layer: dict[str, AbstractDataset] = {}
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
                    "table that is not there is `{type: MemoryDataset, data: null}`"
                )
        entries = {name: with_credentials(name, entry, credentials or {}) for name, entry in (catalog or {}).items()}
        return super().from_config(entries, credentials, *args, **kwargs)

    def adapted(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return an entry with versions in an object storage as one that reads local copies of them."""
        if not (entry.get("versioned") and is_remote(entry.get("filepath"))):
            return entry
        versions = RemoteVersions(entry["filepath"], storage_options(entry))
        kind, _ = parse_dataset_definition({key: entry[key] for key in ("type", "versioned")})
        return at_local_path(entry, versions.folder) | {"type": reading_remote(versions, kind)}

    def get(self, key: str, *args: Any, **kwargs: Any) -> AbstractDataset | None:
        """Return the dataset of an entry, of its pinned version if any, which states its layer for kedro-viz."""
        dataset = self._pinned.get(key) or super().get(key, *args, **kwargs)
        if dataset is not None and self._with_layer.get(key) is not dataset and not is_parameter(key):
            state_layer(dataset, key)
            self._with_layer[key] = dataset
        return dataset

    def __getitem__(self, ds_name: str) -> AbstractDataset:
        return self._drafts[ds_name] if ds_name in self._drafts else super().__getitem__(ds_name)

    def __setitem__(self, key: str, value: Any) -> None:
        is_first_use = key in self._configured and key not in self.keys()  # for which Kedro makes the dataset
        super().__setitem__(key, value)
        if is_first_use and isinstance(value, AbstractDataset):
            return
        self._entries.pop(key, None)
        self._in_code.pop(key, None)
        if not isinstance(value, AbstractDataset):
            self._configured.add(key)
        elif not is_in_memory(value):
            self._in_code[key] = value

    def save(self, ds_name: str, data: Any) -> None:
        """Validate data and save them to an entry; raise DatasetError, or OSError where they do not fit on the disk."""
        dataset = self[ds_name]
        if (folder := version_folder(dataset)) is None:
            self._save_file(ds_name, data)
            return
        if folder.exists() or folder.parent.is_file():  # Kedro refuses both, and says why
            super().save(ds_name, data)
            return
        config, credentials, load_versions, _ = AtomicCatalog({ds_name: dataset}).to_config()
        with self._new_version(ds_name, folder) as draft:
            config[ds_name]["filepath"] = str(draft.parent)
            # Load versions may be null: Kedro gives and takes them so, whatever its annotation of what it takes says.
            drafts = DataCatalog.from_config(config, credentials, load_versions, folder.name)  # type: ignore[arg-type]
            self._drafts[ds_name] = drafted = drafts[ds_name]
            if hasattr(drafted, "before") and (before := loaded_folder(dataset)):  # it takes the version before, if any
                drafted.before = before / folder.parent.name
            try:
                super().save(ds_name, data)
            except DatasetError as error:
                raise DatasetError(str(error).replace(str(draft.parent), location(dataset))) from error.__cause__
            finally:
                del self._drafts[ds_name]

    def _save_file(self, ds_name: str, data: Any) -> None:
        """Save data without versions, and their recipe in a hidden file next to a local file, or among the records.

        The recipe is absent while the data are written, so that half a file is never taken for a complete one.
        """
        if record := self._record_of(ds_name):
            record.unlink(missing_ok=True)
        super().save(ds_name, data)
        if record:
            self._forget(ds_name)
        making = self.making.pop(ds_name, None)
        if record and making and (content := self._content_without_versions(ds_name)):
            path = unversioned_path(self.get(ds_name))
            kinds = kinds_of(path) if path else kinds_among(data)
            made = replace(making, content=content, seconds=time.perf_counter() - self.begun, kinds=kinds)
            atomic_file(record, made.to_json(record.parent, self._lineage))
        self.outdated.discard(ds_name)

    @property
    def _lineage(self) -> Path | None:
        """Folder of the descriptions of ancestors; None outside of runs, whose records have them."""
        return self.records / LINEAGE if self.records else None

    @property
    def forced(self) -> set[str]:
        """Names of the nodes that the next run runs whatever fits, see ``kedro provenance force``."""
        file = self.records / FORCED if self.records else None
        return {*json.loads(file.read_bytes())} if file and file.exists() else set()

    @forced.setter
    def forced(self, nodes: set[str]) -> None:
        assert self.records
        atomic_file(self.records / FORCED, json.dumps(sorted(nodes)).encode())

    def _record_of_node(self, node: str) -> Path | None:
        return self.records / f"node-{digest(node)}.json" if self.records else None

    def last_run(self, node: str) -> Recipe | None:
        """Return the recipe by which a node last ran that leaves nothing stored; None if none is recorded."""
        record = self._record_of_node(node)
        stored = read_record(record, lambda: "") if record else None
        return stored.recipe if stored else None

    def note_run(self, node: str, made: StoredVersion) -> None:
        """Record by what recipe a node has run that leaves nothing stored."""
        if record := self._record_of_node(node):
            atomic_file(record, made.to_json(record.parent, self._lineage))

    def _record_of(self, ds_name: str) -> Path | None:
        """Return the file of the record of data without versions; None for data in memory and for versions."""
        dataset = self.get(ds_name)
        if is_in_memory(dataset) or is_versioned(dataset) or is_scratch(dataset):
            return None
        if path := unversioned_path(dataset):
            return path.with_name(f".{path.name}.{FILE}")  # hidden, next to the file
        return self.records / f"{ds_name}.json" if self.records else None

    def _content_without_versions(self, ds_name: str) -> str | None:
        """Return the digest of data without versions; None if there are none, or they cannot be told from others."""
        if path := unversioned_path(self.get(ds_name)):
            return content_of(path) if path.exists() else None
        entry = self.entry(ds_name)
        with suppress(DatasetError, TypeError, ValueError):
            return digest_of_entry(entry, lambda: self.load(ds_name))
        return None

    def take(self, made: Mapping[str, StoredVersion]) -> None:
        """Save versions of earlier runs, by entry, as new ones: as links to their files where these can be made."""
        for ds_name, stored in made.items():
            folder = version_folder(self[ds_name])
            assert folder
            assert stored.folder
            making = self.making[ds_name]
            self.making[ds_name] = replace(making, seconds=stored.seconds, revision=stored.revision, kinds=stored.kinds)
            with self._new_version(ds_name, folder) as draft:
                copy = shutil.copy2 if self._is_shared(stored.folder) else link_or_copy
                left_out = shutil.ignore_patterns(FILE)
                shutil.copytree(stored.folder, draft, dirs_exist_ok=True, ignore=left_out, copy_function=copy)

    def _is_shared(self, folder: Path) -> bool:
        """Whether a folder lies in a local cache, to whose files nobody's versions may be linked."""
        caches = (store.address for store in self.stores if store.is_cache and not is_remote(store.address))
        return any(folder.is_relative_to(address) for address in caches)

    def share(self, names: Sequence[str]) -> None:
        """Put what a node has just saved into the shared cache, if others can tell that it is theirs, too."""
        caches = [store for store in self.stores if store.is_cache]
        stored = self.stored(names[0]) if caches and names else None
        folders = {name: folder for name in names if (folder := version_folder(self[name]))}
        if not (stored and stored.recipe) or stored.recipe.uncertain or len(folders) < len(names):
            return
        for store in caches:
            for name, folder in folders.items():
                try:
                    store.put(stored.recipe.key, name, folder.parent.name, folder)
                except OSError as error:
                    logger.warning("%s is not in the cache for others: %s", name, error)

    @contextmanager
    def _new_version(self, ds_name: str, folder: Path) -> Iterator[Path]:
        """Yield the draft of a version in a folder, and save it with its recipe once it is complete."""
        dataset = self.get(ds_name)
        remote = remote_versions(dataset)
        with atomic_folder(folder, shared=remote is not None) as draft:
            yield draft
            if making := self.making.pop(ds_name, None):
                seconds, kinds = making.seconds or time.perf_counter() - self.begun, making.kinds or kinds_of(draft)
                made = replace(making, seconds=seconds, kinds=kinds)
                made.write(draft, folder, None if remote else self._lineage)
            if remote:
                try:
                    remote.upload(draft, folder.name)
                except StorageError as error:
                    raise DatasetError(f"{ds_name}: {error}") from error
        self._forget(ds_name)
        self.outdated.discard(ds_name)

    def _forget(self, ds_name: str) -> None:
        """Forget what is known of the data of an entry, which are new, also under its names of other formats."""
        for name in {ds_name, *(each for each in self._stored if entry_name(each) == entry_name(ds_name))}:
            self._stored.pop(name, None)
            self.raw_digests.pop(name, None)
            if dataset := self.get(name):
                dataset.release()  # it may remember which files or versions there were

    def load(self, ds_name: str, version: str | None = None) -> Any:
        """Load an entry; raise DatasetError if it cannot be loaded, or its files are not those that were saved."""
        dataset = self.get(ds_name)
        if (remote := remote_versions(dataset)) and (named := version or loaded_version(dataset)):
            try:
                remote.fetch(named)
            except StorageError as error:
                raise DatasetError(f"{ds_name}: {error}") from error
        folder = loaded_folder(dataset, version)
        if folder and folder.is_dir() and not read_version(folder).is_intact:
            raise DatasetError(
                f"The files of {ds_name} in {folder} are not those that were saved there: something changed them. They "
                "were not read. Remove that folder, so that the version before is read or a run makes another one, "
                f"name a version with --load-versions, or, if the change is meant, remove {folder / FILE}."
            )
        return super().load(ds_name, version)

    def exists(self, ds_name: str) -> bool:
        """Return whether an entry's data exist and are up to date; if a dataset cannot tell, its record does."""
        if ds_name in self.outdated:
            return False
        return super().exists(ds_name) or (cannot_tell(self.get(ds_name)) and self.stored(ds_name) is not None)

    def stored(self, ds_name: str) -> StoredVersion | None:
        """Return the record of the data that would be loaded, which is looked up once; None if there is none."""
        if ds_name not in self._stored:
            dataset, stored = self.get(ds_name), None
            if remote := remote_versions(dataset):
                version = loaded_version(dataset)
                stored = remote.stored(version) if version and remote.has(version) else None
            elif (folder := loaded_folder(dataset)) and folder.is_dir():
                stored = read_version(folder)
            elif record := self._record_of(ds_name):
                stored = read_record(record, lambda: self._content_without_versions(ds_name))
                if stored and (path := unversioned_path(dataset)):
                    stored = replace(stored, folder=path)
            self._stored[ds_name] = stored
        return self._stored[ds_name]

    def entry(self, ds_name: str) -> dict[str, Any]:
        """Return the configuration of an entry, by its pattern if it has one; to match patterns takes a while.

        The configuration of a dataset that code has put into the catalog, such as a hook, is in its arguments.
        """
        if ds_name not in self._entries:
            made = self._in_code.get(ds_name)
            if made is None:
                self._entries[ds_name] = self.config_resolver.resolve_pattern(ds_name)
            elif configuration(made):
                config, credentials, *_ = AtomicCatalog({ds_name: made}).to_config()
                self._entries[ds_name] = CatalogConfigResolver(config, credentials).resolve_pattern(ds_name)
            else:
                self._entries[ds_name] = {}
        return self._entries[ds_name]

    def keep_in_memory(self, ds_name: str, made: StoredVersion) -> None:
        """Record what data in memory were made from: equal recipes make equal data."""
        assert made.recipe
        self._stored[ds_name] = replace(made, content=digest([made.recipe.key, ds_name]))

    def made_before(self, names: Sequence[str], key: str) -> dict[str, StoredVersion] | None:
        """Return intact versions of all outputs of a node that one run made by a recipe, or None."""
        versions = [{stored.run: stored for stored in self._versions(name, key) if stored.is_intact} for name in names]
        runs = [run for run in versions[0] if all(run in of_name for of_name in versions)]
        return {name: of_name[runs[0]] for name, of_name in zip(names, versions, strict=True)} if runs else None

    def _versions(self, ds_name: str, key: str) -> Iterator[StoredVersion]:
        """Yield the versions of an entry with this recipe, the newest first, and then those of stores."""
        dataset = self.get(ds_name)
        remote, path = remote_versions(dataset), local_path(dataset)
        if remote:
            yield from remote.made_by(key)
        elif path:
            yield from local_versions(path, key)
        for store in self.stores:
            try:
                yield from store.versions(key, ds_name, path.name) if path else ()
            except OSError as error:
                logger.warning("%s is not taken from %s: %s", ds_name, store.address, error)

    def pin(self, versions: Mapping[str, str]) -> None:
        """Load these versions, by entry, instead of the newest ones."""
        for ds_name, version in versions.items():
            entry = self.entry(ds_name)
            self._replace(ds_name, entry, load_versions={ds_name: version})

    def move(self, ds_name: str, folder: Path) -> None:
        """Load and save an entry in another local folder from now on; raise ValueError if it is in no file."""
        entry = self.entry(ds_name)
        if "filepath" not in entry:
            raise ValueError(
                f"The catalog entry {ds_name} has no filepath, so what its node leaves cannot be kept elsewhere."
            )
        self._replace(ds_name, at_local_path(entry, folder / Path(entry["filepath"]).name))

    def _replace(self, ds_name: str, entry: dict[str, Any], **versions: Any) -> None:
        self._pinned[ds_name] = type(self).from_config({ds_name: entry}, **versions)[ds_name]
        self._stored.pop(ds_name, None)

    def to_config(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, str | None], str | None]:
        """Return what ``from_config`` takes to make this catalog again."""
        config, credentials, load_versions, save_version = super().to_config()
        for entry in config.values():  # Kedro 1.7 nests the arguments of a class that inherits its __init__
            entry.pop("args", None)
            entry.update(entry.pop("kwargs", {}))
            if entry.pop("version", None):
                entry["versioned"] = True
        return config, credentials, load_versions, save_version


def entry_name(name: str) -> str:
    """Return the name that an entry has in all of its formats, such as ``table`` of ``table@pandas``."""
    return name.partition("@")[0]


def cannot_tell(dataset: AbstractDataset | None) -> bool:
    """Whether a dataset has no way to find out if its data exist."""
    return dataset is not None and type(dataset)._exists is AbstractDataset._exists


def kinds_of(path: Path) -> tuple[str, ...]:
    """Return the project's classes and functions that loading the files of data would import."""
    files = files_in(path) if path.is_dir() else [path]
    return tuple(sorted({kind for file in files for kind in pickled_kinds(file, project_packages())}))


def kinds_among(data: Any) -> tuple[str, ...]:
    """Return the project's classes and functions among data that are in no local file."""
    if hasattr(data, "columns"):  # a table, which may be large
        return ()
    with suppress(Exception):  # whatever an object raises that cannot be pickled
        return tuple(sorted(kinds_in(pickle.dumps(data, 5), project_packages())))
    return ()


def link_or_copy(source: str, target: str) -> None:
    """Link a file, whose content no run changes, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


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
            config, *_ = AtomicCatalog({"dataset": dataset}).to_config()
        except Exception:  # whatever an object raises that cannot be copied
            config = {}
        _configurations[dataset] = config.get("dataset", {})
    return _configurations[dataset]


def with_credentials(name: str, entry: Any, credentials: Mapping[str, Any]) -> Any:
    """Add the credentials of its name or protocol to a catalog entry, if it has none and they exist."""
    protocols = [get_protocol(entry[key]) for key in ADDRESSES if is_remote(entry.get(key))]
    given = next((block for block in (name, *protocols) if block in credentials), None)
    return {"credentials": given} | dict(entry) if given else entry


def at_local_path(entry: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the configuration of an entry with another local file or folder."""
    moved = {**entry, "filepath": str(path)}
    if is_remote(entry["filepath"]):
        moved.pop("credentials", None)
        if fs_args := moved.pop("fs_args", None):
            moved["fs_args"] = {key: value for key, value in fs_args.items() if key in OPEN_ARGS}
    return moved


def remote_versions(dataset: AbstractDataset | None) -> RemoteVersions | None:
    """Return the versions of a dataset in an object storage; None if it has none there."""
    return getattr(dataset, "remote_versions", None)


def state_layer(dataset: Any, name: str) -> None:
    """Write the layer of an entry into its dataset's metadata, where kedro-viz looks for it."""
    metadata = getattr(dataset, "metadata", None) or {}
    shown = metadata.get("kedro-viz") or {}
    dataset.metadata = metadata | {"kedro-viz": shown | {"layer": layer_of(name, location(dataset), metadata)}}


def layer_of(name: str, address: str, metadata: Mapping[str, Any] | None = None) -> str:
    """Return the layer of a catalog entry: the one that it states or of its folder, else ``raw``, as of aliases.

    Examples:
        >>> layer_of("items", "s3://shop/03_primary/items.parquet")
        'primary'
        >>> layer_of("rates", "https://example.org/rates.csv"), layer_of("a", "", {"kedro-viz": {"layer": "feature"}})
        ('raw', 'feature')
    """
    if is_alias(name):
        return RAW
    stated = ((metadata or {}).get("kedro-viz") or {}).get("layer")
    return str(stated or (FOLDER.findall(address) or [RAW])[-1])


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


def is_of_kind(dataset: AbstractDataset | None, name: str) -> bool:
    """Whether a dataset is of a class of this name, or of one that inherits from it."""
    return any(kind.__name__ == name for kind in type(dataset).__mro__)


def unversioned_path(dataset: AbstractDataset | None) -> Path | None:
    """Return the local file or folder of a dataset that keeps no versions; None if it keeps some, or has none."""
    return None if is_versioned(dataset) or is_in_memory(dataset) else local_path(dataset)


def is_in_memory(dataset: AbstractDataset | None) -> bool:
    """Whether data are kept in memory alone, as are those in no catalog, whose datasets Kedro makes as a run begins."""
    return dataset is None or isinstance(dataset, MemoryDataset)


def is_versioned(dataset: Any) -> bool:
    """Whether a dataset keeps versions, so that its path is a folder of them."""
    return isinstance(dataset, AbstractVersionedDataset) and dataset.resolve_save_version() is not None


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
