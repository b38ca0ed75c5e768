"""Errors as objects, which each way into a project renders in its own words.

A run names parameters and catalog entries, a script the keywords of its call, a request the places in its body. What
raises an error knows none of them: it gives terms, whose ``str`` are the words of a run.
"""

import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar


class Term:
    """What each way in names in its own words; a run, in those of `in_run`, with the fields of the term in braces."""

    in_run: ClassVar[str]

    def __str__(self) -> str:
        return self.in_run.format_map(vars(self))


Words = Callable[[Term], str]  # how a way in names terms; ``str`` for a run
Phrase = str | Term | tuple[str | Term, ...]  # a part of a sentence; parameters in it are quoted
_words: ContextVar[Words] = ContextVar("words", default=str)


@dataclass(frozen=True)
class PathTerm(Term):
    """A parameter, which sentences quote."""

    in_run = "{path}"
    path: str


class Parameter(PathTerm):
    """A parameter, by its path in the parameter files."""


class Sibling(PathTerm):
    """A parameter of the block that is being checked, by its path within the block."""


@dataclass(frozen=True)
class Value(Term):
    """A value that was found, or is to be set."""

    value: Any

    def __str__(self) -> str:
        return quoted_value(self.value)


NULL = Value(None)


class Fault(ValueError):  # noqa: N818 - as all of this project calls it
    """What is wrong with a subject, such as a parameter: what was found (a predicate), what was expected, what to do.

    Examples:
        >>> fault = Fault(
        ...     Parameter("model.depth"), "is 0", "a tree has a level", advice=("Raise it, or set ", Sibling("kind"))
        ... )
        >>> print(fault)
        model.depth is 0: a tree has a level. Raise it, or set `kind`.
        >>> print(fault.within("model").told(lambda term: str(term).rpartition(".")[2]))
        depth is 0: a tree has a level. Raise it, or set `kind`.
    """

    words: Words | None = None  # of the way in that it has left

    def __init__(self, subject: Term | str, found: Phrase, expected: Phrase = "", advice: Phrase = "") -> None:
        super().__init__(subject, found, expected, advice)
        self.subject, self.found, self.expected, self.advice = subject, found, expected, advice

    def told(self, words: Words) -> str:
        """Return the error in the words of a way in."""
        subject = words(self.subject) if isinstance(self.subject, Term) else self.subject
        found, expected, advice = (_told(each, words) for each in self.args[1:])
        ends = [f" {advice[:1].upper()}{advice[1:]}."] if advice else []
        return "".join([subject, f" {found}" if found else "", f": {expected}" if expected else "", ".", *ends])

    def within(self, path: str) -> "Fault":
        """Return the fault with the full paths of siblings of the block at a path."""

        def full(term: Any) -> Any:
            if isinstance(term, tuple):
                return tuple(map(full, term))
            return Parameter(f"{path}.{term.path}") if isinstance(term, Sibling) else term

        return Fault(*map(full, self.args))

    def __str__(self) -> str:
        return self.told(self.words or _words.get())


class Faults(Fault):
    """Several things are wrong: one line each."""

    def __init__(self, *faults: Fault) -> None:
        ValueError.__init__(self, *faults)

    def told(self, words: Words) -> str:
        """Return a line per fault."""
        return "\n".join(dict.fromkeys(fault.told(words) for fault in self.args))


class NameRefusedError(Faults):
    """Parameters give names that cannot be used."""


class MismatchError(ValueError):
    """Stored artefacts do not fit one another, most likely because they stem from different runs.

    `entries` are the names of the catalog entries that have to be made again.

    Examples:
        >>> MismatchError("item_embeddings has 2 rows, but the log has 9 items.", "item_embeddings").entries
        ('item_embeddings',)
    """

    def __init__(self, message: str, *entries: str) -> None:
        super().__init__(message)
        self.entries = entries


@contextmanager
def words_of(words: Words) -> Iterator[None]:
    """Render warnings, and the faults that leave the context, in the words of a way in.

    Examples:
        >>> with words_of(lambda term: str(term).upper()):
        ...     worded("See ", Parameter("model.depth"), ".")
        'See `MODEL.DEPTH`.'
    """
    token = _words.set(words)
    try:
        yield
    except Fault as fault:
        fault.words = fault.words or words
        raise
    finally:
        _words.reset(token)


def worded(*parts: str | Term) -> str:
    """Return a warning in the words of the way in that this call came by."""
    return _told(parts, _words.get())


def _told(phrase: Phrase, words: Words) -> str:
    parts = phrase if isinstance(phrase, tuple) else (phrase,)
    return "".join(
        part if isinstance(part, str) else f"`{words(part)}`" if isinstance(part, PathTerm) else words(part)
        for part in parts
    )


def quoted_value(value: Any) -> str:
    """Return a value as messages quote it: shortened, and null for None, as in YAML.

    Examples:
        >>> quoted_value(None), quoted_value("x" * 99)
        ('null', "'xxxxxxxxxxxx...xxxxxxxxxxxxx'")
    """
    return "null" if value is None else reprlib.repr(value)
