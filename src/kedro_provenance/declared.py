"""What a node depends on that is neither in the catalog nor code of the project, as its function declares it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from kedro_provenance.files.digests import digest, digest_of_files
from kedro_provenance.files.paths import paths_at

F = TypeVar("F", bound=Callable[..., Any])


def depends(
    *,
    files: tuple[str, ...] | list[str] = (),
    env: tuple[str, ...] | list[str] = (),
    packages: tuple[str, ...] | list[str] = (),
) -> Callable[[F], F]:
    """Declare what a node's function depends on besides its inputs: after a change, the node runs again.

    Args:
        files: paths or patterns of files and folders, relative to the project, that it reads by itself.
        env: names of environment variables; their values are stored as digests.
        packages: names of installed distributions, whose versions count.

    Examples:
        >>> @depends(env=["REGION"], packages=["kedro"])
        ... def load_prices(orders): ...
        >>> [name for name, _ in declarations(load_prices)]
        ['environment variable REGION', 'package kedro']
    """

    def declare(function: F) -> F:
        vars(function)["depends"] = {"files": tuple(files), "env": tuple(env), "packages": tuple(packages)}
        return function

    return declare


def declarations(function: Any) -> Iterator[tuple[str, str]]:
    """Yield what a function depends on by its declaration, and a digest or version of each."""
    if isinstance(function, partial):
        yield from declarations(function.func)
    declared = getattr(function, "depends", {})
    for pattern in declared.get("files", ()):
        yield f"file {pattern}", digest([(str(path), digest_of_files(path)) for path in paths_at(pattern)])
    for name in declared.get("env", ()):
        yield f"environment variable {name}", digest(os.environ.get(name))
    for name in declared.get("packages", ()):
        try:
            yield f"package {name}", version(name)
        except PackageNotFoundError:
            yield f"package {name}", "not installed"
