"""Lenses: CTR models on ids whose frozen states drive the gates. One file per model, under ``models/``."""

from reclora_kedro.extensions import Registry

LENS_MODELS = Registry("reclora_kedro.lens.models")
"""Modules for the values of ``lens.model``, each with one subclass of `reclora_kedro.lens.base.Lens`."""
