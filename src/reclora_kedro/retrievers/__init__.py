"""Retrievers: next-item models that find items in a whole catalogue. One file per model, under ``models/``."""

from reclora_kedro.extensions import Registry

RETRIEVER_MODELS = Registry("reclora_kedro.retrievers.models")
"""Modules that ``retriever.model`` names, each with one subclass of `reclora_kedro.retrievers.base.Retriever`."""
