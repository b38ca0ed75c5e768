"""Optional dependencies of the package: what to type where those of an extra are not installed."""

import re
from collections.abc import Collection
from functools import cache
from importlib.metadata import requires
from importlib.util import find_spec

DISTRIBUTION = "reclora-kedro"


def missing_extra(extra: str, needed_by: str) -> str | None:
    """Return a sentence on the packages of an extra that are not installed and the line to type; None if all are.

    Examples:
        >>> missing_extra("llm", "The pipeline finetuning")
    """
    missing = [name for name in sorted(_packages(extra)) if find_spec(name.replace("-", "_")) is None]
    if not missing:
        return None
    line = install_line(extra, missing)
    return f"{needed_by} needs the extra `{extra}` (missing: {', '.join(missing)}): `{line}`"


def install_line(extra: str, names: Collection[str] | None = None, distribution: str = DISTRIBUTION) -> str:
    """Return the line that installs packages of an extra (by default all): the same in a clone and beside a wheel.

    Examples:
        >>> install_line("ray").startswith("pip install 'ray")
        True
    """
    packages = _packages(extra, distribution)
    return " ".join(["pip install", *(f"'{packages[name]}'" for name in names or sorted(packages))])


@cache  # reading the metadata takes 3 ms, and each of 25 steps asks
def _packages(extra: str, distribution: str = DISTRIBUTION) -> dict[str, str]:
    """Return the requirement of each package of an extra, by the package's name."""
    lines = (line.partition(";") for line in requires(distribution) or ())
    wanted = {requirement.strip() for requirement, _, marker in lines if re.search(rf"extra == .{extra}\W", marker)}
    return {re.split(r"[^\w-]", requirement)[0]: requirement for requirement in wanted}


def require_extra(extra: str, needed_by: str, otherwise: str = "") -> None:
    """Raise ImportError, with how to do without and the line to type, if a package of an extra is not installed."""
    if text := missing_extra(extra, needed_by):
        raise ImportError(otherwise + text)
