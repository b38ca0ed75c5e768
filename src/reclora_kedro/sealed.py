"""Folders with the digests of their files, by which a damaged one is told from what was written; copies of objects."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeprint.files import private_cache, remembered_sha256
from kedro_provenance.files.atomic import atomic_folder
from kedro_provenance.files.digests import digest
from kedro_provenance.files.storage import download, is_remote, states, storage_at

logger = logging.getLogger(__name__)

DIGESTS = "sha256.json"  # digest of each of a folder's files, by name


def seal(folder: Path) -> None:
    """Write the digests of all files in a folder, for `damage`."""
    digests = _digests_of(folder)
    (folder / DIGESTS).write_text(json.dumps({"files": digests, "digest": digest(digests)}), encoding="utf-8")


def is_sealed(folder: Path) -> bool:
    return (folder / DIGESTS).exists()


def damage(folder: Path) -> str | None:
    """Return the first file of a sealed folder that is not as it was written, and how; None if all are."""
    file = folder / DIGESTS
    if not file.is_file():
        return f"{file} is missing"
    try:
        sealed = json.loads(file.read_text(encoding="utf-8"))
        written = sealed["files"]
        is_sound = sealed == {"files": written, "digest": digest(written)}
    except (ValueError, TypeError, KeyError):
        is_sound = False
    if not is_sound:
        return f"{file} is not as it was written"
    present = _digests_of(folder)
    changed = next((name for name in sorted({*written, *present}) if written.get(name) != present.get(name)), None)
    if changed is None:
        return None
    what = "is missing" if changed not in present else "is not as it was written" if changed in written else "was added"
    return f"{folder / changed} {what}"


def local_copy(address: str, options: Mapping[str, Any]) -> str:
    """Return the path of a copy of a folder or an object in the user's cache, fetched whenever their states change.

    A damaged copy is fetched again. A local path is returned unchanged.
    """
    if not is_remote(address):
        return address
    with storage_at(address, options):
        if not (files := states(address, options)):
            raise FileNotFoundError("there is no such object or folder")
    parent, _, name = address.rstrip("/").rpartition("/")
    names = [f"{name}/{rest}".rstrip("/") for rest in files]
    folder = private_cache("kedro-provenance") / "copies" / digest([address, files])
    if folder.is_dir() and damage(folder):
        logger.warning("%s is damaged (its files have changed) and is downloaded again.", folder)
        shutil.rmtree(folder)
    if not folder.is_dir():
        with atomic_folder(folder, shared=True) as draft:
            download(parent, options, names, draft)
            seal(draft)
    return str(folder / name)


def _digests_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return {str(file.relative_to(folder)): remembered_sha256(file) for file in files}
