"""The lock that lets one run at a time use a data folder."""

import errno
import logging
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from kedro_provenance.failures import RunRefusedError
from kedro_provenance.files.storage import is_remote
from kedro_provenance.run import Run

logger = logging.getLogger(__name__)

LOCK_FILE = ".run.lock"


def lock_data(run: Run) -> None:
    """Refuse a run of a data folder that another run uses; else lock it, with a note on who holds it.

    The operating system releases the lock when the process dies. A folder in an object storage cannot be locked.
    """
    file = run.data / LOCK_FILE
    lock = open_lock(file)
    try:
        if not lock_descriptor(lock.fileno(), blocking=False):
            with lock:
                lock.seek(1)
                raise RunRefusedError(
                    f"Another run uses the data folder {run.data}: {lock.read() or 'it has just begun'}. Nothing was "
                    "written. Start again when that run has ended; two runs at the same time need two data folders, "
                    "set by `data` in globals.yml."
                )
    except OSError as error:
        logger.warning("%s cannot be locked (%s): make sure that no two runs use this folder at once.", file, error)
    run.held.enter_context(lock)
    if is_remote(run.data_address):
        logger.warning(
            "%s cannot be locked: runs of this project folder wait for one another, but make sure that no run of "
            "another folder or machine saves there at the same time.",
            run.data_address,
        )
    lock.truncate(0)
    pipelines = ", ".join(run.params["pipeline_names"] or ["__default__"])
    since = datetime.now().isoformat(" ", "seconds")
    # A blank first: of the first byte, which is what is locked, other processes read nothing on Windows.
    lock.write(f" process {os.getpid()}, since {since}, project {run.project}, pipelines {pipelines}")
    lock.flush()


def open_lock(file: Path) -> IO[str]:
    """Open the lock file, for this user only; raise RunRefusedError for anything but this user's regular file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A symbolic link could have the run write to any file of its user. Windows has neither flag.
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | flags, 0o600)
    except OSError as error:
        obstacle = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "r+", encoding="utf-8")
        os.close(descriptor)
        obstacle = "no regular file"
    raise RunRefusedError(
        f"The run's lock {file} cannot be opened ({obstacle}), but a plain file of yours in a writable folder is "
        "expected. Nothing was written. If no run uses this data folder, remove it and start again."
    )
