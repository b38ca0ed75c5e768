"""Retrievers: next-item models that find items in a whole catalogue. One file per model, under ``models/``."""

from pathlib import Path
from pkgutil import iter_modules

RETRIEVERS = tuple(sorted(module.name for module in iter_modules([str(Path(__file__).parent / "models")])))
"""Names that ``retriever.model`` takes: those of the modules in ``models/``."""
