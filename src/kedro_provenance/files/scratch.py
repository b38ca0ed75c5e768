"""What goes with a process: its scratch folders, which the next one removes if it was killed, and its children."""

import logging
import os
import re
import shutil
import signal
import socket
import tempfile
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from codeprint.files import is_own

logger = logging.getLogger(__name__)

OWN = f"kedro-{socket.gethostname()}-"


def scratch_folder(parent: str | None = None) -> tempfile.TemporaryDirectory:
    """Return a folder, by default among temporary files, that is removed with the object or at the end of `with`.

    Leftovers of killed processes of this machine next to it are removed.

    Examples:
        >>> with scratch_folder() as folder:
        ...     Path(folder).is_dir()
        True
    """
    remove_abandoned(parent)
    return own_folder(parent)


def own_folder(parent: str | Path | None = None, prefix: str = "") -> tempfile.TemporaryDirectory:
    """Return such a folder whose name has the prefix, the machine and the process, without removing any other."""
    return tempfile.TemporaryDirectory(prefix=f"{prefix}{OWN}{os.getpid()}-", dir=parent)


def remove_abandoned(parent: str | Path | None = None, prefix: str = "") -> None:
    """Remove the folders of `own_folder` of this user's dead processes on this machine."""
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{prefix}{OWN}*"):
        process = re.match(r"\d+", folder.name.removeprefix(prefix + OWN))
        if process and not psutil.pid_exists(int(process.group())):
            with suppress(FileNotFoundError):  # another process removes it, too
                if is_own(folder):
                    logger.info("Removing %s: its process ended while it wrote there.", folder)
                    shutil.rmtree(folder, ignore_errors=True)


def end_with_parent() -> None:
    """Make the calling process end when the one that started it by `multiprocessing` does, or now if it has ended."""
    if parent := parent_process():
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(process: Any) -> None:
    process.join()
    signal.raise_signal(signal.SIGTERM)
