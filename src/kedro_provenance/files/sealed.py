"""Folders with the digests of their files, by which a damaged one is told from what was written."""

import json
from pathlib import Path

from codeprint.files import remembered_sha256
from kedro_provenance.files.digests import digest

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


def _digests_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return {str(file.relative_to(folder)): remembered_sha256(file) for file in files}
