"""Digests of the code that nodes run: functions, classes and variables, and all that these refer to at any depth.

Code counts if it is the project's own: any that is installed neither in ``site-packages`` nor with Python. Of a module
that is imported, what it does at import counts, too: for its own functions, and for whatever reads what it changes.
Where names are known at run time only, whole modules count: those that the run's parameters name, or all of a package
if none is named.
"""

import re
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import all_suffixes
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kedro_provenance.files.digests import digest, remembered_sha256
from kedro_provenance.source import READING, Source, Statement, inner_function, read_source, statement_of
from kedro_provenance.values import Start, Taken

LOADERS = {"import_module", "__import__", "iter_modules", "walk_packages"}
"""Functions that import or list modules whose names stand nowhere in the code."""
DYNAMIC = {"globals", "vars", "exec", "eval", "__dict__", "__getattr__"}
"""Words of code that may refer to anything of its module."""
HARMLESS = {"logging", "warnings", "print", "__future__"}
"""What module-level statements may call without a change of any result."""
NAME = re.compile(r"[A-Za-z_][\w.:-]*")
"""Of a module, of an object in one, or of an entry point."""
DOTTED = re.compile(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)*[.:]?")
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
UNSEEN_FILES = ("README", "LICENSE", "CHANGELOG")

Key = tuple[str, int | str]
"""A statement of a module by its index, a whole module by "*", or, of the module "", a text that counts as it is."""


@dataclass(frozen=True)
class _Effect:
    """What a module does when it is imported.

    Attributes:
        key: the statement.
        touched: variables, functions and classes that it changes; none if it changes something outside of the project.
        spreads: whether it calls something, which may change more than what is known.
    """

    key: Key
    touched: frozenset[Key]
    spreads: bool


@dataclass(frozen=True)
class Code:
    """The code of an object.

    Attributes:
        digest: digest of all of it.
        parts: digests of what it consists of, by module and name, such as ``shop.nodes.train``.
        uncompared: types of values that it holds and that cannot be compared.
    """

    digest: str
    parts: Mapping[str, str]
    uncompared: tuple[str, ...] = ()


def code_of(value: Any, packages: Collection[str] = (), values: Collection[str] = ()) -> Code:
    """Return the code that a function, a class or an object runs, apart from comments, docstrings and layout.

    Values in partial functions, closures, default arguments and bound objects count by their content. Installed
    packages do not count, as the run manifest has their versions; one that a value names counts by its version.

    Args:
        value: the function, class or object.
        packages: names of packages whose code counts wherever they are installed.
        values: texts among the parameters: names or dotted paths of modules, or names of entry points.

    Raises:
        SyntaxError: the file of a function within another one, or of a lambda, is no valid Python any more.
    """
    taken, described = _taken(value, packages)
    found, parts = _parts(frozenset(taken.starts), frozenset(values), frozenset(packages))
    return Code(digest([described, found]), parts, tuple(taken.uncompared))


def code_digest(value: Any, packages: Collection[str] = (), values: Collection[str] = ()) -> str:
    """Return the digest of the code of an object, see `code_of`."""
    return code_of(value, packages, values).digest


def uncomparable(value: Any, packages: Collection[str] = ()) -> tuple[str, ...]:
    """Return the types of values that an object holds and that cannot be compared, see `code_of`."""
    return tuple(_taken(value, packages)[0].uncompared)


def forget_code() -> None:
    """Forget the code that was read: by default a process reads it once, as it imports modules once."""
    for function in [*globals().values()]:
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def _taken(value: Any, packages: Collection[str]) -> tuple[Taken, Any]:
    """Return what an object holds, and its description."""
    taken = Taken(lambda module: is_own(module, frozenset(packages)))
    return taken, taken.describe(value)


@cache
def _parts(starts: frozenset[Start], values: frozenset[str], packages: frozenset[str]) -> tuple[str, Mapping[str, str]]:
    """Return the digest of all code, and of each of its parts by name."""
    parts = _Search(packages).parts(starts, values)
    return digest(sorted(parts.items())), parts


class _Search:
    """The search for all that objects refer to.

    Args:
        packages: packages whose code counts wherever they are installed; the first modules that Kedro imports are
            theirs.
    """

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    def parts(self, starts: Collection[Start], values: frozenset[str]) -> dict[str, str]:
        """Return digests of all code by its name."""
        parts = dict[str, str]()
        by_module, words, reads = dict[str, list[Statement]](), set[str](), False
        reached, more = set[Key](), {key for value in values for key in _named_by(self.packages, value)}
        modules = set[str]()  # that are imported besides those of the project
        referred = set[str]()  # modules of all that is referred to, before what is done at import is added
        for start in starts:
            module = _module_of(self.packages, start.module)
            if module is None:
                continue
            if function := self._inner_function(module, start):
                by_module.setdefault(module, []).append(function)
                more |= {*self._referred(module, function), (module, "")}
                parts[f"{module}.{start.name}:{function.digest[:6]}"] = function.digest
            else:
                more |= self._in_module(module, start.name.split(".")[:1] if start.name else [])
        while more:
            changed = {*by_module} if not reached else set[str]()
            new = self._reach(more, reached)
            for module, index in new:
                if module:
                    by_module.setdefault(module, []).extend(self._statements(module, index))
                    changed.add(module)
                else:
                    words.add(str(index).rpartition(":")[2])
            reached |= new
            for module in changed:
                for statement in by_module[module]:
                    words |= statement.words
                    reads = reads or statement.reads
                    modules |= _own_targets(self.packages, statement)
            modules |= changed
            by_groups = "entry_points" in words
            more = {
                key
                for module in ({*by_module} if by_groups else changed)
                if _may_name(self.packages, module, by_groups)
                for key in self._by_name(module, by_module[module], values, words)
            } - reached
            if more:
                continue
            referred = referred or {*by_module}
            for effect in _all_effects(self.packages, frozenset(modules), "__subclasses__" in words):
                is_beside = effect.spreads and effect.key[0] in referred
                if is_beside or not effect.touched or not effect.touched.isdisjoint(reached):
                    more.add(effect.key)
            more -= reached
        parts |= {name: text for key in reached for name, text in _part(self.packages, key)}
        parts |= self._orders(reached)
        if reads or any(READING.search(str(text)) for module, text in reached if not module):
            texts = None
        else:
            texts = {text for each in by_module.values() for statement in each for text in statement.texts}
        parts |= {name: text for module in by_module for name, text in self._other_files(module, texts)}
        return parts

    def _inner_function(self, module: str, start: Start) -> Statement | None:
        """Return a function within another one, or a lambda; None for a statement of its module."""
        place = _place(module)
        if not (place and place.file) or ("<locals>" not in start.name and start.name != "<lambda>"):
            return None
        function = inner_function(place.file, start.name.rpartition(".")[2], start.line)
        return statement_of(function, self._package(module)) if function else None

    def _find_named_by(self, value: str) -> set[Key]:
        """Return what a parameter names: a module or an object of one, by a dotted path."""
        if not NAME.fullmatch(value):
            return set()
        path = value.replace(":", ".").strip(".")
        top = path.partition(".")[0]
        if not is_own(top, self.packages):
            return {("", _installed_version(top))} if "." in path else set()
        place = _place(top)
        if "." not in path and not (place and place.file):
            return set()  # a word alone is hardly meant as a folder
        module = _module_of(self.packages, path)
        return self._in_module(module, path.removeprefix(module).split(".")[1:]) if module else set()

    def _package(self, module: str) -> str:
        place = _place(module)
        return module if place and place.folders is not None else module.rpartition(".")[0]

    def _statements(self, module: str, index: int | str) -> list[Statement]:
        statements = _source(module).statements
        return [statements[index]] if isinstance(index, int) else [*statements] if index == "*" else []

    def _find_part(self, key: Key) -> Iterator[tuple[str, str]]:
        """Yield names and digests of a statement."""
        module, index = key
        if not module:
            yield str(index), ""
        elif isinstance(index, int):
            source = _source(module)
            statement = source.statements[index]
            named = ", ".join(sorted(statement.binds)) or f"(statement {statement.digest[:6]})"
            mark = statement.digest[:6]
            if len(statement.binds) == 1:  # of several statements that bind the name, each has its place among them
                mark = str(source.bindings[named].index(index) or "")
            if statement.digest:
                yield f"{module}.{named}:{mark}".rstrip(":"), statement.digest
        elif index == "*":
            place = _place(module)
            file = place.file if place else None
            yield module, remembered_sha256(file) if file and file.suffix != ".py" else ""  # an extension

    def _orders(self, reached: Collection[Key]) -> dict[str, str]:
        """Return digests of the order of what modules do at import, for those that do more than bind names."""
        by_module = dict[str, list[Statement]]()
        for module, index in sorted(key for key in reached if key[0] and isinstance(key[1], int)):
            by_module.setdefault(module, []).extend(self._statements(module, index))
        ordered = {
            module: [each.digest for each in statements if each.digest and (each.runs or each.is_variable)]
            for module, statements in by_module.items()
            if any(each.runs for each in statements)
        }
        return {f"{module}:order": digest(digests) for module, digests in ordered.items() if len(digests) > 1}

    def _reach(self, keys: Collection[Key], reached: Collection[Key] = ()) -> set[Key]:
        """Return statements and all that they refer to, without what is reached already."""
        new, left = set[Key](), [*keys]
        while left:
            key = left.pop()
            if key not in new and key not in reached:
                new.add(key)
                left += _edges(self.packages, key)
        return new

    def _find_edges(self, key: Key) -> Iterator[Key]:
        module, index = key
        if not module:
            return
        source = _source(module)
        if index == "*":
            for position, statement in enumerate(source.statements):
                yield module, position
                for name in statement.imports:
                    yield from self._resolve(module, statement, [name])
        elif isinstance(index, int):
            yield from self._referred(module, source.statements[index])

    def _referred(self, module: str, statement: Statement) -> Iterator[Key]:
        """Yield what a statement refers to."""
        if statement.digest:  # what an import binds counts where it is used
            for chain in statement.names.read:
                yield from self._resolve(module, statement, chain.split("."))
            bindings = _source(module).bindings
            for text in statement.texts & bindings.keys():  # such as an annotation
                yield from self._in_module(module, [text])
            if not statement.words.isdisjoint(DYNAMIC) or "sys.modules" in statement.names.read:
                yield module, "*"
        for star in statement.stars:
            if is_own(star, self.packages):
                yield star, "*"

    def _resolve(self, module: str, statement: Statement, path: list[str]) -> set[Key]:
        """Return what a chain of names in a statement refers to."""
        name, *rest = path
        if statement.digest and name in statement.imports:
            return {key for target in statement.imports[name] for key in self._target(name, target, rest)}
        return self._in_module(module, path, else_whole=False)

    def _target(self, name: str, target: str, rest: list[str], seen: frozenset[str] = frozenset()) -> set[Key]:
        """Return what an import refers to."""
        module, _, member = target.partition(":")
        if not is_own(module, self.packages):
            return {("", f"{name}={target}")}
        if not _place(module):
            return {("", f"{name}={target}, which is missing")}
        return self._in_module(module, [*([member] if member else []), *rest], seen)

    def _in_module(
        self, module: str, path: list[str], seen: frozenset[str] = frozenset(), else_whole: bool = True
    ) -> set[Key]:
        """Return what a chain of names refers to in a module; the whole module if nothing in it has the name.

        Args:
            module: name of the module.
            path: the names; none for the module itself.
            seen: imports on the way here.
            else_whole: False for names that may be built in, or local ones of a function.
        """
        if not path or (step := f"{module}:{path[0]}") in seen:
            return {(module, "*")} if not path else set()
        name, *rest = path
        source, keys = _source(module), set[Key]()
        for index in source.bindings.get(name, ()):
            statement = source.statements[index]
            if statement.digest:
                keys.add((module, index))
            for target in statement.imports.get(name, ()):
                keys |= self._target(name, target, rest, seen | {step})
        if keys or name in source.bindings:
            return keys
        if _place(f"{module}.{name}"):
            return self._in_module(f"{module}.{name}", rest, seen | {step})
        for star in _own_stars(self.packages, module):
            keys |= self._in_module(star, path, seen | {step}, else_whole=False)
        return keys or ({(module, "*")} if else_whole else set())

    def _find_imported(self, targets: Collection[str]) -> Iterator[str]:
        """Yield own modules and those that they import, at any depth, with the packages that they are in."""
        left, seen = [*targets], set[str]()
        while left:
            module = _module_of(self.packages, left.pop())
            if module is None or module in seen:
                continue
            seen.add(module)
            yield module
            left.append(module.rpartition(".")[0])
            left += [each for statement in _source(module).statements for each in statement.modules]

    def _find_effects(self, module: str, all_subclasses: bool) -> Iterator["_Effect"]:
        """Yield what a module does when it is imported."""
        for index, statement in enumerate(_source(module).statements):
            if not statement.digest:
                continue
            touched = {
                key
                for chain in statement.at_import.changed
                for key in self._resolve(module, statement, chain.split("."))
                if key[0] and isinstance(key[1], int)
            }
            for chain in statement.at_import.called:
                called = self._resolve(module, statement, chain.split("."))
                touched |= {key for key in called if self._is_method_of(key, chain)}
                touched |= _changed_by(self.packages, frozenset(called))
            if statement.is_class:
                bases = {key for base in statement.bases for key in self._resolve(module, statement, base.split("."))}
                touched |= {key for key in bases if key[0] and (all_subclasses or self._registers(key))}
            if statement.runs:
                arguments = {
                    key for chain in statement.at_import.read for key in self._variables(module, statement, chain)
                }
                touched |= arguments
            if touched or (statement.runs and not self._is_harmless(module, statement)):
                spreads = statement.runs and bool(statement.at_import.called)
                yield _Effect((module, index), frozenset(touched), spreads)

    def _variables(self, module: str, statement: Statement, chain: str) -> set[Key]:
        return {key for key in self._resolve(module, statement, chain.split(".")) if self._is_variable(key)}

    def _is_variable(self, key: Key) -> bool:
        module, index = key
        return bool(module) and isinstance(index, int) and _source(module).statements[index].is_variable

    def _is_method_of(self, key: Key, chain: str) -> bool:
        """Whether a chain calls a variable, or a method of a function or class, which may change either."""
        module, index = key
        if not module or not isinstance(index, int):
            return False
        statement = _source(module).statements[index]
        return statement.is_variable or ("." in chain and chain.rpartition(".")[2] not in statement.binds)

    def _find_changed_by(self, called: frozenset[Key]) -> set[Key]:
        """Return the variables that functions change, and the making of objects of classes."""
        changed, left, seen = set[Key](), [*called], set[Key]()
        while left:
            key = left.pop()
            module, index = key
            if key in seen or not module or not isinstance(index, int):
                continue
            seen.add(key)
            statement = _source(module).statements[index]
            names = statement.constructing or statement.names
            if statement.is_variable:
                continue
            for chain in names.changed:
                resolved = self._resolve(module, statement, chain.split("."))
                changed |= {each for each in resolved if each[0] and isinstance(each[1], int)}
            left += [each for chain in names.read for each in self._resolve(module, statement, chain.split("."))]
        return changed

    def _registers(self, key: Key, seen: frozenset[Key] = frozenset()) -> bool:
        """Whether a class, or one that it inherits from, notes the classes that inherit from it."""
        module, index = key
        if key in seen or not module or not isinstance(index, int):
            return False
        statement = _source(module).statements[index]
        bases = {each for base in statement.bases for each in self._resolve(module, statement, base.split("."))}
        return statement.registers or any(self._registers(base, seen | {key}) for base in bases)

    def _is_harmless(self, module: str, statement: Statement) -> bool:
        """Whether a statement calls nothing but what shows messages."""
        roots = statement.at_import.called
        targets = {target for chain in roots for target in self._external(module, statement, chain)}
        return bool(roots) and targets <= HARMLESS and not statement.at_import.changed

    def _external(self, module: str, statement: Statement, chain: str) -> set[str]:
        """Return the top-level modules outside of the project that a chain refers to, or its first name."""
        keys = self._resolve(module, statement, chain.split("."))
        if not keys:
            return {chain.partition(".")[0]}
        return {module or re.split("[=:.]", str(text))[1] for module, text in keys}

    def _by_name(
        self, module: str, statements: Collection[Statement], values: Collection[str], words: Collection[str]
    ) -> Iterator[Key]:
        """Yield what the texts of statements name, and modules that they may import by a name known at run time."""
        own_texts = set[str]().union(*(_naming(self.packages, each.texts) for each in statements))
        heads = set[str]().union(*(each.heads for each in statements))
        loads = any(not each.words.isdisjoint(LOADERS) for each in statements)
        roots, found = set[str](), False
        for text in own_texts:
            if not DOTTED.fullmatch(text) and text not in heads:
                continue
            path, named = _path_of(self.packages, text) or ("", "")
            if not ("." in path or loads or text in heads):
                continue
            found = True
            if text in heads or (text == named and (loads or "." in named)):
                roots.add(named)
            yield named, ""
            if text not in heads:
                yield from _keys_of_path(self.packages, named, path)
        own_words = set[str]().union(*(each.words for each in statements)) if loads else set[str]()
        if own_words & {"__package__", "__name__", "__path__", "__file__"}:
            roots.add(self._package(module))
        if "__path__" in own_words:
            imports = {name for each in _source(module).statements for name in _targets(each)}
            roots |= {name for target in imports if (name := _module_of(self.packages, target.replace(":", ".")))}
        if not roots and not found and "entry_points" not in words:
            return
        texts = set[str]().union(*(each.texts for each in statements))
        families = {root: [(name.rpartition(".")[2], name) for name in _descendants(root)] for root in roots}
        if found or "entry_points" in words:
            for group in texts & _entry_points().keys():
                families.setdefault(group, []).extend(_entry_points()[group])
        mentioned = {text.rpartition(".")[2] for text in texts}
        for family in families.values():
            named_members = [member for name, member in family if name in values] or [member for _, member in family]
            for member in (*named_members, *(member for name, member in family if name in mentioned)):
                if is_own(member, self.packages):
                    yield from _named_by(self.packages, member)
                else:
                    yield "", _installed_version(re.split("[.:]", member)[0])

    def _other_files(self, module: str, texts: Collection[str] | None) -> Iterator[tuple[str, str]]:
        """Yield names and digests of the files of a module's packages besides modules.

        Args:
            module: name of the module.
            texts: texts of code that reads no files by itself, which count if these name them; None for any other.
        """
        package = self._package(module)
        while package:
            place = _place(package)
            for folder in (place and place.folders) or ():
                for file in _files_of_package(folder):
                    if texts is None or any(text.endswith(file.name) for text in texts):
                        yield f"{package} {file.relative_to(folder).as_posix()}", remembered_sha256(file)
            package = package.rpartition(".")[0]


@cache
def _module_of(packages: frozenset[str], path: str) -> str | None:
    """Return the own module that a dotted path or the target of an import begins with; None if there is none."""
    path = path.replace(":", ".")
    if not is_own(path, packages):
        return None
    while path and not _place(path):
        path = path.rpartition(".")[0]
    return path or None


@cache
def _path_of(packages: frozenset[str], text: str) -> tuple[str, str] | None:
    """Return the dotted path that a text begins with, and the own module that this begins with; None without any."""
    match = DOTTED.match(text)
    if not match or not is_own(re.split("[.:]", text)[0], packages):
        return None
    path = match[0].replace(":", ".").strip(".")
    module = _module_of(packages, path)
    is_whole = text == match[0].rstrip(".:")  # any other one names something in the module
    return (path, module) if module and not (is_whole and _is_beside_sources(module)) else None


@cache
def _naming(packages: frozenset[str], texts: frozenset[str]) -> frozenset[str]:
    """Return those of a statement's texts that begin with an own module."""
    return frozenset(text for text in texts if _path_of(packages, text))


@cache
def _own_stars(packages: frozenset[str], module: str) -> frozenset[str]:
    """Return the own modules of which a module imports all names."""
    return frozenset(star for each in _source(module).statements for star in each.stars if is_own(star, packages))


@cache
def _may_name(packages: frozenset[str], module: str, by_groups: bool) -> bool:
    """Whether a module has texts that name own modules or, with `by_groups`, entry points, or functions that import."""
    groups = _entry_points().keys() if by_groups else ()
    return any(
        _naming(packages, each.texts) or not each.words.isdisjoint(LOADERS) or not each.texts.isdisjoint(groups)
        for each in _source(module).statements
    )


@cache
def _keys_of_path(packages: frozenset[str], module: str, path: str) -> set[Key]:
    """Return what a dotted path refers to in the own module that it begins with."""
    return _Search(packages)._in_module(module, path.removeprefix(module).split(".")[1:], else_whole=False)


@cache
def _source(module: str) -> Source:
    place = _place(module)
    file = place.file if place and place.file and place.file.suffix == ".py" else None
    return read_source(module, file, bool(place and place.folders is not None))


@cache
def _part(packages: frozenset[str], key: Key) -> list[tuple[str, str]]:
    return [*_Search(packages)._find_part(key)]


@cache
def _edges(packages: frozenset[str], key: Key) -> frozenset[Key]:
    return frozenset(_Search(packages)._find_edges(key))


@cache
def _named_by(packages: frozenset[str], value: str) -> set[Key]:
    return _Search(packages)._find_named_by(value)


@cache
def _imported(packages: frozenset[str], targets: frozenset[str]) -> frozenset[str]:
    return frozenset(_Search(packages)._find_imported(targets))


@cache
def _imported_by_projects(packages: frozenset[str]) -> frozenset[str]:
    """Return the modules that Kedro imports with those of settings and pipelines, at any depth."""
    names = [f"{top}.{name}" for top in packages for name in ("settings", "pipeline_registry")]
    pipelines = [name for top in packages for name in _descendants(f"{top}.pipelines")]
    return _imported(packages, frozenset(name for name in (*names, *pipelines) if _place(name)))


@cache
def _all_effects(packages: frozenset[str], targets: frozenset[str], all_subclasses: bool) -> list["_Effect"]:
    """Return what modules, those that they import, and those of the project do when they are imported."""
    modules = _imported_by_projects(packages)
    modules |= _imported(packages, targets - modules)
    return [each for module in sorted(modules) for each in _effects(packages, module, all_subclasses)]


@cache
def _effects(packages: frozenset[str], module: str, all_subclasses: bool) -> list["_Effect"]:
    return [*_Search(packages)._find_effects(module, all_subclasses)]


@cache
def _changed_by(packages: frozenset[str], called: frozenset[Key]) -> set[Key]:
    return _Search(packages)._find_changed_by(called)


def _targets(statement: Statement) -> Iterator[str]:
    """Yield the targets of all imports of a statement."""
    yield from statement.modules
    for targets in statement.imports.values():
        yield from targets


@cache
def _own_targets(packages: frozenset[str], statement: Statement) -> frozenset[str]:
    """Return the own modules that a statement imports."""
    return frozenset(name for target in _targets(statement) if (name := _module_of(packages, target)))


@cache
def is_own(module: str, packages: frozenset[str] = frozenset()) -> bool:
    """Whether a module is the project's own code: installed neither in site-packages nor with Python."""
    top = module.partition(".")[0]
    place = _place(top) if top not in sys.stdlib_module_names else None
    return place is not None and (top in packages or any(map(_is_outside, place.folders or (place.file,))))


def _is_outside(path: Path | None) -> bool:
    if path is None or not path.is_absolute() or path.is_relative_to(STANDARD_LIBRARY):
        return False
    return {"site-packages", "dist-packages"}.isdisjoint(path.parts)


@dataclass(frozen=True)
class _Place:
    """Where a module lies.

    Attributes:
        file: its file; None for a package without ``__init__.py``.
        folders: folders of a package; None for any other module.
    """

    file: Path | None
    folders: tuple[Path, ...] | None


@cache
def _place(module: str) -> _Place | None:
    """Return where a module lies, without importing the packages that it is in; None if there is none."""
    package, _, name = module.rpartition(".")
    if not package:
        with suppress(ImportError, ValueError):  # `__main__` may have no spec
            if spec := find_spec(module):
                folders = spec.submodule_search_locations
                has_file = spec.has_location and spec.origin is not None
                return _Place(
                    Path(str(spec.origin)) if has_file else None, None if folders is None else (*map(Path, folders),)
                )
        return None
    around, portions = _place(package), list[Path]()
    for folder in (around and around.folders) or ():
        if (file := folder / name / "__init__.py").is_file():
            return _Place(file, (file.parent,))
        for suffix in all_suffixes():
            if (file := folder / f"{name}{suffix}").is_file():
                return _Place(file, None)
        if (folder / name).is_dir():
            portions.append(folder / name)
    return _Place(None, (*portions,)) if portions else None


def _is_beside_sources(module: str) -> bool:
    """Whether a module is a folder of the project without ``__init__.py``, such as ``conf`` or ``docs``.

    To ``python -m kedro``, any folder beside ``pyproject.toml`` can be imported.
    """
    place = _place(module)
    if place is None or place.file is not None:
        return False
    return all((folder.parent / "pyproject.toml").is_file() for folder in place.folders or ())


@cache
def _descendants(package: str) -> list[str]:
    """Return all modules in a package."""
    place, modules = _place(package), list[str]()
    for folder in (place and place.folders) or ():
        for path in sorted(folder.iterdir()):
            name = path.stem if path.suffix == ".py" else path.name
            is_module = path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
            if is_module and name.isidentifier() and name not in ("__init__", "__pycache__", "tests"):
                modules += [f"{package}.{name}", *_descendants(f"{package}.{name}")]
    return modules


@cache
def _entry_points() -> dict[str, list[tuple[str, str]]]:
    """Return names and objects of all entry points, by group; reading the metadata takes a while."""
    points = entry_points()
    return {
        group: [(each.name, each.value.partition("[")[0].strip()) for each in points.select(group=group)]
        for group in points.groups
    }


@cache
def _files_of_package(folder: Path) -> list[Path]:
    """Return the files of a package besides its modules, also those in subfolders that are no packages."""
    files: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in ("__pycache__", "tests") or path.name.startswith(UNSEEN_FILES):
            continue
        if path.is_file() and path.suffix != ".py":
            files.append(path)
        elif path.is_dir() and not (path / "__init__.py").exists():
            files += _files_of_package(path)
    return files


@cache
def _installed_version(top: str) -> str:
    """Return names and versions of the distributions of a top-level module; empty without any."""
    if _place(top) is None:
        return ""
    try:
        return f"{top} {version(top)}"
    except PackageNotFoundError:  # its name is another one; to read the metadata of all takes a second
        return " ".join(f"{name} {version(name)}" for name in packages_distributions().get(top, ()))
