"""Lenses: CTR models on ids whose frozen states drive the gates. One file per model, under ``models/``."""

from pathlib import Path
from pkgutil import iter_modules

LENSES = tuple(sorted(module.name for module in iter_modules([str(Path(__file__).parent / "models")])))
"""Names that ``lens.model`` takes: those of the modules in ``models/``."""
