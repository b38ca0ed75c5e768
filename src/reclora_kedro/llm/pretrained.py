"""How anything of transformers is loaded: never running Python code that lies beside the weights."""

from typing import Any


def load_pretrained(kind: Any, source: str, **arguments: Any) -> Any:
    """Return ``kind.from_pretrained(source, ...)`` of one of transformers' own classes.

    Args:
        kind: one of transformers' Auto classes.
        source: a hub id or a local folder.
        arguments: further ones of ``from_pretrained``.

    Raises:
        OSError: there is no such folder or hub id, or it lacks a file.
        ValueError: it needs Python code of its own; none of it was run.
    """
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **arguments)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{source!r} needs Python code that lies beside its weights (`auto_map` in config.json or "
            "tokenizer_config.json), which this project never runs. Change `source` of the catalog entry to a model "
            "that transformers itself has a class for."
        ) from None
