"""Lifetimes of processes: ending with the parent."""

import signal
from multiprocessing import parent_process
from threading import Thread
from typing import Any


def end_with_parent() -> None:
    """Make the calling process end when the one that started it by `multiprocessing` does, or now if it has ended."""
    if parent := parent_process():
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(process: Any) -> None:
    process.join()
    signal.raise_signal(signal.SIGTERM)
