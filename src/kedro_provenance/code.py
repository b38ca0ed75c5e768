"""Digests of the project's code, as far as a node runs it."""

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from kedro_provenance.files.digests import digest
from kedro_provenance.project import PACKAGES

SOURCES = Path(__file__).parents[1]


@dataclass(frozen=True)
class _Code:
    """What some code consists of.

    Attributes:
        digests: of definitions, modules and the package's other files, such as templates of pages.
        families: packages whose modules parameters name, such as ``reclora_kedro.lens.models``; entry points of a
            group with the package's name add others.
    """

    digests: set[str] = field(default_factory=set)
    families: set[str] = field(default_factory=set)

    def add(self, tree: ast.AST) -> set[str]:
        """Take in a tree; the modules of the project that it imports."""
        self.digests.add(_digest(tree))
        modules, families, files = _references(tree)
        self.families.update(families)
        self.digests.update(digest(file.read_text(encoding="utf-8")) for file in files)
        return modules

    def join(self, other: "_Code") -> None:
        """Take in other code."""
        self.digests.update(other.digests)
        self.families.update(other.families)


def code_digest(function: Callable[..., Any], values: Collection[str] = ()) -> str:
    """Digest of the project's code that a function or a class runs, apart from comments, docstrings and layout.

    That is its own definition, what the definition names of its module, and every module of the project that it
    imports, directly or through others, with the packages that these lie in and the files that they name. Packages
    that the project uses do not count: the run manifest has them.

    Args:
        function: the function or class.
        values: texts among the parameters of the function. Of modules that it imports by a name that is put together,
            as lenses are, those count that one of these names.
    """
    code = _code_run_by(inspect.unwrap(function))
    return digest(sorted(code.digests)) if not code.families else digest(sorted(_with_members(code, values).digests))


@cache
def _code_run_by(function: Callable[..., Any]) -> "_Code":
    module = _Module.find(function.__module__)
    if module is None:
        return _Code({f"{function.__module__}.{function.__qualname__}"})
    return _code_of(module, function.__name__)


def _with_members(code: "_Code", values: Collection[str]) -> "_Code":
    """Some code with those modules of its families that values name, at any depth."""
    whole, seen = _Code(set(code.digests), set(code.families)), set[str]()
    while families := whole.families - seen:
        seen |= families
        for value in values:
            added = (point.value for family in families for point in entry_points(group=family, name=value))
            for name in (value, *added, *(f"{family}.{value}" for family in families)):
                if _Module.find(name):
                    whole.join(_code_behind(name))
    return whole


def _code_of(module: "_Module", name: str) -> _Code:
    """The code behind a name of a module: its definition and, recursively, what that names.

    That of a function within another one, or without a name, is the whole module.
    """
    if name not in module.definitions:
        return _code_behind(module.name)
    code, imported, names, seen = _Code(), set[str](), [name], set[str]()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in module.imports:
            imported.add(module.imports[name])
        for definition in module.definitions.get(name, ()):
            imported |= code.add(definition)
            names += [part.id for part in ast.walk(definition) if isinstance(part, ast.Name)]
    for start in imported:
        code.join(_code_behind(start))
    return code


@cache
def _code_behind(start: str) -> _Code:
    """A module and all modules of the project that it imports, at any depth; importing one runs its packages, too."""
    code, names, seen = _Code(), [start], set[str]()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        if module := _Module.find(name):
            names += [*code.add(module.tree), name.rpartition(".")[0]]
    return code


@dataclass(frozen=True)
class _Module:
    name: str
    tree: ast.Module
    definitions: Mapping[str, list[ast.stmt]]
    """Statements that give a name its value, by the name."""
    imports: Mapping[str, str]
    """Modules of the project that names stand for, or are taken from."""

    @staticmethod
    @cache
    def find(name: str) -> "_Module | None":
        """The module of a name; None if it is no module of the project."""
        package, *parts = name.split(".")
        path = SOURCES.joinpath(package, *parts)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if package not in PACKAGES or not file.is_file():
            return None
        tree = ast.parse(file.read_text(encoding="utf-8"))
        definitions: dict[str, list[ast.stmt]] = {}
        imports: dict[str, str] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                imports.update(_imported_names(statement))
            else:
                for defined in _defined_names(statement):
                    definitions.setdefault(defined, []).append(statement)
        return _Module(name, tree, definitions, imports)


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    else:
        yield from (part.id for part in ast.walk(statement) if isinstance(part, ast.Name))


def _imported_names(statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Names that an import gives, each with the module of the project that it is or comes from."""
    for alias in statement.names:
        if isinstance(statement, ast.Import):
            name, module = alias.asname or alias.name, alias.name
        else:
            name, module = alias.asname or alias.name, f"{statement.module}.{alias.name}"
            module = module if _Module.find(module) else str(statement.module)
        if _Module.find(module):
            yield name, module


@cache
def _references(tree: ast.AST) -> tuple[set[str], set[str], set[Path]]:
    """What code refers to: modules of the project, families of modules, and other files of the package."""
    modules, families, files = set[str](), set[str](), set[Path]()
    for part in ast.walk(tree):
        if isinstance(part, ast.Import | ast.ImportFrom):
            modules.update(module for _, module in _imported_names(part))
        elif isinstance(part, ast.Constant) and part.value in _packages():
            families.add(str(part.value))
        elif isinstance(part, ast.Constant) and part.value in _files():
            files |= _with_named_files(str(part.value))
    return modules, families, files


@cache
def _packages() -> set[str]:
    """Names of the project's packages within others."""
    folders = (file.parent for package in PACKAGES for file in (SOURCES / package).rglob("__init__.py"))
    return {".".join(folder.relative_to(SOURCES).parts) for folder in folders} - {*PACKAGES}


@cache
def _files() -> dict[str, list[Path]]:
    """Files of the package that are no code, such as templates, by their names; several may have one name."""
    files: dict[str, list[Path]] = {}
    for file in sorted(file for package in PACKAGES for file in (SOURCES / package).rglob("*.*")):
        if file.suffix not in (".py", ".pyc"):
            files.setdefault(file.name, []).append(file)
    return files


def _with_named_files(name: str) -> set[Path]:
    """Files of a name, and those whose names their texts have, at any depth, such as the page that one extends."""
    left, files = [*_files()[name]], set[Path]()
    while left:
        if (file := left.pop()) not in files:
            files.add(file)
            text = file.read_text(encoding="utf-8")
            left += [each for other, named in _files().items() if other in text for each in named]
    return files


@cache
def _digest(tree: ast.AST) -> str:
    """Digest of a tree without docstrings; comments and layout are no part of it."""
    for part in ast.walk(tree):
        body = getattr(part, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            constant = body[0].value
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                body[0] = ast.Pass()
    return digest(ast.dump(tree))
