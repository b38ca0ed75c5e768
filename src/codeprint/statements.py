"""The statements of a Python module: what each one binds, refers to, and does when the module is imported.

One file is read at a time; `codeprint.references` follows names from module to module.
"""

import ast
import hashlib
import inspect
import marshal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from codeprint.files import digest, private_cache, write_cached
from codeprint.forms import form
from codeprint.memory import remembered

FORMAT = 6  # of what is kept in the cache
Function = ast.FunctionDef | ast.AsyncFunctionDef
MUTATORS = ("add", "append", "clear", "discard", "extend", "insert", "pop", "register", "remove", "set", "update")
"""Beginnings of the names of methods that change their object."""
CONSTRUCTORS = {"__init__", "__new__", "__post_init__"}
DECORATED = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef}
LEAVES = {ast.Name, ast.Constant}  # most parts of code, in which there are no others


class Names(NamedTuple):
    """What a part of a module refers to, as dotted chains such as ``np.random.seed``."""

    read: frozenset[str]  # names and chains of attributes
    called: frozenset[str]  # what is called, and what decorates functions and classes
    changed: frozenset[str]  # what is assigned to in place, or changed by a method


@dataclass(eq=False, slots=True)  # not frozen: there are thousands, and to make a frozen one takes three times as long
class Statement:
    """A statement of a module."""

    digest: str  # of its form without docstrings; empty for an import, which counts by what it imports
    docs: str  # digest of its docstrings; empty without any
    binds: frozenset[str]  # names that it binds in the module
    imports: Mapping[str, tuple[str, ...]]  # targets, such as `pkg.models:Model`, by the names that they are bound to
    modules: tuple[str, ...]  # targets that it imports at once; those in functions are imported when these run
    stars: tuple[str, ...]  # modules of which it imports all names
    names: Names  # what it refers to, at any depth
    at_import: Names  # what it refers to outside of the bodies of functions
    texts: frozenset[str]  # its string constants
    heads: frozenset[str]  # string constants at the beginning of a composed text
    words: frozenset[str]  # names, attributes and imported names
    decorators: tuple[tuple[str, str], ...]  # of a function or class, each with its first argument if this is a text
    bases: tuple[str, ...]  # base classes of a class, and its metaclass
    registers: bool  # whether the classes that inherit from this one are noted somewhere
    constructing: Names | None  # of a class, what the methods refer to that make its objects
    is_variable: bool  # whether it binds a value that may be changed in place
    runs: bool  # whether it does something at import besides binding names


@dataclass(frozen=True)
class Source:
    """A module."""

    statements: Sequence[Statement]  # at the top level
    bindings: Mapping[str, Sequence[int]]  # indices of the statements that bind a name


def read_source(module: str, file: Path | None, package: str) -> Source:
    """Read a module; one without a file, such as a package without ``__init__.py``, or of no valid Python is empty."""
    statements = _cached_statements(module, file, package) if file else []
    bindings: dict[str, list[int]] = {}
    for index, statement in enumerate(statements):
        for name in statement.binds:
            bindings.setdefault(name, []).append(index)
    return Source(statements, bindings)


def _cached_statements(module: str, file: Path, package: str) -> list[Statement]:
    """Return the statements of a file, which are kept in the user's cache with the digest of its content."""
    content = file.read_bytes()
    state = (FORMAT, package, hashlib.sha256(content).hexdigest())
    name = f"code/{digest([str(file), module])}"
    with suppress(OSError, ValueError, EOFError, TypeError):  # it is not there, or damaged
        of_state, kept = marshal.loads((private_cache() / name).read_bytes())
        if of_state == state:
            return [_from_plain(each) for each in kept]
    try:
        tree = ast.parse(content, str(file))
    except (SyntaxError, ValueError):  # nothing can import it, such as a draft or a template among the pipelines
        return []
    docs = _take_docs([tree])
    statements = [statement_of(each, package) for each in tree.body if not _is_skipped(each)]
    if docs:
        of_module = replace(statement_of(ast.Pass()), digest="", docs=digest(docs), binds=frozenset(["__doc__"]))
        statements.append(of_module)
    with suppress(OSError):  # where there is no cache, files are read each time
        write_cached(private_cache() / name, marshal.dumps((state, [*map(_to_plain, statements)]), 4))
    return statements


def _to_plain(statement: Statement) -> tuple[Any, ...]:
    values = (getattr(statement, name) for name in Statement.__slots__)
    return tuple(tuple(value) if isinstance(value, Names) else value for value in values)


def _from_plain(plain: Sequence[Any]) -> Statement:
    """Return a statement from what `_to_plain` makes of it."""
    statement = Statement(*plain)
    statement.names, statement.at_import = Names(*statement.names), Names(*statement.at_import)
    statement.constructing = Names(*statement.constructing) if statement.constructing else None
    return statement


@remembered
def inner_function(file: Path, code: CodeType, package: str) -> Statement | None:
    """Return the function within another one, or the lambda, that was compiled to this code; None if there is none."""
    name, line = code.co_name, code.co_firstlineno
    content = file.read_bytes()
    found: list[Any] = [
        part for part in _parts_of(ast.parse(content)) if _name_of(part) == name and _first_line(part) == line
    ]
    found.sort(key=lambda part: part.col_offset)
    if len({form(part) for part in found}) > 1:  # lambdas beside each other
        compiled = [*_compiled(compile(content, code.co_filename, "exec", dont_inherit=True), name, line)]
        of_parts = zip(found, compiled, strict=True) if len(found) == len(compiled) else ()
        found = [part for part, each in of_parts if each == code]
    return statement_of(found[0], package) if found else None


def _compiled(code: CodeType, name: str, line: int) -> Iterator[CodeType]:
    """Yield the code of functions of this name that begin in a line, in their order."""
    if code.co_name == name and code.co_firstlineno == line:
        yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _compiled(each, name, line)


def _name_of(part: ast.AST) -> str | None:
    return "<lambda>" if isinstance(part, ast.Lambda) else part.name if isinstance(part, Function) else None


def _first_line(function: Any) -> int:
    """Return the line in which a function begins, or its first decorator."""
    return min([function.lineno, *(each.lineno for each in getattr(function, "decorator_list", ()))])


def _parts_of(part: ast.AST) -> list[ast.AST]:
    """Return a syntax tree and all in it, breadth first as `ast.walk` does in three times as long."""
    parts = [part]
    for each in parts:
        if type(each) in LEAVES:
            continue
        for value in vars(each).values():
            if isinstance(value, list):
                parts += [inner for inner in value if isinstance(inner, ast.AST)]
            elif isinstance(value, ast.AST) and value._fields:  # neither loading nor storing
                parts.append(value)
    return parts


def _take_docs(parts: list[ast.AST]) -> list[str]:
    """Remove the docstrings of modules, classes and functions, and return them without their indentation."""
    docs, removed = list[str](), set[int]()
    for each in parts:
        if isinstance(each, ast.Module | ast.ClassDef | Function) and ast.get_docstring(each, clean=False) is not None:
            said: Any = each.body.pop(0)
            docs.append(inspect.cleandoc(said.value.value))
            removed |= {id(said), id(said.value)}
    parts[:] = [each for each in parts if id(each) not in removed]
    return docs


def _is_skipped(part: ast.stmt) -> bool:
    """Whether a statement runs for type checkers or as a script only."""
    if not isinstance(part, ast.If) or part.orelse:
        return False
    condition = ast.unparse(part.test)
    return condition in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def statement_of(part: ast.AST, package: str = "") -> Statement:
    """Return what is known of a statement or function in a package, which relative imports begin from."""
    everywhere = _parts_of(part)
    docs = _take_docs(everywhere)
    at_import = [*_at_import(part)]
    imports, modules = _imports(everywhere, at_import, package)
    is_import = isinstance(part, ast.Import | ast.ImportFrom)
    texts, heads = _texts(everywhere)
    bases, registers, constructing = list[str](), False, None
    if isinstance(part, ast.ClassDef):
        inherited = [*part.bases, *(each.value for each in part.keywords if each.arg == "metaclass")]
        bases = [*filter(None, map(_root, inherited))]
        methods = {each.name: each for each in part.body if isinstance(each, Function)}
        registers = "__init_subclass__" in methods or "type" in bases
        constructing = _names([inner for name in CONSTRUCTORS & methods.keys() for inner in _parts_of(methods[name])])
    return Statement(
        digest="" if is_import else digest(form(part)),
        docs=digest(docs) if docs else "",
        binds=frozenset(_bound(part)),
        imports={name: tuple(targets) for name, targets in imports.items()},
        modules=tuple(modules),
        stars=tuple(target.removesuffix(":*") for target in modules if target.endswith(":*")),
        names=_names(everywhere),
        at_import=_names(at_import),
        texts=frozenset(texts),
        heads=frozenset(heads),
        words=frozenset(_words(everywhere)),
        decorators=tuple(_decorators(part)),
        bases=tuple(bases),
        registers=registers,
        constructing=constructing,
        is_variable=_is_variable(part),
        runs=any(_runs(each) for each in at_import),
    )


def _decorators(part: ast.AST) -> Iterator[tuple[str, str]]:
    for each in getattr(part, "decorator_list", ()):
        first = each.args[0] if isinstance(each, ast.Call) and each.args else None
        text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
        if chain := _root(each):
            yield chain, text


def _at_import(part: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a statement that run when its module is imported: no bodies of functions."""
    left: list[ast.AST] = [part]
    while left:
        each = left.pop()
        yield each
        if isinstance(each, Function):
            left += [*each.decorator_list, each.args]
        elif isinstance(each, ast.Lambda):
            left.append(each.args)
        else:
            left += ast.iter_child_nodes(each)


def _runs(part: ast.AST) -> bool:
    match part:
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.Expr() | ast.AugAssign() | ast.For() | ast.While() | ast.With() | ast.Delete():
            return True
        case ast.Subscript(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
            return True
    return False


def _imports(
    parts: Sequence[ast.AST], at_import: Sequence[ast.AST], package: str
) -> tuple[dict[str, list[str]], list[str]]:
    """Return targets by name, and those that are imported at once."""
    names: dict[str, list[str]] = {}
    modules, at_once = list[str](), {id(each) for each in at_import}
    for each in parts:
        if isinstance(each, ast.Import):
            targets = [alias.name for alias in each.names]
            bound = [alias.name if alias.asname else alias.name.partition(".")[0] for alias in each.names]
        elif isinstance(each, ast.ImportFrom):
            bound = targets = [f"{_absolute(each, package)}:{alias.name}" for alias in each.names]
        else:
            continue
        for alias, target in zip(each.names, bound, strict=True):
            if alias.name != "*":
                names.setdefault(alias.asname or alias.name.partition(".")[0], []).append(target)
        modules += targets if id(each) in at_once else []
    return names, modules


def _absolute(part: ast.ImportFrom, package: str) -> str:
    parents = package.split(".")[: len(package.split(".")) - part.level + 1] if part.level else []
    return ".".join([*parents, *([part.module] if part.module else [])])


def _bound(part: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds in its module."""
    left: list[ast.AST] = [part]
    while left:
        each = left.pop()
        match each:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pass
            case ast.ExceptHandler(name=str(name)):
                yield name
                left += each.body
            case _:
                left += ast.iter_child_nodes(each)


def _chain(part: ast.AST) -> str | None:
    """Return names with attributes as a dotted chain; None for any other expression."""
    names: list[str] = []
    while isinstance(part, ast.Attribute):
        names.append(part.attr)
        part = part.value
    return ".".join([part.id, *reversed(names)]) if isinstance(part, ast.Name) else None


def _root(part: ast.AST) -> str | None:
    """Return the chain at the beginning of an expression, such as ``MODELS`` of ``MODELS["a"].b``."""
    while isinstance(part, ast.Subscript | ast.Call | ast.Attribute) and _chain(part) is None:
        part = part.func if isinstance(part, ast.Call) else part.value
    return _chain(part)


def _names(parts: Sequence[Any]) -> Names:
    read, called, changed = set[str](), set[str](), set[str | None]()
    inner = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}
    for part in parts:
        kind = type(part)
        if kind is ast.Name:  # as most are
            if type(part.ctx) is ast.Load and id(part) not in inner:
                read.add(part.id)
        elif kind is ast.Attribute:
            if id(part) not in inner and (chain := _chain(part)):
                read.add(chain)
            if type(part.ctx) is not ast.Load:
                changed.add(_root(part.value))
        elif kind is ast.Call:
            called |= {chain} if (chain := _root(part.func)) else set()
            if isinstance(part.func, ast.Attribute) and part.func.attr.startswith(MUTATORS):
                changed.add(_root(part.func.value))
        elif kind is ast.Subscript:
            if type(part.ctx) is not ast.Load:
                changed.add(_root(part))
        elif kind is ast.AugAssign:
            changed.add(_root(part.target))
        elif kind is ast.Global:
            changed |= {*part.names}
        elif kind in DECORATED:
            called |= {chain for each in part.decorator_list if (chain := _root(each))}
    return Names(frozenset(read), frozenset(called), frozenset(filter(None, changed)))


def _texts(parts: Sequence[ast.AST]) -> tuple[set[str], set[str]]:
    texts, heads = set[str](), set[str]()
    for part in parts:
        if type(part) is ast.Name:
            continue
        match part:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                heads.add(text)
            case ast.BinOp(left=ast.Constant(value=str(text))):
                heads.add(text)
            case ast.Constant(value=str(text)):
                texts.add(text)
                if text.endswith(".") or "{" in text or "%" in text:
                    heads.add(text)
    return texts, heads


def _words(parts: Sequence[ast.AST]) -> Iterator[str]:
    for part in parts:
        match part:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.alias(name=word):
                yield word


def _is_variable(part: ast.AST) -> bool:
    if isinstance(part, ast.Assign | ast.AnnAssign):
        return not _is_constant(part.value)
    return isinstance(part, ast.If | ast.Try | ast.For | ast.While | ast.With)


def _is_constant(value: ast.AST | None) -> bool:
    match value:
        case None | ast.Constant() | ast.UnaryOp(operand=ast.Constant()):
            return True
        case ast.Tuple(elts=parts):
            return all(map(_is_constant, parts))
    return False
