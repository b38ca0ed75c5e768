"""Scratch folders, which go with the process that made them: if it was killed, by the next one that looks there."""

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

from reclora_kedro.files.lifetime import is_alive

PREFIX = f"reclora-{socket.gethostname()}-"


def scratch_folder(parent: str | None = None) -> tempfile.TemporaryDirectory:
    """A folder that is removed with the object, or at the end of a block that is begun with it.

    Its name has the machine and the process. What killed processes of this machine left beside it is removed.

    Args:
        parent: where it lies; None for the system's folder of temporary files.

    Examples:
        >>> with scratch_folder() as folder:
        ...     Path(folder).is_dir()
        True
    """
    remove_abandoned(parent)
    return tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=parent)


def remove_abandoned(parent: str | None = None) -> None:
    """Remove the scratch folders of this user's processes on this machine that have died."""
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        process = re.match(r"\d+", folder.name.removeprefix(PREFIX))
        if process and folder.stat().st_uid == os.geteuid() and not is_alive(int(process.group())):
            shutil.rmtree(folder, ignore_errors=True)
