"""Calls bounded in time, memory and size of the result, such as rendering a template that came with a model."""

import json
import os
import signal
from collections.abc import Callable

import psutil

CPU_SECONDS, SECONDS = 2, 60
MEMORY_BYTES = 2**30
CHARACTERS = 2**20


def call_bounded(function: Callable[[], str]) -> str:
    """Return ``function()``, computed in a fork of this process within bounds.

    A process can be stopped at any point; a thread cannot, nor can Python while it loops in C.

    Raises:
        TimeoutError: it exceeded the time.
        ValueError: it raised an error, whose text this is, or returned more characters; or the system cannot fork.

    Examples:
        >>> call_bounded(lambda: "text")
        'text'
    """
    if not hasattr(os, "fork"):
        raise ValueError(
            "A chat template that came with a model is rendered in a fork of this process, which Windows has not: set "
            "prompt.chat_template to false."
        )
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            import resource  # which Windows lacks

            signal.alarm(SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
            if psutil.LINUX:  # others do not limit the address space
                limit = psutil.Process().memory_info().vms + MEMORY_BYTES
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                json.dump(_outcome(function), pipe)
        finally:
            os._exit(0)  # skip the parent's exit handlers and buffers
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        outcome = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise TimeoutError(f"it did not end within {CPU_SECONDS} seconds of a CPU, or {SECONDS} in all")
    text, error = json.loads(outcome)
    if text is None:
        raise ValueError(error)
    return text


def _outcome(function: Callable[[], str]) -> tuple[str | None, str | None]:
    try:
        text = function()
    except Exception as error:
        return None, str(error) or type(error).__name__
    return (text, None) if len(text) <= CHARACTERS else (None, f"it is longer than {CHARACTERS} characters")
