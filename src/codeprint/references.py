"""What code refers to: the statements of the project's modules, by the names that they have for one another."""

import ast
import re
from collections.abc import Collection, Iterator

from codeprint.memory import remembered
from codeprint.modules import (
    entry_points_by_group,
    installed_version,
    is_beside_sources,
    is_own,
    modules_in,
    package_of,
    place_of,
    source_of,
)
from codeprint.statements import Statement, statement_of

LOADERS = {"import_module", "__import__", "iter_modules", "walk_packages"}  # by names that stand nowhere in the code
DYNAMIC = {"globals", "vars", "exec", "eval", "__dict__", "__getattr__"}  # may refer to anything of a module
NAME = re.compile(r"[A-Za-z_][\w.:-]*")  # of a module, of an object in one, or of an entry point
DOTTED = re.compile(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)*[.:]?")
NOTHING = statement_of(ast.Pass())

Key = tuple[str, int | str | Statement]
"""A statement of a module by its index, a function within another one, a whole module by "*", or, of the module "", a
text that counts as it is."""

Families = list[tuple[list[tuple[str, str]], list[str]]]


class References:
    """The references of own code; `packages` as in `is_own`."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    @remembered
    def of(self, key: Key) -> frozenset[Key]:
        """Return what a statement refers to or, of a whole module, all of its statements and imports."""
        module, index = key
        if not module or index == "":
            return frozenset()
        if index != "*":
            return frozenset(self._of_statement(module, statement_at(key)))
        statements = source_of(module).statements
        imports = {key for each in statements for name in each.imports for key in self.resolve(module, each, [name])}
        return frozenset(imports | {(module, position) for position in range(len(statements))})

    def _of_statement(self, module: str, statement: Statement) -> Iterator[Key]:
        """Yield what a statement of a module, or a function in one, refers to."""
        if statement.digest:  # what an import binds counts where it is used
            for chain in statement.names.read:
                yield from self.resolve(module, statement, chain.split("."))
            for text in statement.texts & source_of(module).bindings.keys():  # such as an annotation
                yield from self.in_module(module, [text])
            if not statement.words.isdisjoint(DYNAMIC) or "sys.modules" in statement.names.read:
                yield module, "*"
        for star in statement.stars:
            if is_own(star, self.packages):
                yield star, "*"

    def resolve(self, module: str, statement: Statement, path: list[str]) -> set[Key]:
        """Return what a chain of names in a statement refers to."""
        name, *rest = path
        if statement.digest and name in statement.imports:
            return {key for target in statement.imports[name] for key in self._target(name, target, rest)}
        return self.in_module(module, path, else_whole=False)

    def _target(self, name: str, target: str, rest: list[str], seen: frozenset[str] = frozenset()) -> set[Key]:
        """Return what an import refers to."""
        module, _, member = target.partition(":")
        if not is_own(module, self.packages):
            return {("", f"{name}={target}")}
        if not place_of(module):
            return {("", f"{name}={target}, which is missing")}
        return self.in_module(module, [*([member] if member else []), *rest], seen)

    def in_module(
        self, module: str, path: list[str], seen: frozenset[str] = frozenset(), else_whole: bool = True
    ) -> set[Key]:
        """Return what a chain of names refers to in a module, which was reached by the imports `seen`.

        Without a name, this is the whole module. So it is if nothing in it has the name, but with `else_whole=False`,
        which is for names that may be built in, or local ones of a function.
        """
        if not path:
            return {(module, "*")}
        name, *rest = path
        source, keys, targets = source_of(module), set[Key](), list[str]()
        if name not in source.bindings and not self._gives_more(module):  # as do most names, those within a function
            return {(module, "*")} if else_whole else set()
        if (step := f"{module}:{name}") in seen:
            return set()
        for index in source.bindings.get(name, ()):
            statement = source.statements[index]
            if statement.digest or statement.docs:
                keys.add((module, index))
            targets += statement.imports.get(name, ())
        for target in targets:
            keys |= self._target(name, target, rest, seen | {step})
        if name in source.bindings:
            return keys | _in_order(module, name, targets)
        if place_of(f"{module}.{name}"):
            return self.in_module(f"{module}.{name}", rest, seen | {step})
        given = {star: self._by_star(star, path, seen | {step}) for star in self._own_stars(module)}
        keys = {key for found in given.values() for key in found}
        keys |= _in_order(module, name, [star for star, found in given.items() if found])
        return keys or ({(module, "*")} if else_whole else set())

    @remembered
    def _gives_more(self, module: str) -> bool:
        """Whether a module has names that no statement of it binds: modules in a package, and those of star imports."""
        place = place_of(module)
        return (place is not None and place.folders is not None) or bool(self._own_stars(module))

    @remembered
    def _own_stars(self, module: str) -> tuple[str, ...]:
        """Return the own modules of which a module imports all names."""
        stars = [star for each in source_of(module).statements for star in each.stars]
        return tuple(star for star in stars if is_own(star, self.packages))

    def _by_star(self, module: str, path: list[str], seen: frozenset[str]) -> set[Key]:
        """Return what a chain of names refers to in a module of which all names in its ``__all__`` are imported."""
        source = source_of(module)
        indices = source.bindings.get("__all__", ())
        listing = [source.statements[index] for index in indices]
        is_plain = all(each.words <= {"__all__", "append", "extend"} for each in listing)
        if listing and is_plain and not any(path[0] in each.texts for each in listing):
            return set()
        found = self.in_module(module, path, seen, else_whole=False)
        return found | {(module, index) for index in indices} if found and not is_plain else found

    @remembered
    def module_of(self, path: str) -> str | None:
        """Return the own module that a dotted path or the target of an import begins with; None if there is none."""
        path = path.replace(":", ".")
        if not is_own(path, self.packages):
            return None
        while path and not place_of(path):
            path = path.rpartition(".")[0]
        return path or None

    @remembered
    def own_targets(self, statement: Statement) -> frozenset[str]:
        """Return the own modules that a statement imports."""
        imported = (statement.modules, *statement.imports.values())
        return frozenset(name for targets in imported for target in targets if (name := self.module_of(target)))

    @remembered
    def named_by(self, value: str) -> frozenset[Key]:
        """Return what a value names: a module or an object of one, by a dotted path."""
        if not NAME.fullmatch(value):
            return frozenset()
        path = value.replace(":", ".").strip(".")
        top = path.partition(".")[0]
        if not is_own(top, self.packages):
            return frozenset([("", installed_version(top))] if "." in path else ())
        place = place_of(top)
        if "." not in path and not (place and place.file):
            return frozenset()  # a word alone is hardly meant as a folder
        module = self.module_of(path)
        return frozenset(self.in_module(module, path.removeprefix(module).split(".")[1:]) if module else ())

    @remembered
    def _path_of(self, text: str) -> tuple[str, str] | None:
        """Return the dotted path that a text begins with, and the own module that this begins with; None without."""
        match = DOTTED.match(text)
        if not match or not is_own(re.split("[.:]", text)[0], self.packages):
            return None
        path = match[0].replace(":", ".").strip(".")
        module = self.module_of(path)
        is_whole = text == match[0].rstrip(".:")  # any other one names something in the module
        return (path, module) if module and not (is_whole and is_beside_sources(module)) else None

    @remembered
    def _naming(self, texts: frozenset[str]) -> frozenset[str]:
        """Return those of a statement's texts that begin with an own module."""
        return frozenset(text for text in texts if self._path_of(text))

    @remembered
    def may_name(self, module: str, by_groups: bool) -> bool:
        """Whether a module has functions that import, or texts that name own modules or, with `by_groups`, groups."""
        groups = entry_points_by_group().keys() if by_groups else ()
        return any(
            self._naming(each.texts) or not each.words.isdisjoint(LOADERS) or not each.texts.isdisjoint(groups)
            for each in source_of(module).statements
        )

    def by_name(
        self, module: str, statements: frozenset[Statement], values: Collection[str], by_groups: bool
    ) -> Iterator[Key]:
        """Yield what texts name, and modules that may be imported by names known at run time, such as `values`.

        With `by_groups`, entry points are among these, by the names of their groups.
        """
        keys, families = self._named_in(module, statements, by_groups)
        yield from keys
        for family, mentioned in families:
            chosen = [member for name, member in family if name in values] or [member for _, member in family]
            for member in (*chosen, *mentioned):
                yield from self._member(member)

    @remembered
    def _named_in(self, module: str, statements: frozenset[Statement], by_groups: bool) -> tuple[set[Key], Families]:
        """Return what texts name, and the families of modules and entry points of which values may choose members.

        Of each family come the names and paths of its members, and the members that texts mention.
        """
        named_texts = set[str]().union(*(self._naming(each.texts) for each in statements))
        heads = set[str]().union(*(each.heads for each in statements))
        words = set[str]().union(*(each.words for each in statements))
        loads, roots, found, keys = not words.isdisjoint(LOADERS), set[str](), False, set[Key]()
        for text in named_texts:
            if not DOTTED.fullmatch(text) and text not in heads:
                continue
            path, named = self._path_of(text) or ("", "")
            if "." not in path and not loads and text not in heads:
                continue
            found = True
            if text in heads or (text == named and (loads or "." in named)):
                roots.add(named)
            keys.add((named, ""))
            if text not in heads:
                keys |= self.in_module(named, path.removeprefix(named).split(".")[1:], else_whole=False)
        if loads:
            roots.update(self._roots_around(module, words))
        if not roots and not found and not by_groups:
            return keys, []
        texts = set[str]().union(*(each.texts for each in statements))
        families = {root: [(name.rpartition(".")[2], name) for name in modules_in(root)] for root in roots}
        if found or by_groups:
            for group in texts & entry_points_by_group().keys():
                families.setdefault(group, []).extend(entry_points_by_group()[group])
        mentioned = {text.rpartition(".")[2] for text in texts}
        return keys, [
            (family, [member for name, member in family if name in mentioned]) for family in families.values()
        ]

    @remembered
    def _member(self, member: str) -> frozenset[Key]:
        """Return what a module or an entry point refers to."""
        if is_own(member, self.packages):
            return self.named_by(member)
        return frozenset([("", installed_version(re.split("[.:]", member)[0]))])

    def _roots_around(self, module: str, words: Collection[str]) -> Iterator[str]:
        """Yield the packages whose modules code with these words may import by its place, or by that of an import."""
        if not {"__package__", "__name__", "__path__", "__file__"}.isdisjoint(words):
            yield package_of(module)
        if "__path__" in words:
            for statement in source_of(module).statements:
                yield from self.own_targets(statement)


def statement_at(key: Key) -> Statement:
    """Return a statement; one that does nothing for a whole module, and for what is outside of the project."""
    module, index = key
    if isinstance(index, int):
        return source_of(module).statements[index]
    return NOTHING if isinstance(index, str) else index


def _in_order(module: str, name: str, sources: list[str]) -> set[Key]:
    """Return the order of modules that give a name, of which the last one counts."""
    return {("", f"{name} in {module} from {', '.join(sources)}")} if len(sources) > 1 else set()
