"""Scoring: the LLM's answer as the output of a CTR model, one logit a prompt."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from reclora_kedro.llm.batching import TokenBudget, pad_right
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptFormat


class ScoringConfig(BaseModel):
    """How prompts are scored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens_per_batch: int = Field(gt=0, description="most tokens in one forward pass, padding included")


@dataclass(frozen=True)
class PromptBatch:
    """What the LLM reads of some prompts, on its device.

    Attributes:
        token_ids: right-padded prompts, shape (batch, tokens).
        last: position of each prompt's last token, shape (batch,).
        lens_states: states that personalize an adapter, shape (batch, lens_dim); None without an adapter.
        lens_logits: the lens's own logits, shape (batch,), for adapters with a lens prior or average.
    """

    token_ids: Tensor
    last: Tensor
    lens_states: Tensor | None = None
    lens_logits: Tensor | None = None


@dataclass(frozen=True)
class PromptSet:
    """Tokenised prompts with labels and, for personalized adapters, the state that its gates read and the lens's logit.

    ``rows``, ``labels`` and ``lens_logits`` have shape (prompts,); ``lens_states`` has shape (prompts, lens_dim).
    """

    rows: np.ndarray
    token_ids: list[list[int]]
    labels: np.ndarray
    lens_states: Tensor | None
    lens_logits: Tensor | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each prompt."""
        return np.array([len(ids) for ids in self.token_ids])

    def batch(self, rows: Iterable[int], device: torch.device) -> PromptBatch:
        """Some of the prompts, padded."""
        index = list(rows)
        lens = (None if part is None else part[index].to(device) for part in (self.lens_states, self.lens_logits))
        return PromptBatch(*pad_right([self.token_ids[row] for row in index], device), *lens)


def prompt_set(
    prompts: pl.DataFrame, use: str, lens_states: dict[str, Tensor] | None = None, kind: str = "target"
) -> PromptSet:
    """The prompts of one use with the lens states and logits of their rows.

    Args:
        prompts: frame with row, use, label and token_ids.
        use: ``few_shot``, ``validation`` or ``test``.
        lens_states: ``row``, shape (n,), one tensor a kind of state, shape (n, lens_dim), and, for adapters with a lens
            prior or average, ``logit``, shape (n,); None for no states.
        kind: the state that gates read: ``target``, ``user``, ``fields`` or ``feedback``.

    Raises:
        ValueError: there are no prompts of that use, no lens states of that kind, or rows without one.
    """
    chosen = prompts.filter(pl.col("use") == use)
    if chosen.is_empty():
        raise ValueError(f"There are no prompts with use {use!r}: raise history.prompt_rows.{use} above 0.")
    states = logits = None
    if lens_states is not None:
        if kind not in lens_states:
            kinds = sorted(lens_states.keys() - {"row", "logit"})
            raise ValueError(
                f"The gates read the lens state {kind!r}, but the lens has {', '.join(kinds)}: "
                "change the adapter's gate_input, or lens.model; `feedback` is there when the lens pipeline has run "
                "again, `kedro run --pipelines lens`."
            )
        place = {row: i for i, row in enumerate(lens_states["row"].tolist())}
        missing = [row for row in chosen["row"] if row not in place]
        if missing:
            raise ValueError(
                f"{len(missing)} prompts with use {use!r} have no lens state (the first is row {missing[0]}): "
                "run the lens pipeline again, `kedro run --pipelines lens`."
            )
        places = [place[row] for row in chosen["row"]]
        states = lens_states[kind][places]
        logits = lens_states["logit"][places] if "logit" in lens_states else None
    return PromptSet(
        chosen["row"].to_numpy(), chosen["token_ids"].to_list(), chosen["label"].to_numpy(), states, logits
    )


def answer_logits(llm: LanguageModel, form: PromptFormat, batch: PromptBatch) -> Tensor:
    """Logit of the positive answer against the negative one, ``logits[Yes] - logits[No]``, shape (batch,).

    Only those two rows of the head are used, at the last position only. Its sigmoid is the score
    ``softmax(logits[Yes], logits[No])[Yes]`` (RecLoRA, section 3.1), unless the adapter says otherwise, see
    :func:`adapted_logits`.

    Args:
        llm: the base LLM, with or without an adapter.
        form: token ids of the two answers.
        batch: the prompts.

    Raises:
        ValueError: the adapter has a lens prior, but the batch has no lens logits.
    """
    with personalized(llm, batch.lens_states):
        states = llm.last_hidden_states(batch.token_ids)
    hidden = states[torch.arange(len(batch.last), device=batch.last.device), batch.last]
    return answer_difference(llm, form, hidden, batch.lens_logits)


def personalized(llm: LanguageModel, lens_states: Tensor | None) -> AbstractContextManager[None]:
    """Forward passes inside are adapted to these lens states, shape (batch, lens_dim); None leaves them alone."""
    return nullcontext() if lens_states is None else llm.model.lens_context(lens_states)


def answer_difference(llm: LanguageModel, form: PromptFormat, hidden: Tensor, lens_logits: Tensor | None) -> Tensor:
    """``logits[Yes] - logits[No]`` of final hidden states (batch, hidden), as :func:`adapted_logits` gives it."""
    head = llm.model.get_output_embeddings()
    answers = [form.positive, form.negative]
    logits = hidden.float() @ head.weight[answers].float().T
    if getattr(head, "bias", None) is not None:
        logits = logits + head.bias[answers].float()
    return adapted_logits(llm, logits[:, 0] - logits[:, 1], lens_logits)


def adapted_logits(llm: LanguageModel, logits: Tensor, lens_logits: Tensor | None) -> Tensor:
    """The LLM's logits of the answer as the adapter reads them, with the lens's; all of shape (batch,).

    They are divided by ``answer_temperature``. ``lens_prior`` adds the learned weight times the lens's logits;
    ``lens_average`` takes the mean with the lens's, outside of training.

    Raises:
        ValueError: the adapter reads the lens's logits, but there are none.
    """
    logits = logits / getattr(llm.model, "answer_temperature", 1.0)
    weight = getattr(llm.model, "lens_weight", None)
    averages = getattr(llm.model, "averages_lens", False) and not llm.model.training
    if weight is None and not averages:
        return logits
    if lens_logits is None:
        raise ValueError(
            "The adapter reads the lens's logit beside the LLM's (lens_prior or lens_average), but these prompts have "
            "no lens logits: lens_states needs an entry 'logit'. Run the lens pipeline again, "
            "`kedro run --pipelines lens`."
        )
    return (logits + lens_logits) / 2 if weight is None else logits + weight * lens_logits


@torch.inference_mode()
def score_prompts(
    llm: LanguageModel,
    form: PromptFormat,
    prompts: PromptSet,
    tokens_per_batch: int,
    description: str,
    share: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """Probability of a like for each prompt, float64 array of shape (prompts,).

    Args:
        llm: the base LLM, with or without an adapter, in eval mode.
        form: token ids of the two answers.
        prompts: what to score.
        tokens_per_batch: most tokens in a batch, padding included; halved where the GPU's memory does not suffice.
        description: what the progress bar says.
        share: this process's number, from 0, and how many there are: each scores its share of the prompts and leaves
            the others' scores 0, so that the sum over all processes is whole.
    """
    scores, (process, processes) = np.zeros(len(prompts.labels)), share
    rows = np.arange(process, len(scores), processes)

    def score(batch: np.ndarray) -> np.ndarray:
        logits = answer_logits(llm, form, prompts.batch(batch, llm.device))
        return torch.sigmoid(logits.double()).cpu().numpy()

    with tqdm(total=len(rows), desc=description, unit="row", disable=True if process else None) as progress:
        for batch, batch_scores in TokenBudget(tokens_per_batch).run(rows, prompts.lengths, score):
            scores[batch] = batch_scores
            progress.update(len(batch))
    return scores


def score_table(prompts: PromptSet, scores: np.ndarray) -> pl.DataFrame:
    """One model's scores: row, label, score."""
    return pl.DataFrame(
        {"row": prompts.rows, "label": prompts.labels, "score": scores},
        schema={"row": pl.UInt32, "label": pl.Int8, "score": pl.Float64},
    )


def collect_scores(tables: dict[str, pl.DataFrame], test_rows: pl.DataFrame) -> pl.DataFrame:
    """The scores of every model on the same test rows, in one long table.

    Args:
        tables: by model name, a table with row and score; other rows than the test's are left out.
        test_rows: row and label of the test rows.

    Returns:
        Frame with row, label, model and score, models in the order given.

    Raises:
        ValueError: a model has no score for some test row.
    """
    parts = []
    for model, table in tables.items():
        scored = test_rows.select("row", "label").join(
            table.select("row", "score"), on="row", how="left", maintain_order="left"
        )
        missing = scored.filter(pl.col("score").is_null())
        if not missing.is_empty():
            raise ValueError(
                f"{model} has no score for {len(missing)} of {len(scored)} test rows (the first is row "
                f"{missing['row'][0]}): its scores are of another run's test rows. Score again, "
                "`kedro run --pipelines lens,finetuning,scoring`."
            )
        parts.append(scored.select("row", "label", pl.lit(model).alias("model"), "score"))
    return pl.concat(parts)
