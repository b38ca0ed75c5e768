"""Object storage, such as S3, Google Cloud Storage or Azure Blob Storage, through fsspec.

Options are arguments of the protocol's fsspec filesystem, such as keys or an endpoint; by default it reads the
environment.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.utils import get_protocol

from kedro_provenance.files.atomic import atomic_file

logger = logging.getLogger(__name__)

LOCAL = ("file", "local", "http", "https")  # web pages are known by their address alone
STATES = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")  # what tells an object from its successor
ADDRESSES = ("filepath", "path", "source", "base_url")  # keys of an entry that may say where its data lie
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
OPEN_ARGS = ("open_args_load", "open_args_save")  # of a dataset's `fs_args`, what is not for the filesystem


class StorageError(OSError):
    """An object storage cannot be used."""


class MissingError(StorageError, FileNotFoundError):
    """Nothing is at an address in an object storage."""


def is_remote(address: Any) -> bool:
    """Whether a value is the address of an object or a folder in an object storage.

    Examples:
        >>> [is_remote(value) for value in ("s3://bucket/folder", "data/log", "file:///data/log", "sqlite:///log.db")]
        [True, False, False, False]
    """
    is_url = isinstance(address, str) and "://" in address and get_protocol(address) in fsspec.available_protocols()
    return is_url and get_protocol(address) not in LOCAL


def storage_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a catalog entry: its credentials, and those among its `fs_args`."""
    fs_args = {key: value for key, value in (entry.get("fs_args") or {}).items() if key not in OPEN_ARGS}
    return {**(entry.get("credentials") or {}), **fs_args}


@contextmanager
def storage_at(address: str, options: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    """Yield the filesystem of an address and the path in it; any error is a StorageError with cause and remedy."""
    try:
        # Listings are not remembered: other machines write there, too.
        given = {"use_listings_cache": False, **options} if is_remote(address) else {}
        storage = fsspec.filesystem(get_protocol(address), **given)
        yield storage, storage._strip_protocol(address).rstrip("/")
    except StorageError:
        raise
    except Exception as error:
        kind = MissingError if isinstance(error, FileNotFoundError) else StorageError
        cause = " ".join(f"{error}".split()) or type(error).__name__
        raise kind(f"{address} cannot be used: {cause.rstrip('.')}. {remedy(error, address)}") from error


def remedy(error: Exception, address: str) -> str:
    """Return what to do about an error of a storage."""
    protocol = get_protocol(address)
    if isinstance(error, ImportError):
        return f"Install what reads {protocol}://: `pip install {PACKAGES.get(protocol, 'fsspec')}`."
    if isinstance(error, FileNotFoundError):
        return "Make it, or correct the address."
    if isinstance(error, PermissionError) or "credentials" in str(error).lower():
        return (
            f"Give credentials that may list, read and write there, in the block `{protocol}` of credentials.yml in "
            "the run's environment or in environment variables."
        )
    return (
        f"See that the storage is up and can be reached from here, and that `client_kwargs: {{endpoint_url: ...}}` in "
        f"the block `{protocol}` of credentials.yml is right if it has an endpoint of its own."
    )


def require_bucket(address: str, options: Mapping[str, Any]) -> None:
    """Raise StorageError for a storage that cannot be listed or lacks the bucket; the address need not exist."""
    with storage_at(address, options) as (storage, path):
        try:
            storage.ls(path)
        except FileNotFoundError:
            bucket = path.strip("/").partition("/")[0]
            with suppress(PermissionError):  # where only the folder may be listed, it may
                try:
                    storage.info(bucket)
                except FileNotFoundError:
                    raise FileNotFoundError(f"there is no bucket {bucket}") from None


def states(address: str, options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return size and state of each object that an address, a folder or a pattern names, by relative path."""
    with storage_at(address, options) as (storage, path):
        files = storage.glob(path, detail=True) if has_magic(path) else storage.find(path, detail=True)
    return {
        name.removeprefix(path).lstrip("/"): [
            info["size"],
            next((str(info[key]) for key in STATES if info.get(key)), None),
        ]
        for name, info in sorted(files.items())
        if info["type"] == "file" and not name.endswith("/")
    }


def names_in(folder: str, options: Mapping[str, Any]) -> list[str]:
    """Return the names of what is in a folder and not hidden, in their order; none if it does not exist."""
    with suppress(FileNotFoundError), storage_at(folder, options) as (storage, path):
        paths = (PurePosixPath(name) for name in storage.ls(path, detail=False) if name.rstrip("/") != path)
        return sorted(place.name for place in paths if not place.name.startswith("."))
    return []


class Listings:
    """The names in folders, each of which is listed once, however many missing folders are looked for there."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], list[str]] = {}

    def names_in(self, folder: str, options: Mapping[str, Any]) -> list[str]:
        """Return the names in a folder, as the function does, and as of the first time it was asked."""
        key = folder, repr(options)
        if key not in self._names:
            self._names[key] = names_in(folder, options)
        return self._names[key]


def exists(address: str, options: Mapping[str, Any]) -> bool:
    """Whether there is an object or a folder at an address."""
    with suppress(FileNotFoundError), storage_at(address, options) as (storage, path):
        return bool(storage.info(path))
    return False


def read(address: str, options: Mapping[str, Any]) -> bytes:
    """Read an object or a file; raise StorageError as `storage_at` does."""
    with storage_at(address, options) as (storage, path):
        return storage.cat_file(path)


def write_whole(address: str, content: bytes, options: Mapping[str, Any]) -> None:
    """Write or replace an object or a file atomically, or raise OSError and leave the old one."""
    if not is_remote(address):
        return atomic_file(Path(address), content)
    with storage_at(address, options) as (storage, path):
        storage.pipe_file(path, content)


def download(address: str, options: Mapping[str, Any], names: list[str], folder: Path) -> None:
    """Copy the objects of a folder by their names in it; raise StorageError for a name that leads out of the folder."""
    files = [folder / name for name in names]
    for name, file in zip(names, files, strict=True):
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise StorageError(f"{address} holds an object named {name!r}, which leads out of it. Nothing was read.")
        file.parent.mkdir(parents=True, exist_ok=True)
    with storage_at(address, options) as (storage, path):
        storage.get([f"{path}/{name}" for name in names], [str(file) for file in files])


def remove(address: str, options: Mapping[str, Any]) -> None:
    """Remove an object, a file, or a folder with its content, if it exists; raise StorageError on failure."""
    with suppress(FileNotFoundError), storage_at(address, options) as (storage, path):
        storage.rm(path, recursive=True)
