"""Ways to select the few-shot rows, one module each with ``draw_learning_questions`` and ``INPUTS``."""

from reclora_kedro.extensions import Registry

SELECTIONS = Registry("reclora_kedro.history.selections")
"""Modules for the values of ``few_shot.selection``.

Each has the node function ``draw_learning_questions``, which returns the few-shot and validation questions, and
``INPUTS``, the catalog entries that it reads after log_without_embeddings, params:history and params:few_shot.
"""
