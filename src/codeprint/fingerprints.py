"""Fingerprints of code: `fingerprint` makes them, and `diff` says by what two of them differ."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codeprint.declared import declarations
from codeprint.files import digest
from codeprint.objects import Description
from codeprint.search import code_of

SHOWN_DIGITS = 8


@dataclass(frozen=True)
class Fingerprint:
    """The code of an object: its digest, the same in every version of Python.

    `parts` are short digests of what it consists of by module and name, such as ``shop.nodes.train``, and versions of
    packages that it declares; `uncertain` are sentences on what could not be compared or followed, such as a lock.
    """

    digest: str
    parts: Mapping[str, str] = field(default_factory=dict)
    uncertain: tuple[str, ...] = ()


def fingerprint(
    value: Any, *, packages: Collection[str] = (), values: Collection[str] = (), imported: Sequence[str] = ()
) -> Fingerprint:
    """Return the fingerprint of the code that a function, a class or an object runs, at any depth.

    Code counts if it is the project's own: any that is installed neither in ``site-packages`` nor with Python. Comments
    and layout do not count, nor do docstrings unless something reads them. Values in partial functions, closures,
    default arguments and bound objects count by their content. Of a module that is imported, what it does at import
    counts for its own functions, and for whatever reads what it changes. Where names are known at run time only, whole
    modules count: those that `values` name, or all of a package if none is named.

    Args:
        value: the function, class, module or object.
        packages: names of packages whose code counts wherever they are installed.
        values: texts that the code reads: names or dotted paths of modules, or names of entry points.
        imported: modules that the program imports before, in their order; ``shop.plugins.*`` stands for all in a
            package.

    Raises:
        SyntaxError: the file of a function within another one, or of a lambda, is no valid Python any more.

    Examples:
        >>> fingerprint(fingerprint).digest == fingerprint(fingerprint).digest != fingerprint(diff).digest
        True
    """
    own = frozenset(packages)
    description = Description(own)
    described = description.describe(value)
    code, parts, unfollowed = code_of(frozenset(description.starts), own, frozenset(values), tuple(imported))
    declared = dict(declarations(value))
    uncertain = [f"it holds a {kind}, which cannot be compared" for kind in description.uncompared]
    shown = {name: text[:SHOWN_DIGITS] for name, text in parts.items()} | declared
    return Fingerprint(
        digest([described, code, declared]), shown, (*dict.fromkeys(uncertain), *(() if declared else unfollowed))
    )


def diff(before: Fingerprint, after: Fingerprint) -> list[str]:
    """Say by what two fingerprints differ.

    Examples:
        >>> diff(Fingerprint("1", {"shop.nodes.scale": "a", "package kedro": "1.6"}), Fingerprint("2", {
        ...     "shop.nodes.scale": "b", "package kedro": "1.7", "shop.nodes.limit": "c"}))
        ['package kedro 1.6 -> 1.7', 'shop.nodes.limit is new', 'shop.nodes.scale changed']
    """
    if before.digest == after.digest:
        return []
    changed = before.parts.items() ^ after.parts.items()
    old, new = ({_shown(name) for name, text in changed if each.parts.get(name) == text} for each in (before, after))
    said = []
    for name in sorted(old | new):
        if name.startswith("package ") and name in old & new:
            said.append(f"{name} {before.parts[name]} -> {after.parts[name]}")
        else:
            said.append(f"{name} {'changed' if name in old & new else 'is new' if name in new else 'is gone'}")
    return said or ["what it holds, or how it is called, changed"]


def _shown(name: str) -> str:
    """Return the name of a part without the mark that tells it from others of this name."""
    return name if name.startswith(("file ", "package ", "environment ")) else name.partition(":")[0]
