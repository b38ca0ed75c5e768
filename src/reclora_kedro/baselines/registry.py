"""The baselines: modules named below, and those that installed packages add; see `reclora_kedro.extensions`.

The module of a baseline holds

- ``NOTE``, what the model is, in words that follow its name in a report;
- ``STYLE``, how figures draw it;
- if it scores test rows, ``scores``: the function of the node that returns the row and the score (probability of a
  like) of each test row. Its arguments are named as the catalog names what they are: ``learning_questions`` are the few
  rows to learn from and those that choose among settings, by their use; ``test_questions`` are those to score, and
  ``prompts`` what the untrained LLM reads of them; ``log`` has all samples; ``config`` is the block of parameters with
  the baseline's name;
- if it ranks items, ``scorer``: what learns from a log and, where there are settings, from ``config``, and returns a
  `reclora_kedro.baselines.base.Scorer` of items at any moment.
"""

import inspect
from typing import Any

from reclora_kedro.extensions import Registry

SCORED = ("boosted_trees", "lens_probe", "prompt_likes")
"""Baselines that score the test rows in the default flow."""
RANKED = ("popularity", "neighbours", "linear")
"""Baselines that rank items."""
BASELINES = Registry("reclora_kedro.baselines", (*SCORED, *RANKED))


def load(name: str) -> Any:
    """Return the module of a baseline, which is imported together with its dependencies."""
    return BASELINES.load(name)


def scored() -> tuple[str, ...]:
    """Return the baselines that score the test rows, those of installed packages last."""
    return (*SCORED, *(name for name in BASELINES.added() if hasattr(load(name), "scores")))


def ranked() -> tuple[str, ...]:
    """Baselines that rank items, those of installed packages last."""
    return (*RANKED, *(name for name in BASELINES.added() if hasattr(load(name), "scorer")))


def attributes(name: str) -> dict[str, Any]:
    """Return the ``NOTE`` or ``STYLE`` of every baseline, by the baseline's name."""
    return {baseline: getattr(load(baseline), name) for baseline in BASELINES.modules()}


def inputs(name: str, prompts: str) -> list[str]:
    """Return the catalog entries that a baseline's ``scores`` reads, in the order of its arguments.

    Args:
        prompts: the entry with the prompts that the untrained LLM reads.

    Examples:
        >>> inputs("lens_probe", "test.recent.prompts")
        ['learning_questions', 'test_questions', 'learning_states', 'test_states']
    """
    entries = {"config": f"params:{name}", "prompts": prompts}
    return [entries.get(argument, argument) for argument in inspect.signature(load(name).scores).parameters]
