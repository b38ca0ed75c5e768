"""Lifetimes of processes: a child ends with its parent, and whether one still lives."""

import ctypes
import os
import signal
from multiprocessing import parent_process

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def end_with_parent() -> None:
    """Have Linux end the calling process when its parent dies, however that happens (man 2 prctl), or has died."""
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if (parent := parent_process()) and not parent.is_alive():
        signal.raise_signal(signal.SIGTERM)


def is_alive(process: int) -> bool:
    """Whether this machine has a process of this number, of any user.

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
