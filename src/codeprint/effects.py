"""What modules do when they are imported, besides binding names: they register, patch and set options."""

import re
from dataclasses import dataclass

from codeprint.memory import remembered
from codeprint.modules import source_of
from codeprint.references import Key, References
from codeprint.statements import Statement

HARMLESS = {"logging", "warnings", "print", "__future__"}
"""What module-level statements may call without a change of any result."""
REGISTERING = re.compile(r"register|accessor|extension|plugin|implements|listens_for|subscribe|handler|converter")
"""Names of the decorators of libraries that note what they decorate."""


@dataclass(frozen=True)
class Effect:
    """What a statement does when its module is imported.

    Attributes:
        key: the statement.
        touched: variables, functions and classes that it changes; none if it changes something outside of the project.
        spreads: whether it calls something, which may change more than what is known.
        name: name by which code reads what it adds to a library; empty if there is none.
    """

    key: Key
    touched: frozenset[Key]
    spreads: bool = False
    name: str = ""


class Effects:
    """The effects of importing own modules, after those that the program imports in any case, in their order."""

    def __init__(self, references: References, imported: tuple[str, ...]) -> None:
        self.references, self.imported = references, imported

    @remembered
    def order(self, targets: frozenset[str] = frozenset()) -> dict[Key, int]:
        """Return the places of statements in the order in which they run as the program and targets are imported.

        Any module comes after the packages that it is in.
        """
        order, seen = dict[Key, int](), set[str]()
        left: list[str | Key] = [*sorted(targets, reverse=True), *reversed(self.imported)]
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
            if REGISTERING.search(chain) and all(not key[0] for key in self._resolve(module, statement, chain)):
                return Effect((module, index), frozenset(), name=text if "accessor" in chain else "")
        touched = self._changed(module, statement)
        if statement.is_class:
            touched |= {key for key in self._bases(module, statement) if all_subclasses or self._registers(key)}
        if statement.runs:
            touched |= {
                key
                for chain in statement.at_import.read
                for key in self._resolve(module, statement, chain)
                if _is_variable(key)
            }
        if not touched and (not statement.runs or self._is_harmless(module, statement)):
            return None
        return Effect((module, index), frozenset(touched), statement.runs and bool(statement.at_import.called))

    def _resolve(self, module: str, statement: Statement, chain: str) -> set[Key]:
        return self.references.resolve(module, statement, chain.split("."))

    def _changed(self, module: str, statement: Statement) -> set[Key]:
        """Return what a statement assigns to in place or calls, and what the functions change that it calls."""
        changed = {
            key
            for chain in statement.at_import.changed
            for key in self._resolve(module, statement, chain)
            if _statement_at(key)
        }
        for chain in statement.at_import.called:
            called = self._resolve(module, statement, chain)
            if not statement.runs:  # what decorates a function with a context enters it as the function is called
                called = {key for key in called if not _makes_context(key)}
            changed |= {key for key in called if _is_method_of(key, chain)}
            changed |= self._changed_by(frozenset(called))
        return changed

    @remembered
    def _changed_by(self, called: frozenset[Key]) -> set[Key]:
        """Return the variables that functions change, and the making of objects of classes."""
        changed, left, seen = set[Key](), [*called], set[Key]()
        while left:
            key = left.pop()
            statement = _statement_at(key)
            if key in seen or statement is None or statement.is_variable:
                continue
            seen.add(key)
            names = statement.constructing or statement.names
            for chain in names.changed:
                changed |= {each for each in self._resolve(key[0], statement, chain) if _statement_at(each)}
            left += [each for chain in names.read for each in self._resolve(key[0], statement, chain)]
        return changed

    def _bases(self, module: str, statement: Statement) -> set[Key]:
        bases = {key for base in statement.bases for key in self._resolve(module, statement, base)}
        return {key for key in bases if key[0]}

    def _registers(self, key: Key, seen: frozenset[Key] = frozenset()) -> bool:
        """Whether a class, or one that it inherits from, notes the classes that inherit from it."""
        statement = _statement_at(key)
        if key in seen or statement is None:
            return False
        bases = self._bases(key[0], statement)
        return statement.registers or any(self._registers(base, seen | {key}) for base in bases)

    def _is_harmless(self, module: str, statement: Statement) -> bool:
        """Whether a statement calls nothing but what shows messages."""
        roots = statement.at_import.called
        targets = {target for chain in roots for target in self._external(module, statement, chain)}
        return bool(roots) and targets <= HARMLESS and not statement.at_import.changed

    def _external(self, module: str, statement: Statement, chain: str) -> set[str]:
        """Return the top-level modules outside of the project that a chain refers to, or its first name."""
        keys = self._resolve(module, statement, chain)
        if not keys:
            return {chain.partition(".")[0]}
        return {module or re.split("[=:.]", str(text))[1] for module, text in keys if module or "=" in str(text)}


def _statement_at(key: Key) -> Statement | None:
    module, index = key
    return source_of(module).statements[index] if module and isinstance(index, int) else None


def _is_variable(key: Key) -> bool:
    statement = _statement_at(key)
    return statement is not None and statement.is_variable


def _makes_context(key: Key) -> bool:
    statement = _statement_at(key)
    return statement is not None and any(chain.endswith("contextmanager") for chain, _ in statement.decorators)


def _is_method_of(key: Key, chain: str) -> bool:
    """Whether a chain calls a variable, or a method of a function or class, which may change either."""
    statement = _statement_at(key)
    if statement is None:
        return False
    return statement.is_variable or ("." in chain and chain.rpartition(".")[2] not in statement.binds)
