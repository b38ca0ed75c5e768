"""A version is whole from the moment it is there."""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog

logger = logging.getLogger(__name__)


@contextmanager
def whole_save(dataset: Any) -> Iterator[None]:
    """While a dataset saves, it writes to `.unfinished-<name>` beside its own folder; what is complete moves in there.

    So a kill, a full disk or an error never leaves half a version, and earlier versions are never touched.
    Only versions of local files are handled so, and only those of a session, which have a name beforehand.
    """
    version = dataset._version.save if isinstance(dataset, AbstractVersionedDataset) and dataset._version else None
    if not version or getattr(dataset, "_protocol", "file") != "file":
        yield
        return
    filepath = dataset._filepath
    final = Path(filepath, version)
    if final.exists() or final.parent.is_file():  # Kedro refuses to save there, and says why
        yield
        return
    unfinished = final.parent.with_name(f".unfinished-{filepath.name}")
    if unfinished.exists():
        logger.warning("Removing %s: an earlier run ended while it saved there.", unfinished)
        shutil.rmtree(unfinished)
    dataset._filepath = type(filepath)(unfinished, filepath.name)
    try:
        yield
        draft = Path(dataset._filepath, version)
        write_through(draft)
        final.parent.mkdir(exist_ok=True)
        draft.rename(final)
    except Exception as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if disk_is_full(error):
            error.add_note(full_disk_note(Path(filepath)))
        raise
    finally:
        dataset._filepath = filepath
        shutil.rmtree(unfinished, ignore_errors=True)


def write_through(folder: Path) -> None:
    """Have the disk hold all files of a folder: only now do some file systems find out that they are full."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


class WholeSavesHooks:
    """Makes every save of a node a whole one."""

    def __init__(self) -> None:
        self._saves: dict[str, AbstractContextManager] = {}

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Forget the saves of a run that was interrupted in a notebook: no hook is called then."""
        self._saves.clear()

    @hook_impl
    def before_node_run(self, catalog: DataCatalog) -> None:
        """Keep the catalog to which the node's outputs will go."""
        self._catalog = catalog

    @hook_impl(trylast=True)
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Begin a save."""
        self._saves[dataset_name] = whole_save(self._catalog.get(dataset_name))
        self._saves[dataset_name].__enter__()

    @hook_impl(tryfirst=True)
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Complete it, so that other hooks find the version in its place."""
        self._saves.pop(dataset_name).__exit__(None, None, None)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Discard what was begun."""
        while self._saves:
            self._saves.popitem()[1].__exit__(type(error), error, error.__traceback__)


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is a full disk or a used-up quota."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        # Libraries in Rust, such as safetensors, give the number in their text alone.
        if getattr(error, "errno", None) in codes or any(f"(os error {code})" in str(error) for code in codes):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_disk_note(filepath: Path) -> str:
    """What a user should know and do when a version did not fit."""
    disk = next(folder for folder in filepath.parents if folder.exists())
    free = shutil.disk_usage(disk).free / 2**20
    return (
        f"The disk is full: a new version of {filepath} needs more than the {free:,.1f} MiB that are free there. "
        "Nothing half written was left, and earlier versions are as they were. Free some space, then go on with the "
        "--from-nodes named above, or with `kedro run --only-missing-outputs` if no earlier run left these outputs."
    )
