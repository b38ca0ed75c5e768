"""Packages with entry points, as if they were installed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from reclora_kedro import extensions


@contextmanager
def installed(
    folder: Path, files: Mapping[str, str], entry_points: Mapping[str, Mapping[str, str]] = {}
) -> Iterator[None]:
    """A folder on sys.path with these files and the metadata of a distribution that has these entry points."""
    sections = ("\n".join([f"[{group}]", *map(" = ".join, points.items())]) for group, points in entry_points.items())
    metadata = {
        "outside-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n",
        "outside-1.0.dist-info/entry_points.txt": "\n".join(sections),
    }
    for name, text in (dict(files) | metadata).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text).lstrip(), encoding="utf-8")
    extensions.installed.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
    extensions.installed.cache_clear()
