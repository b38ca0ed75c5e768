"""Retrievers: next-item models that search a whole catalogue. One file per model, under ``models/``."""

from reclora_kedro.extensions import Registry

RETRIEVER_MODELS = Registry("reclora_kedro.candidates.models")
"""Modules for the values of ``retriever.model``, each with a subclass of `reclora_kedro.candidates.base.Retriever`."""
