"""The catalog of a run: it saves versions whole, loads what is intact, and records what data were made of."""

import logging
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DataCatalog, DatasetError
from kedro.pipeline import Node

from codeprint.files import files_in
from codeprint.pickles import kinds_in, pickled_kinds
from kedro_provenance.datasets import (
    cannot_tell,
    entry_name,
    loaded_folder,
    loaded_version,
    local_path,
    location,
    remote_versions,
    unversioned_path,
    version_folder,
)
from kedro_provenance.entries import ConfiguredCatalog
from kedro_provenance.entry_digests import digest_of_entry
from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import StorageError
from kedro_provenance.project import project_packages
from kedro_provenance.recipe import FILE, StoredVersion, content_of, local_versions, read_record, read_version
from kedro_provenance.records import Records
from kedro_provenance.stores import Store

logger = logging.getLogger(__name__)


class AtomicCatalog(ConfiguredCatalog):
    """Catalog that saves each version of files as a whole, and loads complete versions only.

    While an entry saves, a dataset of the same configuration writes to a draft; the complete version is then moved
    among the others, which never change. Entries in memory or without versions are saved as by Kedro.

    Versions in an object storage are uploaded from drafts and fetched to the user's cache, see
    :class:`kedro_provenance.remote_versions.RemoteVersions`; the entry's dataset reads that copy.

    The provenance of data is saved with them: in the folder of a version, in a hidden file next to a single local file,
    or in this catalog for data in memory. A version whose files have changed is refused.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.announced: dict[Node, StoredVersion] = {}  # nodes on their way, and the provenance of what they will leave
        self.making: dict[str, StoredVersion] = {}  # provenance of the next version of each entry
        self.raw_digests: dict[str, str] = {}  # of contents of entries that no node made, as far as they are known
        self.outdated: set[str] = set()  # entries that `exists` does not count, so that Kedro makes them again
        self.fitting: Set[str] = frozenset()  # names of nodes that the plan of the run keeps
        self.resumes = False  # whether the run continues an interrupted one
        self.revision: str | None = None  # git revision of the project's code, to save with outputs
        self.stores: Sequence[Store] = ()  # of earlier results by recipe, besides this catalog's versions
        self.records = Records()  # of data in no local file, and of nodes without data
        self.read: Set[str] = frozenset()  # entries that the nodes of the run read
        self._drafts: dict[str, AbstractDataset] = {}
        self._stored: dict[str, StoredVersion | None] = {}
        super().__init__(*args, **kwargs)

    def __getitem__(self, ds_name: str) -> AbstractDataset:
        return self._drafts[ds_name] if ds_name in self._drafts else super().__getitem__(ds_name)

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
        making, path = self.making.pop(ds_name, None), unversioned_path(self.get(ds_name))
        record, begun = self.records.file_of(ds_name, self.get(ds_name)), set[str]()
        if record and making and making.partitions and isinstance(data, Mapping):
            begun = self.records.begin(record, making, data)
        elif record:
            record.unlink(missing_ok=True)
        super().save(ds_name, data)
        if path and making and (unmade := begun and begun.difference(making.kept, data)):
            gone = {path / f"{name}{self.entry(ds_name).get('filename_suffix', '')}" for name in unmade}
            for file in (file for file in files_in(path) if not gone.isdisjoint((file, *file.parents))):
                file.unlink()
        if record:
            self._forget(ds_name)
        if record and making and (content := self._content_without_versions(ds_name)):
            kinds = kinds_of(path) if path else kinds_among(data)
            self.records.write(record, replace(making, content=content, seconds=making.elapsed, kinds=kinds))
        self.outdated.discard(ds_name)

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
                # To the files of a local cache, nobody's versions may be linked.
                is_shared = any(store.is_cache and stored.folder.is_relative_to(store.address) for store in self.stores)
                copy, left_out = shutil.copy2 if is_shared else link_or_copy, shutil.ignore_patterns(FILE)
                shutil.copytree(stored.folder, draft, dirs_exist_ok=True, ignore=left_out, copy_function=copy)

    def share(self, names: Sequence[str]) -> None:
        """Put what a node has just saved into the shared cache, if others can tell that it is theirs, too."""
        caches = [store for store in self.stores if store.is_cache and not store.is_read_only]
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
                made = replace(making, seconds=making.elapsed, kinds=making.kinds or kinds_of(draft))
                made.write(draft, folder, None if remote else self.records.lineage)
            if remote:
                try:
                    remote.upload(draft, folder.name)
                except StorageError as error:
                    raise DatasetError(f"{ds_name}: {error}") from error
        self._forget(ds_name)
        self.outdated.discard(ds_name)

    def _forget(self, ds_name: str) -> None:
        """Forget what is known of the data of an entry, which are new, also under its names of other formats."""
        for name in {ds_name, *(each for each in [*self._stored] if entry_name(each) == entry_name(ds_name))}:
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
            elif record := self.records.file_of(ds_name, dataset):
                stored = read_record(record, lambda: self._content_without_versions(ds_name))
                if stored and (path := unversioned_path(dataset)):
                    stored = replace(stored, folder=path)
            self._stored[ds_name] = stored
        return self._stored[ds_name]

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

    def reconfigure(self, ds_name: str, entry: dict[str, Any], **versions: Any) -> None:
        """Load and save an entry by another configuration from now on."""
        super().reconfigure(ds_name, entry, **versions)
        self._stored.pop(ds_name, None)


def kinds_of(path: Path) -> tuple[str, ...]:
    """Return the project's classes and functions that loading the files of data would import."""
    return tuple(sorted({kind for file in files_in(path) for kind in pickled_kinds(file, project_packages())}))


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
