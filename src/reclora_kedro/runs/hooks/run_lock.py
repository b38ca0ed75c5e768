"""One run at a time uses a project folder."""

import errno
import fcntl
import logging
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from kedro.framework.hooks import hook_impl

from reclora_kedro.runs.hooks.refusal import RunRefusedError

LOCK_FILE = "data/.run.lock"


class RunLockHooks:
    """Holds a lock on the project folder while a run lasts. The kernel drops it when the process dies, however."""

    def __init__(self) -> None:
        self._lock: IO[str] | None = None

    @hook_impl(trylast=True)  # no hook is called when another one refuses the run, so the lock comes last
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Take the lock and leave word of who has it.

        Raises:
            RunRefusedError: another run has it, or it cannot be opened.
        """
        self._release()  # of a run that was interrupted in a notebook: no hook is called then
        file = Path(run_params["project_path"], LOCK_FILE)
        lock = open_lock(file)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                lock.seek(0)
                raise RunRefusedError(
                    f"Another run uses this project folder: {lock.read() or 'it has just begun'}. Nothing was written. "
                    "Start again when that run has ended; two runs at the same time need two copies of the folder."
                ) from None
        except OSError as error:
            logging.getLogger(__name__).warning(
                "%s cannot be locked (%s): see to it that no two runs use this project folder at once.", file, error
            )
        self._lock = lock
        lock.truncate(0)
        pipelines = ", ".join(run_params["pipeline_names"] or ["__default__"])
        since = datetime.now().isoformat(" ", "seconds")
        lock.write(f"process {os.getpid()}, since {since}, pipelines {pipelines}")
        lock.flush()

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Drop the lock of a run that succeeded."""
        self._release()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Drop the lock of a run that failed."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def open_lock(file: Path) -> IO[str]:
    """The lock file, for this user alone; nothing but a regular file is opened.

    Raises:
        RunRefusedError: it is something else, or another user's.
    """
    try:
        file.parent.mkdir(exist_ok=True)
        # A symbolic link could have the run write to any file of its user.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        found = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "r+", encoding="utf-8")
        os.close(descriptor)
        found = "no regular file"
    raise RunRefusedError(
        f"The run's lock {file} cannot be opened ({found}), where a plain file of yours is expected, in a folder that "
        "you may write to. Nothing was written. If no run uses this project folder, remove what is there and start "
        "again."
    )
