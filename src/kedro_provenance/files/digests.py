"""Digests of parameters and other data."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

import codeprint.files


def digest(value: Any) -> str:
    """Return the digest of plain data, parameter blocks and data classes; the order of keys does not matter.

    Examples:
        >>> digest({"r": 8, "lora_alpha": 16}) == digest({"lora_alpha": 16, "r": 8}) != digest({"r": 8})
        True
        >>> digest({1: "a"}) == digest({"1": "a"})
        False
    """
    return codeprint.files.digest(to_jsonable_python(with_text_keys(value), fallback=str))


def with_text_keys(value: Any) -> Any:
    """Return nested data in which no key that is no text, such as 1, is taken for a text, such as "1".

    Examples:
        >>> with_text_keys({"a": [{1: 2, "1": 3}]})
        {'a': [{'1 (int)': 2, '1': 3}]}
    """
    if isinstance(value, Mapping):
        return {text_key(key): with_text_keys(item) for key, item in value.items()}
    return [with_text_keys(item) for item in value] if isinstance(value, list | tuple) else value


def text_key(key: Any) -> str:
    """Return a key as a text that no other key has."""
    return key if isinstance(key, str) else f"{key} ({type(key).__name__})"
