"""What a function depends on that its code does not show, as it declares it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from codeprint.files import digest, digest_of_files, paths_at

F = TypeVar("F", bound=Callable[..., Any])
Texts = tuple[str, ...] | list[str]  # no text alone, which is a sequence of texts, too


def depends(*, files: Texts = (), env: Texts = (), packages: Texts = ()) -> Callable[[F], F]:
    """Declare what a function depends on besides its code and its arguments: a change of it changes its fingerprint.

    What could not be followed in its code is then no longer called uncertain.

    Args:
        files: paths or patterns of files and folders, relative to the working directory, that it reads by itself.
        env: names of environment variables; their values are stored as digests.
        packages: names of installed distributions, whose versions count.

    Examples:
        >>> @depends(env=["REGION"], packages=["numpy"])
        ... def load_prices(orders): ...
        >>> [name for name, _ in declarations(load_prices)]
        ['environment variable REGION', 'package numpy']
    """

    def declare(function: F) -> F:
        vars(function)["depends"] = {"files": tuple(files), "env": tuple(env), "packages": tuple(packages)}
        return function

    return declare


def declarations(function: Any) -> Iterator[tuple[str, str]]:
    """Yield what a function depends on by its declaration, and a digest or version of each."""
    if isinstance(function, partial):
        yield from declarations(function.func)
    declared = getattr(function, "depends", {"files": (), "env": (), "packages": ()})
    for pattern in declared["files"]:
        yield f"file {pattern}", digest([(str(path), digest_of_files(path)) for path in paths_at(pattern)])
    for name in declared["env"]:
        yield f"environment variable {name}", digest(os.environ.get(name))
    for name in declared["packages"]:
        try:
            yield f"package {name}", version(name)
        except PackageNotFoundError:
            yield f"package {name}", "not installed"
