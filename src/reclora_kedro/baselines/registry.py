"""The baselines: the modules of this package, those of installed packages, and any by its dotted path.

``scoring.baselines`` names those that score the test rows, ``ranking.baselines`` those that rank items beside
`reclora_kedro.recommend.config.RANKED`.
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
from collections.abc import Iterable
from typing import Any

from reclora_kedro.extensions import Registry

# Their names do not stand here: the recipe of a node that reads this module counts those that its parameters name.
BASELINES = Registry("reclora_kedro.baselines", helpers=("base", "ease", "registry", "transitions"))


def attributes(name: str, models: Iterable[str]) -> dict[str, Any]:
    """Return the ``NOTE`` or ``STYLE`` of those models that are baselines, by the model's name."""
    known = BASELINES.modules()
    return {model: getattr(BASELINES.load(model), name) for model in models if model in known or "." in model}


def inputs(name: str, prompts: str) -> list[str]:
    """Return the catalog entries that a baseline's ``scores`` reads, in the order of its arguments.

    Args:
        prompts: the entry with the prompts that the untrained LLM reads.

    Examples:
        >>> inputs("lens_probe", "test.recent.prompts")
        ['learning_questions', 'test_questions', 'learning_states', 'test_states']
    """
    entries = {"config": f"params:{name}", "prompts": prompts}
    return [entries.get(argument, argument) for argument in inspect.signature(BASELINES.load(name).scores).parameters]
