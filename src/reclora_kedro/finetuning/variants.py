"""A variant: one adapter to train and compare, and what its gates read."""

from pydantic import Field
from torch import Tensor

from reclora_kedro.adapters.reclora.config import AdapterConfig
from reclora_kedro.errors import MismatchError
from reclora_kedro.finetuning.training import TrainingConfig
from reclora_kedro.histories.rating_statistics import COLUMNS
from reclora_kedro.lens.config import StateKind
from reclora_kedro.parameters import Block


class VariantConfig(Block):
    """One adapter to train and compare: what its prompts show, what its gates read, what it is, and how it learns."""

    history: str = Field(description="name of the short history that its prompts show, one of history.short")
    gate_input: StateKind = Field(description="the state of the lens that its gates read")
    adapter: AdapterConfig
    training: TrainingConfig


def gate_inputs(states: dict[str, Tensor], name: StateKind) -> dict[str, Tensor]:
    """What gates read of samples, beside the lens's logits of them.

    Args:
        states: row, logit, and states by kind, see `lens_states`.
        name: what to read.

    Returns:
        ``row``, ``lens_logit``, both of shape (n,), ``log_counts`` of item and user, shape (n, 2), where the lens reads
        them, and the input by its name, float32, shape (n, gate_dim).

    Raises:
        ValueError: the lens has no such state.

    Examples:
        >>> import torch
        >>> states = {"row": torch.tensor([5]), "logit": torch.zeros(1), "target": torch.ones(1, 2)}
        >>> gate_inputs(states, "target")
        {'row': tensor([5]), 'lens_logit': tensor([0.]), 'target': tensor([[1., 1.]])}
    """
    read = {"row": states["row"], "lens_logit": states["logit"]}
    if (statistics := states.get("rating_statistics")) is not None:
        read["log_counts"] = statistics[:, [list(COLUMNS).index(name) for name in ("item_ratings", "user_ratings")]]
    if name not in states:
        kinds = sorted(states.keys() - {"row", "logit"})
        raise ValueError(
            f"gate_input is {name!r}, but the lens has the states {', '.join(kinds)}: change gate_input, lens.model or "
            "lens.rating_statistics."
        )
    return read | {name: states[name]}


def with_few_shot(states: dict[str, Tensor], few_shot: dict[str, Tensor]) -> dict[str, Tensor]:
    """States of all prompts, those of the few-shot prompts being the ones that gates learn from.

    Raises:
        MismatchError: a few-shot row is none of the prompts', or the two hold different states.
    """
    place = {row: i for i, row in enumerate(states["row"].tolist())}
    rows = few_shot["row"].tolist()
    missing = [row for row in rows if row not in place]
    kinds, few_shot_kinds = ({name: state.shape[1:] for name, state in of.items()} for of in (states, few_shot))
    if missing or kinds != few_shot_kinds:
        what = f"row {missing[0]}, which lens_states lacks" if missing else "other states than lens_states"
        raise MismatchError(f"few_shot_states has {what}: they stem from different runs.", "few_shot_states")
    merged = {name: state.clone() for name, state in states.items()}
    for name, state in few_shot.items():
        merged[name][[place[row] for row in rows]] = state
    return merged
