"""Where modules lie, and which of them are the project's own, found without importing them."""

import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, all_suffixes
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from codeprint.memory import remembered
from codeprint.statements import Source, read_source

STANDARD_LIBRARY = sysconfig.get_path("stdlib")


@dataclass(frozen=True)
class Place:
    """Where a module lies."""

    file: Path | None  # None for a package without `__init__.py`
    folders: tuple[Path, ...] | None  # of a package; None for any other module


@remembered
def place_of(module: str) -> Place | None:
    """Return where a module lies, without importing the packages that it is in; None if there is none."""
    package, _, name = module.rpartition(".")
    if not package:
        with suppress(ImportError, ValueError):  # `__main__` may have no spec
            if spec := _find_spec(module):
                folders = spec.submodule_search_locations
                file = Path(str(spec.origin)) if spec.has_location and spec.origin is not None else None
                return Place(file, None if folders is None else (*map(Path, folders),))
        return None
    around, portions = place_of(package), list[Path]()
    for folder in (around and around.folders) or ():
        if (file := folder / name / "__init__.py").is_file():
            return Place(file, (file.parent,))
        for suffix in all_suffixes():
            if (file := folder / f"{name}{suffix}").is_file():
                return Place(file, None)
        if (folder / name).is_dir():
            portions.append(folder / name)
    return Place(None, (*portions,)) if portions else None


def _find_spec(top: str) -> ModuleSpec | None:
    """Return what `find_spec` does; words that no file on the path begins with are asked for by the thousand."""
    names = _names_on_path()
    if names is None or top in names or top in sys.modules:
        return find_spec(top)
    others = (finder for finder in sys.meta_path if finder is not PathFinder and hasattr(finder, "find_spec"))
    return next(filter(None, (finder.find_spec(top, None) for finder in others)), None)


@remembered
def _names_on_path() -> set[str] | None:
    """Return what the files and folders on the path are called; None if there are archives on it, too."""
    entries = [Path(entry) for entry in sys.path if Path(entry).exists()]
    if not all(entry.is_dir() for entry in entries):
        return None
    return {path.name.partition(".")[0] for entry in entries for path in entry.iterdir()}


@remembered
def is_own(module: str, packages: frozenset[str] = frozenset()) -> bool:
    """Whether code is the project's: installed neither in site-packages nor with Python, or one of `packages`."""
    top = module.partition(".")[0]
    place = place_of(top) if top not in sys.stdlib_module_names else None
    if place is None or top in packages:
        return place is not None
    paths = [path for path in place.folders or (place.file,) if path and path.is_absolute()]
    outside = [path for path in paths if not path.is_relative_to(STANDARD_LIBRARY)]
    return any({"site-packages", "dist-packages"}.isdisjoint(path.parts) for path in outside)


def is_beside_sources(module: str) -> bool:
    """Whether a module is a folder of the project without ``__init__.py``, such as ``conf`` or ``docs``.

    Where the working directory is on the path, any folder beside ``pyproject.toml`` can be imported.
    """
    place = place_of(module)
    folders = place.folders if place and not place.file else None
    return folders is not None and all((folder.parent / "pyproject.toml").is_file() for folder in folders)


def package_of(module: str) -> str:
    """Return the package that relative imports of a module begin from."""
    place = place_of(module)
    return module if place and place.folders is not None else module.rpartition(".")[0]


def source_file(module: str) -> Path | None:
    """Return the Python file of a module; None for an extension, a folder, or a module that is not there."""
    place = place_of(module)
    return place.file if place and place.file and place.file.suffix == ".py" else None


@remembered
def source_of(module: str) -> Source:
    """Return the statements of a module; none of one without a Python file."""
    return read_source(module, source_file(module), package_of(module))


@remembered
def modules_in(package: str) -> list[str]:
    """Return all modules in a package, without its tests."""
    place, modules = place_of(package), list[str]()
    for folder in (place and place.folders) or ():
        for path in sorted(folder.iterdir()):
            name = path.stem if path.suffix == ".py" else path.name
            is_module = path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
            if is_module and name.isidentifier() and name not in ("__init__", "__pycache__", "tests"):
                modules += [f"{package}.{name}", *modules_in(f"{package}.{name}")]
    return modules


@remembered
def packages_around(module: str) -> list[str]:
    """Return the packages that a module is in, at any height, with itself if it is one."""
    package = package_of(module)
    return list(accumulate(package.split("."), "{}.{}".format)) if package else []


@remembered
def files_of_package(package: str) -> dict[Path, str]:
    """Return the names to show of a package's files besides its modules, also of those in folders without modules."""
    place, files = place_of(package), dict[Path, str]()
    for folder in (place and place.folders) or ():
        left = [folder]
        while left:
            for path in left.pop().iterdir():
                if path.name.startswith(".") or path.name in ("__pycache__", "tests"):
                    continue
                if path.is_file() and path.suffix != ".py":
                    files[path] = f"{package} {path.relative_to(folder).as_posix()}"
                elif path.is_dir() and not (path / "__init__.py").exists():
                    left.append(path)
    return files


@remembered
def entry_points_by_group() -> dict[str, list[tuple[str, str]]]:
    """Return names and objects of all entry points, by group; reading the metadata takes a while."""
    points = entry_points()
    return {
        group: [(each.name, each.value.partition("[")[0].strip()) for each in points.select(group=group)]
        for group in points.groups
    }


@remembered
def installed_version(top: str) -> str:
    """Return names and versions of the distributions of a top-level module; empty without any."""
    if place_of(top) is None:
        return ""
    try:
        return f"{top} {version(top)}"
    except PackageNotFoundError:  # its name is another one; to read the metadata of all takes a second
        return " ".join(f"{name} {version(name)}" for name in packages_distributions().get(top, ()))
