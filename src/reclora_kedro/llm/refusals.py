"""Refusals of what cannot be read as a model; light to import, unlike what reads models."""

from collections.abc import Callable
from functools import wraps
from traceback import walk_tb
from typing import Any, TypeVar

import torch

T = TypeVar("T")

MOST_TOLD = 300  # characters of an error of another library
OTHER_SOURCE = "Change `source` of the catalog entry"


def refusing(load: Callable[..., T]) -> Callable[..., T]:
    """Wrap a function that loads a model from a `source`, so that whatever is wrong with that is a ValueError.

    A header that lies, sizes that do not fit or a truncated file fail anywhere in transformers, with any exception.
    """

    @wraps(load)
    def loading(source: str, *arguments: Any, **named: Any) -> T:
        try:
            return load(source, *arguments, **named)
        except (OSError, ImportError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if isinstance(error, ValueError) and _is_own(error):
                raise
            text = " ".join(str(error).split())[:MOST_TOLD]
            raise ValueError(
                f"{source!r} cannot be read as a model ({type(error).__name__}: {text}). Copy or download it again. "
                f"{OTHER_SOURCE} where it is of a kind that transformers does not know."
            ) from error

    return loading


def _is_own(error: Exception) -> bool:
    """Whether this project's code raised an error, whose message says what to do."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")).startswith("reclora_")
