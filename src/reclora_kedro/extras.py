"""Optional dependencies of the package: what to type where those of an extra are not installed."""

import re
from importlib.metadata import requires
from importlib.util import find_spec

DISTRIBUTION = "reclora-kedro"


def missing_extra(extra: str, needed_by: str) -> str | None:
    """Return a sentence on the packages of an extra that are not installed and the line to type; None if all are.

    Examples:
        >>> missing_extra("llm", "The pipeline finetuning")
    """
    lines = (line.partition(";") for line in requires(DISTRIBUTION) or ())
    wanted = {requirement.strip() for requirement, _, marker in lines if re.search(rf"extra == .{extra}\W", marker)}
    packages = {re.split(r"[^\w-]", requirement)[0]: requirement for requirement in wanted}
    missing = sorted(package for package in packages if find_spec(package.replace("-", "_")) is None)
    if not missing:
        return None
    line = " ".join(f"'{packages[package]}'" for package in missing)
    return f"{needed_by} needs the extra `{extra}`, of which {', '.join(missing)} are missing: `pip install {line}`"


def require_extra(extra: str, needed_by: str) -> None:
    """Raise ImportError, with the line to type, if a package of an extra is not installed."""
    if text := missing_extra(extra, needed_by):
        raise ImportError(text)
