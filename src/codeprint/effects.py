"""What modules do when they are imported, besides binding names: they register, patch and set options."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from codeprint.memory import remembered
from codeprint.modules import source_of
from codeprint.references import NOTHING, Key, References, statement_at
from codeprint.statements import Statement

HARMLESS = {"logging", "warnings", "print", "__future__"}  # what a module may call without a change of any result
REGISTERING = re.compile(r"register|accessor|extension|plugin|implements|listens_for|subscribe|handler|converter")
"""Names of the decorators of libraries that note what they decorate."""


@dataclass(frozen=True)
class Effect:
    """What a statement does when its module is imported."""

    key: Key  # the statement
    touched: frozenset[Key]  # what it changes of the project: variables, functions and classes
    spreads: bool = False  # whether it calls something, which may change more than what is known
    name: str = ""  # by which code reads what it adds to a library, if anything


class Effects:
    """The effects of importing own modules, after those that the program imports in any case, in their order."""

    def __init__(self, references: References, imported: tuple[str, ...]) -> None:
        self.references, self.imported = references, imported

    @remembered
    def order(self, targets: frozenset[str] = frozenset()) -> dict[Key, int]:
        """Return the places of statements in the order in which they run as the program and targets are imported.

        Any module comes after the packages that it is in.
        """
        order = {**self.order()} if targets else {}
        seen = {module for module, index in order if index == ""}
        left: list[str | Key] = [*(sorted(targets, reverse=True) or reversed(self.imported))]
        while left:
            match left.pop():
                case str(target):
                    module = self.references.module_of(target)
                    if module is None or module in seen:
                        continue
                    seen.add(module)
                    for index, statement in reversed([*enumerate(source_of(module).statements)]):
                        left += [(module, index), *reversed(statement.modules)]
                    left += [(module, ""), module.rpartition(".")[0]]
                case key:
                    order[key] = len(order)
        return order

    @remembered
    def of_import(self, targets: frozenset[str], all_subclasses: bool) -> list[Effect]:
        """Return the effects of importing the program and targets, with or without all classes that inherit."""
        modules = {module for module, _ in self.order_with(targets)}
        return [each for module in sorted(modules) for each in self._of_module(module, all_subclasses)]

    def order_with(self, targets: frozenset[str]) -> dict[Key, int]:
        """Return `order` for targets that the program may import in any case."""
        order = self.order()
        more = frozenset(target for target in targets if (target, "") not in order)
        return self.order(more) if more else order

    @remembered
    def _of_module(self, module: str, all_subclasses: bool) -> list[Effect]:
        statements = enumerate(source_of(module).statements)
        found = [self._of_statement(module, *each, all_subclasses) for each in statements if each[1].digest]
        return [effect for effect in found if effect]

    def _of_statement(self, module: str, index: int, statement: Statement, all_subclasses: bool) -> Effect | None:
        if statement.at_import.changed == {"sys.path"}:  # what is found there counts where it is imported
            return None
        for chain, text in statement.decorators:
            if REGISTERING.search(chain) and all(not key[0] for key in self._resolve(module, statement, [chain])):
                return Effect((module, index), frozenset(), name=text if "accessor" in chain else "")
        touched = self._changed(module, statement)
        bases = {key for key in self._resolve(module, statement, statement.bases) if key[0]}
        touched |= {key for key in bases if all_subclasses or self._registers(key)}
        if statement.runs:
            read = self._resolve(module, statement, statement.at_import.read)
            touched |= {key for key in read if statement_at(key).is_variable}
        if not touched and (not statement.runs or self._is_harmless(module, statement)):
            return None
        return Effect((module, index), frozenset(touched), statement.runs and bool(statement.at_import.called))

    def _resolve(self, module: str, statement: Statement, chains: Iterable[str]) -> set[Key]:
        return {key for chain in chains for key in self.references.resolve(module, statement, chain.split("."))}

    def _changed(self, module: str, statement: Statement) -> set[Key]:
        """Return what a statement assigns to in place or calls, and what the functions change that it calls."""
        changed = _statements_among(self._resolve(module, statement, statement.at_import.changed))
        for chain in statement.at_import.called:
            called = self._resolve(module, statement, [chain])
            if not statement.runs:  # what decorates a function with a context enters it as the function is called
                called = {key for key in called if not _makes_context(statement_at(key))}
            method = chain.rpartition(".")[2] if "." in chain else ""
            for key in _statements_among(called):  # a variable, or what has a method that may change it
                if statement_at(key).is_variable or (method and method not in statement_at(key).binds):
                    changed.add(key)
            changed |= self._changed_by(frozenset(called))
        return changed

    @remembered
    def _changed_by(self, called: frozenset[Key]) -> set[Key]:
        """Return the variables that functions change, and the making of objects of classes."""
        changed, left, seen = set[Key](), [*called], set[Key]()
        while left:
            key = left.pop()
            statement = statement_at(key)
            if key in seen or statement.is_variable:
                continue
            seen.add(key)
            names = statement.constructing or statement.names
            changed |= _statements_among(self._resolve(key[0], statement, names.changed))
            left += self._resolve(key[0], statement, names.read)
        return changed

    def _registers(self, key: Key, seen: frozenset[Key] = frozenset()) -> bool:
        """Whether a class, or one that it inherits from, notes the classes that inherit from it."""
        statement = statement_at(key)
        bases = self._resolve(key[0], statement, statement.bases)
        return statement.registers or any(self._registers(base, seen | {key}) for base in bases - seen - {key})

    def _is_harmless(self, module: str, statement: Statement) -> bool:
        """Whether a statement calls nothing but what shows messages."""
        tops = set[str]()  # of the modules outside of the project that it calls, or names that are built in
        for chain in statement.at_import.called:
            keys = self._resolve(module, statement, [chain])
            outside = {own or re.split("[=:.]", str(text))[1] for own, text in keys if own or "=" in str(text)}
            tops |= outside if keys else {chain.partition(".")[0]}
        return bool(statement.at_import.called) and tops <= HARMLESS and not statement.at_import.changed


def _statements_among(keys: set[Key]) -> set[Key]:
    return {key for key in keys if statement_at(key) is not NOTHING}


def _makes_context(statement: Statement) -> bool:
    return any(chain.endswith("contextmanager") for chain, _ in statement.decorators)
