"""The search for all code that objects refer to, and its digests."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from codeprint.effects import Effects
from codeprint.files import digest, remembered_sha256
from codeprint.memory import no_collection, remembered
from codeprint.modules import files_of_package, modules_in, packages_around, place_of, source_of
from codeprint.objects import Start
from codeprint.references import Key, References, statement_at
from codeprint.statements import Statement

TRAITS = {
    "reads": re.compile(r"open|read|__file__|__path__|__spec__|files|resource|get_data|getfile|Loader|package_file"),
    "documents": re.compile(r"__doc__|getdoc|docstring|json_schema|^schema(_json)?$"),
    "entry_points": re.compile(r"^entry_points$"),
    "__subclasses__": re.compile(r"^__subclasses__$"),
}
"""What code may do by its words: read a file of a package, read docstrings, load plug-ins, list subclasses."""
UNFOLLOWED = {"run_path", "run_module", "spec_from_file_location", "SourceFileLoader"}
"""Functions that run code of files whose names are known at run time only."""
UNREAD_FILES = ("README", "LICENSE", "CHANGELOG")  # files with such names count only where a text names them


class Search:
    """A search for code.

    First comes what is referred to, then what is found by a name known at run time, and then what is done when modules
    are imported; each of these may refer to more. Thousands of statements are reached from most functions of a large
    project: what is said of a statement is remembered, and sets of them are joined without a loop over each.

    `values` are names of modules or of entry points among what code reads.
    """

    def __init__(self, effects: Effects, values: frozenset[str]) -> None:
        self.effects, self.references, self.values = effects, effects.references, values
        self.reached = set[Key]()  # statements and whole modules
        self.uncertain = dict[str, None]()  # sentences on what could not be followed
        self._traits, self._imported, self._files = set[str](), set[str](), set[str]()
        self._modules = set[str]()  # of all that is reached
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
                left |= {(module, start), (module, "")}
        return left

    def _reach(self, left: set[Key]) -> set[str]:
        """Reach what is left and all that it refers to; return the modules of which more is reached."""
        new, keys = set[Key](), left
        while keys:
            new |= keys
            keys = set[Key]().union(*map(self.references.of, keys)) - new - self.reached
        said = [_said_of(self.references, key) for key in new]
        self.reached |= new
        self._traits.update(*(each.traits for each in said if each.traits))
        self._files.update(*(each.files for each in said))
        self.uncertain |= dict.fromkeys(sentence for each in said for sentence in each.unfollowed)
        changed = {each.module for each in said if each.module}
        self._imported |= changed.union(*(each.imports for each in said))
        self._modules |= changed
        return changed

    def _found_by_name(self, changed: Collection[str]) -> set[Key]:
        """Return what the code of modules imports by names that are known at run time."""
        by_groups = "entry_points" in self._traits
        modules = self._modules if by_groups else changed
        reached = {module: set[Statement]() for module in modules if self.references.may_name(module, by_groups)}
        for key in self.reached:
            if key[0] in reached and not isinstance(key[1], str):
                reached[key[0]].add(statement_at(key))
        found = (
            self.references.by_name(module, frozenset(statements), self.values, by_groups)
            for module, statements in reached.items()
        )
        return set[Key]().union(*found)

    def _done_at_import(self) -> set[Key]:
        """Return the statements that change something that is reached, or anything outside of the project."""
        self._referred = self._referred or {*self._modules}
        all_subclasses = "__subclasses__" in self._traits
        for effect in self.effects.of_import(frozenset(self._imported), all_subclasses):
            is_beside = effect.spreads and effect.key[0] in self._referred
            is_outside = not effect.touched and (not effect.name or self._has_word(effect.name))
            if is_beside or is_outside or not effect.touched.isdisjoint(self.reached):
                self._acting.add(effect.key)
        return self._acting

    def _has_word(self, word: str) -> bool:
        imported = (str(index).rpartition(":")[2] for module, index in self.reached if not module)
        return word in imported or any(word in statement_at(key).words for key in self.reached)

    def _digests(self) -> Iterator[tuple[str, str]]:
        reads_docs = "documents" in self._traits
        yield from filter(None, (_named_digest(key, reads_docs) for key in self.reached))
        yield from self._orders()
        yield from self._other_files()

    def _other_files(self) -> Iterator[tuple[str, str]]:
        """Yield names and digests of the files of packages besides modules that the code may read."""
        reads = "reads" in self._traits
        for package in set[str]().union(*map(packages_around, self._modules)):
            for file, shown in files_of_package(package).items():
                if file.name in self._files or (reads and not file.name.startswith(UNREAD_FILES)):
                    yield shown, remembered_sha256(file)

    def _orders(self) -> Iterator[tuple[str, str]]:
        """Yield digests of the order of what modules do at import: in each, and among modules that change something."""
        by_module = dict[str, list[Statement]]()
        for key in sorted(filter(_has_order, self.reached)):
            by_module.setdefault(key[0], []).append(statement_at(key))
        for module, statements in by_module.items():
            if len(statements) > 1 and any(each.runs for each in statements):
                yield f"{module}:order", digest([each.digest for each in statements])
        if len({module for module, _ in self._acting}) > 1:
            order = self.effects.order_with(frozenset(self._imported))
            acting = sorted(self._acting, key=lambda key: order[key])
            yield "the order of imports", digest([statement_at(key).digest for key in acting])


class Said(NamedTuple):
    """What a search reads of a statement, or of a whole module or an import without most of it."""

    module: str
    traits: frozenset[str] = frozenset()  # what its words say that it may do
    imports: frozenset[str] = frozenset()  # own modules
    files: frozenset[str] = frozenset()  # last parts of its texts, which may be names of files
    unfollowed: tuple[str, ...] = ()  # sentences


@remembered
def _said_of(references: References, key: Key) -> Said:
    module, index = key
    if isinstance(index, str):
        words = (index, index.rpartition(":")[2]) if not module and "=" in index else ()  # of an import
        return Said(module, _traits(words))
    statement = statement_at(key)
    return Said(
        module,
        _traits(statement.words),
        references.own_targets(statement),
        frozenset(text.rpartition("/")[2] for text in statement.texts),
        tuple(_unfollowed(module, statement)),
    )


def _traits(words: Collection[str]) -> frozenset[str]:
    return frozenset[str]().union(*map(_traits_of, words))


@cache
def _traits_of(word: str) -> frozenset[str]:
    return frozenset(name for name, pattern in TRAITS.items() if pattern.search(word))


@remembered
def _named_digest(key: Key, reads_docs: bool) -> tuple[str, str] | None:
    """Return the name and the digest of what was reached; None of what counts by what is reached in it."""
    module, index = key
    if not module:
        return str(index), ""
    if index == "*":
        file = getattr(place_of(module), "file", None)
        return module, remembered_sha256(file) if file and file.suffix != ".py" else ""  # an extension
    statement = statement_at(key)
    content = statement.digest + (statement.docs if reads_docs else "")
    return (_name_at(key), content) if content and index != "" else None


@remembered
def _has_order(key: Key) -> bool:
    """Whether the place of a statement among others may count."""
    statement = statement_at(key)
    return isinstance(key[1], int) and bool(statement.digest) and (statement.runs or statement.is_variable)


def _name(statement: Statement) -> str:
    return ", ".join(sorted(statement.binds)) or f"(statement {statement.digest[:6]})"


def _name_at(key: Key) -> str:
    """Return the name of a part; of several statements that bind it, each has its place among them."""
    module, index = key
    statement = statement_at(key)
    name, mark = _name(statement), statement.digest[:6]
    if isinstance(index, int) and len(statement.binds) == 1:
        mark = str(source_of(module).bindings[name].index(index) or "")
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
    with no_collection():
        parts = sorted(search.run(starts).items())
    return digest(parts), dict(parts), tuple(search.uncertain)
