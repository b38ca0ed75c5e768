"""Erasure of stored data and of all that was made of them, with a certificate for an auditor."""

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro_provenance.archive import Archive, ArchivedVersion
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.files.atomic import UNFINISHED, atomic_file
from kedro_provenance.files.digests import digest
from kedro_provenance.files.scratch import remove_abandoned
from kedro_provenance.files.storage import is_remote
from kedro_provenance.plan import is_made, present_content
from kedro_provenance.run import Run
from kedro_provenance.tracing import stored_results


def described(version: ArchivedVersion) -> dict[str, Any]:
    """Return entry, version (None or empty for data that have none), address and digest of the content."""
    return {name: getattr(version, name) for name in ("entry", "version", "address", "content")}


def begin_certificate(folder: Path, run: Run, removed: Iterable[ArchivedVersion], **said: Any) -> Path:
    """Write a certificate of what is about to be removed, so that the record of a run that is killed remains."""
    now = datetime.now(UTC)
    file = folder / f"{now:%Y-%m-%dT%H.%M.%S.%fZ}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    begun = {"time": now.isoformat(timespec="seconds"), "environment": run.env, "code": run.revision, **said}
    begun |= {"finished": False, "removed": [described(each) for each in removed]}
    atomic_file(file, json.dumps(begun, indent=1).encode())
    return file


def finish_certificate(file: Path, **said: Any) -> None:
    """Finish a certificate, with the digest of all that it says, by which a later change shows."""
    certified = json.loads(file.read_bytes()) | {"finished": True} | said
    atomic_file(file, json.dumps(certified | {"digest_of_the_above": digest(certified)}, indent=1).encode())


def removed_by(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the certificates in a folder say was, or was to be, removed, as `described`."""
    for file in folder.glob("*.json"):
        yield from json.loads(file.read_bytes())["removed"]


def find_results(entry: str, version: str | None, run: Run) -> list[ArchivedVersion]:
    """Return the data of an entry, or one version of them, and all that was made of them, the last first.

    In this order, the command can be typed again if it is killed. Of data that no node makes, earlier states count:
    what they are now is their owner's.
    """
    stored = [*stored_results(run.catalog, run.stores)]
    contents = {each.content for each in stored if each.entry == entry and version in (None, each.version)}
    if version is None:
        contents |= {each.content for one in stored for each in one.lineage if each.entry == entry}
    if not is_made(entry):
        contents.discard(present_content(entry, run.catalog))
    found = [
        each
        for each in stored
        if (each.entry == entry and each.content in contents)
        or any(one.entry == entry and one.content in contents for one in each.lineage)
    ]
    return sorted(found, key=lambda each: len(each.lineage), reverse=True)


def erase(removed: Collection[ArchivedVersion], in_use: Collection[tuple[str, str]], folder: Path, run: Run) -> Path:
    """Remove stored data, in this order, and return a certificate in a folder; refuse all if any cannot be removed."""
    try:
        Archive(run.catalog, run.stores).require_erasable(removed, in_use)
        file = begin_certificate(folder, run, removed)
        for each in removed:
            if record := None if each.version else run.records.file_of(each.entry, run.catalog.get(each.entry)):
                record.unlink(missing_ok=True)
            each.erase()
        for address in {each["address"] for each in removed_by(folder)}:  # half erased as a command was killed
            if not is_remote(address):
                remove_abandoned(Path(address).parent, UNFINISHED)
    except (ValueError, OSError) as error:
        raise RunRefusedError(str(error)) from error
    finish_certificate(file)
    return file
