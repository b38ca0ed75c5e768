"""Atomic writing of folders and files on a local disk."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kedro_provenance.files.scratch import own_folder, remove_abandoned

UNFINISHED = ".unfinished-"


@contextmanager
def atomic_folder(folder: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a draft to write to, and move it to ``folder`` once it is complete.

    Leftovers of killed processes of this machine next to it are removed. Files that a library keeps to their owner, as
    safetensors does, may be read by whom the umask lets read others.

    Args:
        folder: target of the draft; it must not exist. The path of the draft ends in the same two names.
        shared: whether other processes may make the same folder at the same time; the first one's stays.

    Raises:
        OSError: the draft cannot be written or moved. Nothing of it is left; a note says so if the disk is full.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as parent:
        ...     with atomic_folder(Path(parent, "model")) as draft:
        ...         _ = (draft / "config.json").write_text("{}")
        ...     [str(path.relative_to(parent)) for path in Path(parent).rglob("*")]
        ['model', 'model/config.json']
    """
    remove_abandoned(folder.parent, UNFINISHED)
    with _draft_of(folder) as draft:
        draft.mkdir()
        yield draft
        for path in (draft, *draft.rglob("*")):
            with suppress(PermissionError):  # a link to a file of another owner
                if path.is_file():
                    path.chmod(path.stat().st_mode | path.parent.stat().st_mode & 0o044)
            _sync(path)  # only now do some file systems find out that they are full
        try:
            draft.rename(folder)
        except OSError:
            if not (shared and folder.is_dir()):
                raise


def atomic_file(file: Path, content: bytes) -> None:
    """Write or replace a file atomically; an OSError leaves the old one unchanged, with a note if the disk is full."""
    with _draft_of(file) as draft:
        draft.write_bytes(content)
        _sync(draft)
        draft.replace(file)


def remove_folder(folder: Path) -> None:
    """Remove a folder atomically, or raise OSError; a kill leaves a hidden one, which the next run removes."""
    with own_folder(folder.parent, UNFINISHED) as hidden:
        folder.rename(Path(hidden, folder.name))
        _sync(folder.parent)


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a full disk or an exhausted quota."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        # Libraries in Rust give the number in their text alone.
        if getattr(error, "errno", None) in codes or any(f"(os error {code})" in str(error) for code in codes):
            return True
        error = error.__cause__ or error.__context__
    return False


def note_full_disk(error: Exception, target: Path, advice: str) -> None:
    """Add to an error whether the disk is full on which a file or folder was written, and what that means."""
    if is_full_disk(error):
        disk = next(folder for folder in (target, *target.parents) if folder.exists())
        free = shutil.disk_usage(disk).free / 2**20
        error.add_note(f"The disk is full: {target} needs more than the {free:,.1f} MiB that are free there. {advice}")


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """Yield the path of a draft, in a hidden folder next to the target that is always removed at the end."""
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with own_folder(target.parent, UNFINISHED) as hidden:
            # So deep that no draft is taken for a version of a file, which are found as "parent/*/name".
            draft = Path(hidden, "draft", target.parent.name, target.name)
            draft.parent.mkdir(parents=True)
            yield draft
        for folder in (target, *made):  # a folder is lost with the entry that its parent has of it
            _sync(folder.parent)
    except Exception as error:
        note_full_disk(error, target, "Nothing half written was left, and earlier versions are untouched.")
        raise


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
