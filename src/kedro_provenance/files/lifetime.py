"""Lifetimes of processes: ending with the parent, and whether a process is alive."""

import ctypes
import os
import signal
from multiprocessing import parent_process

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def end_with_parent() -> None:
    """Make Linux end the calling process when its parent dies (man 2 prctl), or now if it has died."""
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if (parent := parent_process()) and not parent.is_alive():
        signal.raise_signal(signal.SIGTERM)


def is_alive(process: int) -> bool:
    """Whether this machine has a process with this number, of any user.

    Examples:
        >>> is_alive(os.getpid())
        True
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
