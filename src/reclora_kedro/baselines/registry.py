"""The baselines: the modules of this package, those of installed packages, and any by its dotted path.

``scoring.baselines`` names them. The module of a baseline has

- ``NOTE``: its description after its name in a report, and ``LABEL``, the same in a few words;
- ``STYLE``: its style in figures;
- ``scores``: a node function that returns row and score (probability of a like) of each. Its
  arguments are named by their content: ``learning_questions`` (few-shot and validation rows, by their use),
  ``test_questions``, ``prompts`` (those of the untrained LLM), ``log`` (with all samples) and ``config`` (the block of
  parameters with the baseline's name).
"""

import inspect
from collections.abc import Iterable
from typing import Any

from reclora_kedro.extensions import Registry

# Their names do not stand here: the recipe of a node that reads this module counts those that its parameters name.
BASELINES = Registry("reclora_kedro.baselines", helpers=("base", "registry"))


def attributes(name: str, models: Iterable[str]) -> dict[str, Any]:
    """Return the ``NOTE``, ``LABEL`` or ``STYLE`` of the baselines among models, by name."""
    known = BASELINES.modules()
    return {model: getattr(BASELINES.load(model), name) for model in models if model in known or "." in model}


def inputs(name: str, prompts: str) -> list[str]:
    """Return the catalog entries that a baseline's ``scores`` reads; `prompts` is that of the untrained LLM's prompts.

    Examples:
        >>> inputs("lens_probe", "test.recent.prompts")
        ['learning_questions', 'test_questions', 'learning_states', 'test_states']
    """
    entries = {"config": f"params:{name}", "prompts": prompts}
    return [entries.get(argument, argument) for argument in inspect.signature(BASELINES.load(name).scores).parameters]
