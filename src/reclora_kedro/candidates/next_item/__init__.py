"""Next-item models: what a user takes next, learned from whole histories; one file per architecture."""

from reclora_kedro.extensions import Registry

HELPERS = ("base", "config", "reader", "training")
RETRIEVER_MODELS = Registry("reclora_kedro.candidates.next_item", helpers=HELPERS)
"""Modules for the values of ``retriever.model``, each with a subclass of `next_item.base.Retriever`."""
