"""The search for all code that objects refer to, and its digests."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from codeprint.effects import Effects
from codeprint.files import digest, remembered_sha256
from codeprint.memory import remembered
from codeprint.modules import files_of_package, modules_in, packages_around, place_of, source_of
from codeprint.objects import Start
from codeprint.references import Key, References
from codeprint.statements import Statement

READING = re.compile(r"open|read|__file__|__path__|__spec__|files|resource|get_data|getfile|Loader|package_file")
"""Words of code that may read a file of a package."""
DOCUMENTING = re.compile(r"__doc__|getdoc|docstring|json_schema|^schema(_json)?$")  # words that may read docstrings
UNFOLLOWED = {"run_path", "run_module", "spec_from_file_location", "SourceFileLoader"}
"""Functions that run code of files whose names are known at run time only."""
UNREAD_FILES = ("README", "LICENSE", "CHANGELOG")  # files with such names count only where a text names them


class Search:
    """A search for code.

    First comes what is referred to, then what is found by a name known at run time, and then what is done when modules
    are imported; each of these may refer to more.

    `values` are names of modules or of entry points among what code reads.
    """

    def __init__(self, effects: Effects, values: frozenset[str]) -> None:
        self.effects, self.references, self.values = effects, effects.references, values
        self.reached = set[Key]()  # statements and whole modules, without functions within others
        self.uncertain = dict[str, None]()  # sentences on what could not be followed
        self._statements = dict[str, list[Statement]]()  # by module, with functions within others
        self._within = list[tuple[str, Statement]]()
        self._words, self._imported = set[str](), set[str]()
        self._referred = set[str]()  # modules of all that is referred to, before what is done at import is added
        self._acting = set[Key]()  # what is done at import

    def run(self, starts: Collection[Start]) -> dict[str, str]:
        """Return digests of all code that functions, classes and modules refer to, by its names."""
        left = {key for value in self.values for key in self.references.named_by(value)} | self._begin(starts)
        while left:
            changed = self._reach(left)
            left = self._found_by_name(changed) - self.reached or self._done_at_import() - self.reached
        return dict(self._digests())

    def _begin(self, starts: Collection[Start]) -> set[Key]:
        left = set[Key]()
        for name, start in starts:
            module = self.references.module_of(name)
            if module is None:
                continue
            if isinstance(start, str):
                left |= self.references.in_module(module, start.split(".")[:1] if start else [])
            else:
                self._within.append((module, start))
                left |= {*self.references.of_statement(module, start), (module, "")}
        return left

    def _reach(self, left: Collection[Key]) -> set[str]:
        """Reach what is left and all that it refers to; return the modules of which more is reached."""
        found = [] if self.reached else [*self._within]
        new, keys = set[Key](), [*left]
        while keys:
            if (key := keys.pop()) not in new and key not in self.reached:
                new.add(key)
                keys += self.references.of(key)
        for module, index in new:
            if module:
                self._statements.setdefault(module, [])
                if isinstance(index, int):  # also all of a module that is reached as a whole
                    found.append((module, source_of(module).statements[index]))
            elif "=" in str(index):  # an import
                self._words |= {str(index), str(index).rpartition(":")[2]}
        self.reached |= new
        for module, statement in found:
            self._statements.setdefault(module, []).append(statement)
            self._words |= statement.words
            self._imported |= self.references.own_targets(statement)
            self.uncertain |= dict.fromkeys(_unfollowed(module, statement))
        changed = {module for module, _ in (*new, *found) if module}
        self._imported |= changed
        return changed

    def _found_by_name(self, changed: Collection[str]) -> set[Key]:
        """Return what the code of modules imports by names that are known at run time."""
        by_groups = "entry_points" in self._words
        return {
            key
            for module in ([*self._statements] if by_groups else changed)
            if self.references.may_name(module, by_groups)
            for key in self.references.by_name(module, self._statements[module], self.values, self._words)
        }

    def _done_at_import(self) -> set[Key]:
        """Return the statements that change something that is reached, or anything outside of the project."""
        self._referred = self._referred or {*self._statements}
        all_subclasses = "__subclasses__" in self._words
        for effect in self.effects.of_import(frozenset(self._imported), all_subclasses):
            is_beside = effect.spreads and effect.key[0] in self._referred
            is_outside = not effect.touched and (not effect.name or effect.name in self._words)
            if is_beside or is_outside or not effect.touched.isdisjoint(self.reached):
                self._acting.add(effect.key)
        return self._acting

    def _digests(self) -> Iterator[tuple[str, str]]:
        reads_docs = self._has_word(DOCUMENTING)
        for module, statement in self._within:
            yield f"{module}.{_name(statement)}:{statement.digest[:6]}", _digest(statement, reads_docs)
        for module, index in self.reached:
            if not module:
                yield str(index), ""
            elif isinstance(index, int):
                if content := _digest(source_of(module).statements[index], reads_docs):
                    yield _name_at(module, index), content
            elif index == "*":
                file = getattr(place_of(module), "file", None)
                yield module, remembered_sha256(file) if file and file.suffix != ".py" else ""  # an extension
        yield from self._orders()
        yield from self._other_files()

    def _other_files(self) -> Iterator[tuple[str, str]]:
        """Yield names and digests of the files of packages besides modules that the code may read."""
        texts = {text for each in self._statements.values() for statement in each for text in statement.texts}
        named = {text.rpartition("/")[2] for text in texts}
        reads = self._has_word(READING)
        for package in {package for module in self._statements for package in packages_around(module)}:
            for file, shown in files_of_package(package).items():
                if file.name in named or (reads and not file.name.startswith(UNREAD_FILES)):
                    yield shown, remembered_sha256(file)

    def _has_word(self, pattern: re.Pattern[str]) -> bool:
        return any(_is_like(word, pattern) for word in self._words)

    def _orders(self) -> Iterator[tuple[str, str]]:
        """Yield digests of the order of what modules do at import: in each, and among modules that change something."""
        by_module = dict[str, list[Statement]]()
        for module, index in sorted(key for key in self.reached if key[0] and isinstance(key[1], int)):
            by_module.setdefault(module, []).append(source_of(module).statements[int(index)])
        for module, statements in by_module.items():
            ordered = [each.digest for each in statements if each.digest and (each.runs or each.is_variable)]
            if len(ordered) > 1 and any(each.runs for each in statements):
                yield f"{module}:order", digest(ordered)
        if len({module for module, _ in self._acting}) > 1:
            order = self.effects.order_with(frozenset(self._imported))
            acting = sorted(self._acting, key=lambda key: order[key])
            statements = [source_of(module).statements[int(index)] for module, index in acting]
            yield "the order of imports", digest([each.digest for each in statements])


@cache
def _is_like(word: str, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.search(word))


def _digest(statement: Statement, reads_docs: bool) -> str:
    return statement.digest + (statement.docs if reads_docs else "")


def _name(statement: Statement) -> str:
    return ", ".join(sorted(statement.binds)) or f"(statement {statement.digest[:6]})"


def _name_at(module: str, index: int) -> str:
    """Return the name of a part; of several statements that bind it, each has its place among them."""
    source = source_of(module)
    statement, name = source.statements[index], _name(source.statements[index])
    mark = str(source.bindings[name].index(index) or "") if len(statement.binds) == 1 else statement.digest[:6]
    return f"{module}.{name}:{mark}".rstrip(":")


def _unfollowed(module: str, statement: Statement) -> Iterator[str]:
    """Yield sentences on code that a statement runs and that cannot be found before."""
    for word in sorted(statement.words & UNFOLLOWED):
        yield f"{module}.{_name(statement)} runs code by {word}, which is not followed"
    if "sys.path" in statement.names.changed - statement.at_import.changed:
        tops = {re.split("[.:]", target)[0] for targets in statement.imports.values() for target in targets}
        if missing := sorted(top for top in tops - sys.stdlib_module_names if not place_of(top)):
            yield f"{module}.{_name(statement)} changes sys.path and imports {', '.join(missing)}, which is not found"


@remembered
def _effects(packages: frozenset[str], imported: tuple[str, ...]) -> Effects:
    modules = [each for name in imported for each in (modules_in(name[:-2]) if name.endswith(".*") else [name])]
    return Effects(References(packages), tuple(name for name in modules if place_of(name)))


@remembered
def code_of(
    starts: frozenset[Start], packages: frozenset[str], values: frozenset[str], imported: tuple[str, ...]
) -> tuple[str, Mapping[str, str], tuple[str, ...]]:
    """Return the digest of all code that starts refer to, those of its parts, and what could not be followed."""
    search = Search(_effects(packages, imported), values)
    parts = search.run(starts)
    return digest(sorted(parts.items())), parts, tuple(search.uncertain)
