"""Digests of the code that nodes run, by module.

The code of a function is the file of its module and, at any depth, of the project's modules that are imported, with the
``__init__.py`` and the other files of their packages. Of modules that are imported by a name known at run time only,
those count that the run's parameters name, or all if none is named.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import entry_points, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kedro_provenance.files.digests import digest, remembered_sha256

if TYPE_CHECKING:
    from grimp import ImportGraph

LOADERS = {"import_module", "__import__", "iter_modules", "walk_packages"}
"""Functions that import or list modules whose names stand nowhere in the code."""
NAME = re.compile(r"[A-Za-z_][\w.:-]*")
"""Of a module, of an object in one, or of an entry point."""


def code_digest(function: Callable[..., Any], packages: Collection[str], values: Collection[str] = ()) -> str:
    """Return the digest of the code that a function or a class runs, apart from comments, docstrings and layout.

    Installed packages do not count, as the run manifest has their versions; one that a value names counts by its
    version.

    Args:
        function: the function or class; what it wraps, binds or encloses is part of it.
        packages: names of the packages whose code is the project's own.
        values: texts among the parameters: names or dotted paths of modules, or names of entry points.

    Raises:
        grimp.exceptions.SourceSyntaxError: a file of the packages is no valid Python.
    """
    modules, constants = _taken_apart(function)
    return digest([_digests(frozenset(modules), frozenset(values), frozenset(packages)), constants])


@cache
def _digests(modules: frozenset[str], values: frozenset[str], packages: frozenset[str]) -> list[str]:
    """Return digests of the code of modules and of what values name."""
    named = {value.replace(":", ".") for value in values if NAME.fullmatch(value)}
    own = frozenset(package for package in packages if (place := _place(package)) and place.is_dir())
    while True:
        code = _closure(modules | named, values, own)
        outside = {_top(name) for name in code} - own
        local = {top: place for top in outside if (place := _place(top)) and not _is_installed(place)}
        if not (packages_found := {top for top, place in local.items() if (place / "__init__.py").is_file()}):
            break
        own |= packages_found
    digests = [each for name in code if name in _graph(own).modules for each in _module(name, own).digests]
    digests += [_digest_of_file(place) for place in local.values() if place.is_file()]
    named_tops = {_top(name) for name in code - modules if "." in name}  # a word alone is hardly meant as a package
    digests += [_installed_version(top) for top in named_tops & outside - local.keys()]
    return sorted(digests)


def _taken_apart(function: Callable[..., Any]) -> tuple[set[str], list[str]]:
    """Return the modules of a function, and its name and plain values."""
    modules, constants = set[str](), list[str]()
    left, seen = list[Any]([function]), list[Any]()
    while left:
        part = left.pop()
        if any(part is other for other in seen):
            continue
        seen.append(part)
        left += [part.__wrapped__] if hasattr(part, "__wrapped__") else []
        if isinstance(part, partial):
            left += [part.func, part.args, part.keywords]
        elif inspect.ismethod(part):
            left += [part.__func__, part.__self__]
        elif inspect.isfunction(part):
            modules.add(part.__globals__["__name__"])  # `functools.wraps` overwrites `__module__`
            constants.append(part.__qualname__)
            for cell in part.__closure__ or ():
                with suppress(ValueError):  # it is empty
                    left.append(cell.cell_contents)
        elif isinstance(part, Mapping):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            left += part
        elif isinstance(part, str | int | float | complex | bytes | None):
            constants.append(repr(part))
        elif isinstance(part, type) or inspect.isroutine(part):
            modules.add(str(part.__module__))
            constants.append(f"{part.__module__}.{part.__qualname__}")
        else:
            left.append(type(part))
    return modules, constants


@cache
def _closure(starts: frozenset[str], values: frozenset[str], packages: frozenset[str]) -> frozenset[str]:
    """Return modules and their imports at any depth, and names of modules outside of the packages."""
    modules, left, reached = _graph(packages).modules, [*starts], set[str]()
    while left:
        name = left.pop()
        while "." in name and name not in modules and _top(name) in packages:
            name = name.rpartition(".")[0]  # an object of a module
        if name not in reached:
            reached.add(name)
            left += _module(name, packages).used(values) if name in modules else ()
    return frozenset(reached)


@cache
def _graph(packages: frozenset[str]) -> "ImportGraph":
    import grimp  # takes 0.1 s, which commands that plan nothing do not wait for

    return grimp.build_graph(*sorted(packages), exclude_type_checking_imports=True, cache_dir=None)


@dataclass(frozen=True)
class _Module:
    """A module of the project.

    Attributes:
        digests: digests of its file and, if it is a package, of the package's other files.
        imports: modules that it always imports.
        families: names and modules, by package or group of entry points, of modules that it may import by name.
    """

    digests: Collection[str]
    imports: Collection[str]
    families: Mapping[str, Collection[tuple[str, str]]]

    def used(self, values: Collection[str]) -> Iterator[str]:
        """Yield imports and, of each family, the modules that values name; of a package all if none is named."""
        yield from self.imports
        for family, members in self.families.items():
            named = [module for name, module in members if name in values]
            yield from named or (module for _, module in members if module.startswith(f"{family}."))


@cache
def _module(name: str, packages: frozenset[str]) -> _Module:
    graph, file = _graph(packages), _file(name)
    digests = {f"{name} {_digest_of_file(file)}"}
    imports = graph.find_modules_directly_imported_by(name)
    imports |= {each for package in imports & packages for each in _given_on_request(package, packages)}
    imports = (imports - _given_on_request(name, packages)) | {name.rpartition(".")[0]} - {""}
    if file.name == "__init__.py":
        pipeline = f"{name}.pipeline"
        if pipeline in imports and b"kedro.pipeline" in _file(pipeline).read_bytes():
            # It says how the nodes of this package are called, and imports the functions of all of them.
            imports -= {pipeline}
            digests.add(f"{pipeline} {_digest_of_file(_file(pipeline))}")
        if name in packages and f"{name}.settings" in graph.modules:
            digests.add(f"{name}.settings {_digest_of_file(_file(f'{name}.settings'))}")
        if name in packages and _has_plain_folders(name, packages):
            imports |= graph.find_descendants(name)
        for other in _other_files(file.parent, {_file(child) for child in graph.find_children(name)} | {file}):
            digests.add(f"{name} {other.relative_to(file.parent)} {_digest_of_file(other)}")
    named, families = _modules_named(name, file, packages)
    return _Module(digests, imports | named - {name}, families)


@cache
def _given_on_request(package: str, packages: frozenset[str]) -> Set[str]:
    """Return modules that a top-level package imports in `__getattr__` alone: for those who import it, not for itself.

    Its own modules all import the package before they run, see PEP 562.
    """
    if package not in packages or not (lines := _source(_file(package)).lines_on_request):
        return frozenset()
    graph = _graph(packages)
    return frozenset(
        other
        for other in graph.find_modules_directly_imported_by(package)
        if all(each["line_number"] in lines for each in graph.get_import_details(importer=package, imported=other))
    )


def _modules_named(
    name: str, file: Path, packages: frozenset[str]
) -> tuple[set[str], dict[str, list[tuple[str, str]]]]:
    """Return the modules that texts in a module name, and its families, see `_Module`."""
    graph, source = _graph(packages), _source(file)
    loads = not source.words.isdisjoint(LOADERS)
    modules, roots = set[str](), set[str]()
    for text in source.texts:
        if not (match := re.match(rf"({'|'.join(packages)})(?=$|[.:])[\w.]*", text)):
            continue
        module = match[0].rstrip(".")
        while module not in graph.modules:
            module = module.rpartition(".")[0]
        modules.add(module)
        if text in source.heads or (text == module and (loads or "." in module)):
            roots.add(module)
    if loads and source.names & {"__package__", "__name__", "__path__", "__file__"}:
        roots.add(name if file.name == "__init__.py" else name.rpartition(".")[0])
    if loads and "__path__" in source.words:
        roots |= graph.find_modules_directly_imported_by(name)
    families = {root: [(each.rpartition(".")[2], each) for each in graph.find_descendants(root)] for root in roots}
    if modules or "entry_points" in source.words:
        for group in source.texts & _entry_points().keys():
            families.setdefault(group, []).extend(_entry_points()[group])
    mentioned = {text.rpartition(".")[2] for text in source.texts}
    return modules | {each for family in families.values() for member, each in family if member in mentioned}, families


@cache
def _entry_points() -> dict[str, list[tuple[str, str]]]:
    """Return names and modules of all entry points, by group; reading the metadata takes a while."""
    points = entry_points()
    return {group: [(each.name, each.module) for each in points.select(group=group)] for group in points.groups}


def _has_plain_folders(top: str, packages: frozenset[str]) -> bool:
    """Return whether a package has Python files in folders without ``__init__.py``, which the graph omits."""
    known = {_file(module) for module in _graph(packages).find_descendants(top)}
    folders = {_file(module).parent for module in (top, *_graph(packages).find_descendants(top))}
    return any(other.suffix == ".py" for folder in folders for other in _other_files(folder, known | {_file(top)}))


def _other_files(folder: Path, modules: Collection[Path]) -> Iterator[Path]:
    """Yield the files of a package besides its modules, also those in subfolders that are no packages."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in ("__pycache__", "tests") or path in modules:
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not (path / "__init__.py").exists():
            yield from _other_files(path, modules)


def _top(name: str) -> str:
    return name.partition(".")[0]


@cache
def _place(top: str) -> Path | None:
    """Return the folder of a top-level package or the file of a module; None for Python's own and missing ones."""
    spec = None
    if top not in sys.stdlib_module_names:
        with suppress(ImportError, ValueError):
            spec = find_spec(top)
    if spec is None:
        return None
    return Path(spec.submodule_search_locations[0] if spec.submodule_search_locations else str(spec.origin))


def _is_installed(place: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(place.parts)


@cache
def _installed_version(top: str) -> str:
    """Return names and versions of the distributions of a top-level module; empty without any."""
    return " ".join(f"{name} {version(name)}" for name in packages_distributions().get(top, ())) if _place(top) else ""


def _file(module: str) -> Path:
    top, *parts = module.split(".")
    place = _place(top)
    assert place
    path = place.joinpath(*parts)
    file = path.with_name(f"{path.name}.py")
    return file if file.is_file() and not (path / "__init__.py").is_file() else path / "__init__.py"


@dataclass(frozen=True)
class _Source:
    """A Python file.

    Attributes:
        digest: digest of its syntax tree without docstrings.
        texts: its string constants.
        heads: string constants at the beginning of a composed text.
        names: names that it reads.
        words: these, attributes and imported names.
        lines_on_request: lines of a `__getattr__` of the module.
    """

    digest: str
    texts: Set[str]
    heads: Set[str]
    names: Set[str]
    words: Set[str]
    lines_on_request: Set[int]


@cache
def _source(file: Path) -> _Source:
    """Read a file; a package without ``__init__.py`` has an empty one."""
    tree = ast.parse(file.read_bytes() if file.is_file() else b"")
    texts, heads, names, words = set[str](), set[str](), set[str](), set[str]()
    for part in ast.walk(tree):
        match part:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(part, clean=False) is not None:
                    docstring = cast(ast.Expr, part.body.pop(0))
                    docstring.value = ast.Constant(None)  # the walk comes to it all the same
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                heads.add(text)
            case ast.BinOp(left=ast.Constant(value=str(text))):
                heads.add(text)
            case ast.Constant(value=str(text)):
                texts.add(text)
                if text.endswith(".") or "{" in text or "%" in text:
                    heads.add(text)
            case ast.Name(id=word):
                names.add(word)
            case ast.Attribute(attr=word) | ast.alias(name=word):
                words.add(word)
    given = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name == "__getattr__"]
    lines = {line for part in given for line in range(part.lineno, (part.end_lineno or part.lineno) + 1)}
    return _Source(digest(ast.dump(tree)), texts, heads, names, names | words, lines)


@cache
def _digest_of_file(file: Path) -> str:
    return _source(file).digest if file.suffix == ".py" else remembered_sha256(file)
