"""Provenance: what a saved version was made of, kept beside its files.

A version fits a run if the run would make it in the same way: by the same code, with the same parameters, of inputs
with the same contents. So a run that goes on need not trust that nothing was changed in between.
"""

import ast
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kedro.pipeline import Node
from pydantic_core import to_jsonable_python

from reclora_kedro.files.digests import digest, digest_of_files
from reclora_kedro.parameters import Block

FILE = "provenance.json"
PACKAGE = __name__.partition(".")[0]
SOURCES = Path(__file__).parents[1]


@dataclass(frozen=True)
class Origin:
    """One state of something that others were made of.

    Attributes:
        digest: of its content or, for a node, of all that the node was given.
        version: that carries it; None for what has no versions.
    """

    digest: str
    version: str | None


@dataclass(frozen=True)
class Provenance:
    """What a version was made of.

    Attributes:
        node: name of the node that made it.
        code: digest of the project's code that the node runs.
        parameters: what the node reads of the parameters, by their names.
        inputs: by the name of an entry, what the node loaded.
        origins: all that it comes from, the inputs' origins included: nodes, and entries that no node makes, by name.
        mixed: sentences about inputs that come from different states of the same thing.
        content: digest of the version's files.
    """

    node: str
    code: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Origin]
    origins: Mapping[str, Origin]
    mixed: tuple[str, ...] = ()
    content: str = ""

    def write(self, folder: Path) -> None:
        """Write this beside the files of a version, with the digest of these."""
        content = digest_of_files(folder, leave_out=[FILE])
        (folder / FILE).write_text(json.dumps(asdict(replace(self, content=content)), indent=1), encoding="utf-8")


def read_provenance(folder: Path) -> Provenance | None:
    """What a version in a folder was made of; None if nothing says so, or if that cannot be read."""
    try:
        return parse_provenance((folder / FILE).read_bytes())
    except OSError:
        return None


def parse_provenance(content: bytes) -> Provenance | None:
    """The provenance that the content of a file says; None if it says none."""
    try:
        fields = json.loads(content)
        for name in ("inputs", "origins"):
            fields[name] = {key: Origin(**origin) for key, origin in fields[name].items()}
        return Provenance(**fields | {"mixed": tuple(fields["mixed"])})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def is_intact(folder: Path, provenance: Provenance) -> bool:
    """Whether a version's files are those that were saved."""
    return digest_of_files(folder, leave_out=[FILE]) == provenance.content


def read_of(node: Node, name: str, value: Any) -> Any:
    """What a node reads of a parameter: all of it, or the fields that its function names, see `parameters.reads`.

    Of a block that changes no results it is nothing.
    """
    if isinstance(value, Block) and not value.changes_results:
        return {}
    fields = getattr(node.func, "reads", {})
    arguments = inspect.signature(node.func).bind(*node.inputs).arguments if fields else {}
    names = next(
        (fields[argument] for argument, given in arguments.items() if given == name and argument in fields), None
    )
    return to_jsonable_python(
        value if names is None else {field: getattr(value, field) for field in names}, fallback=str
    )


@cache
def code_digest(function: Callable[..., Any]) -> str:
    """Digest of the project's code that a function runs, apart from comments, docstrings and layout.

    That is its own definition, what the definition names of its module, and every module of the project that it
    imports, directly or through others. Packages that the project uses do not count: the run manifest has them.
    """
    inner = inspect.unwrap(function)
    module = _Module.of(inner.__module__)
    if module is None:
        return digest(inner.__qualname__)
    return digest(sorted(_code_of(module, inner.__name__)))


def _code_of(module: "_Module", name: str) -> set[str]:
    """Digests of the code behind a name of a module: its definition and, recursively, what that names."""
    code, imported, names, seen = set(), set(), [name], set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in module.imports:
            imported.add(module.imports[name])
        for definition in module.definitions.get(name, ()):
            code.add(_digest(definition))
            imported.update(_imported_modules(definition))
            names += [part.id for part in ast.walk(definition) if isinstance(part, ast.Name)]
    return code | {text for start in imported for text in _code_behind(start)}


@cache
def _code_behind(start: str) -> frozenset[str]:
    """Digests of a module and of all modules of the project that it imports, at any depth."""
    code, names, seen = set(), [start], set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        if module := _Module.of(name):
            code.add(_digest(module.tree))
            names += _imported_modules(module.tree)
    return frozenset(code)


@dataclass(frozen=True)
class _Module:
    tree: ast.Module
    definitions: Mapping[str, list[ast.stmt]]
    """Statements that give a name its value, by the name."""
    imports: Mapping[str, str]
    """Modules of the project that names stand for, or are taken from."""

    @staticmethod
    @cache
    def of(name: str) -> "_Module | None":
        """The module of a name; None if it is no module of the project."""
        package, *parts = name.split(".")
        path = SOURCES.joinpath(*parts)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if package != PACKAGE or not file.is_file():
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
        return _Module(tree, definitions, imports)


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
            module = module if _Module.of(module) else str(statement.module)
        if _Module.of(module):
            yield name, module


@cache
def _imported_modules(tree: ast.AST) -> set[str]:
    """Modules of the project that code imports, by name or, as lenses are, by a name that begins in the code."""
    modules: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Import | ast.ImportFrom):
            modules.update(module for _, module in _imported_names(part))
        elif isinstance(part, ast.JoinedStr) and isinstance(start := part.values[0], ast.Constant):
            package = str(start.value)
            if package.startswith(f"{PACKAGE}."):
                folder = SOURCES.joinpath(*package.split(".")[1:])
                modules.update(f"{package}{file.stem}" for file in folder.glob("*.py"))
    return modules


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
