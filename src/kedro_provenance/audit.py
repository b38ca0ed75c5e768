"""Files, modules among them, that nodes open as they run and that their recipes lack."""

import os
import sys
import threading
from importlib.util import source_from_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from kedro.pipeline import Node

from codeprint.files import paths_at
from codeprint.modules import source_file
from kedro_provenance.catalog import AtomicCatalog
from kedro_provenance.datasets import local_path
from kedro_provenance.recipe import Recipe

UNCOUNTED = (sys.prefix, sys.base_prefix, "/proc/", "/sys/", "/dev/", "/etc/")  # what is installed, and the system's
opened = threading.local()  # its `files`: what each thread has opened since its node began


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what is opened to be read; a hook for `sys.addaudithook`. An import opens the module's file."""
    if event == "open" and not isinstance(arguments[0], int) and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        vars(opened).get("files", set()).add(os.fsdecode(arguments[0]))


def unknown_to(recipe: Recipe, node: Node, catalog: AtomicCatalog) -> list[str]:
    """Return the files that were noted and that neither a recipe nor a dataset of its node names."""
    names = vars(opened).pop("files", set())
    files = {Path(source_from_cache(name) if name.endswith(".pyc") else name).resolve() for name in names}
    known = [local_path(catalog.get(name)) for name in (*node.inputs, *node.outputs)]
    modules = {name for part in recipe.parts for name in accumulate(part.split("."), "{}.{}".format)}
    known += [*map(source_file, modules)]
    known += [path for part in recipe.parts if part.startswith("file ") for path in paths_at(part[5:])]
    places = [path.resolve() for path in known if path]
    of_packages = tuple(f"/{part.partition(' ')[2]}" for part in recipe.parts if " " in part)
    return [
        str(file)
        for file in sorted(files)
        if file.is_file() and not str(file).startswith(UNCOUNTED) and not file.as_posix().endswith(of_packages)
        if not any(map(file.is_relative_to, places))
    ]
