"""Folders that are written whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A draft to write to; it takes the folder's place when complete, so a run that was killed leaves no half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder.parent) as parent:
        draft = Path(parent) / "draft"
        draft.mkdir()
        yield draft
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
