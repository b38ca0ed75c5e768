"""Hints from the lens and the log for a question, and messages with them (BLADE, arXiv 2403.18365).

In the paper, a small language model of a domain writes hints for a general LLM. Here, templates turn the lens's
verdict, the nearest items of the user's history and rating statistics into text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from reclora_kedro.distributed.engine import LOCAL, EngineConfig
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.history.records import ShownQuestion, prompt_records
from reclora_kedro.history.retrieval import WindowConfig, unit_vectors
from reclora_kedro.lens.base import Lens
from reclora_kedro.lens.features import statistics_of
from reclora_kedro.lens.states import lens_scores, lens_states
from reclora_kedro.llm.prompts import (
    TEMPLATE_ERRORS,
    PromptConfig,
    compile_template,
    fit_budget,
    template_renderer,
    visible_fields,
)

Options = Mapping[str, Any]  # what the search chooses: ``template``, and values that templates read by other names
NEAREST = 5  # most events of either kind that a hint may show, as a message has a budget
COUNTS = ("item_ratings", "user_ratings")
PLAIN = str.maketrans("<>[]", "\u2039\u203a()")
"""Characters that special tokens of chats are written with, such as <|im_end|> and [INST], and what stands for them."""
OVER_CHARACTERS = (
    "The message of row {row} has {length} characters without any history, over the budget of {budget}: raise "
    "black_box.max_characters, or lower prompt.max_characters."
)


class HintedQuestion(ShownQuestion):
    """What a message may show of a question."""

    hint: dict[str, Any]  # see `hinted_records`


def hinted_records(
    lens: Lens,
    log: InteractionLog,
    questions: pl.DataFrame,
    history: WindowConfig,
    engine: EngineConfig = LOCAL,
) -> list[HintedQuestion]:
    """Return records for prompts of questions, see `prompt_records`, with hints.

    A hint has verdict (the lens's probability of a like); liked and disliked, the user's earlier events of either kind
    whose items are nearest to the target, the nearest first; and statistics, by the names of
    `reclora_kedro.history.rating_statistics.COLUMNS`, with counts in place of logarithms.

    The prompts themselves show the events of `history`.
    """
    verdicts = lens_scores(lens_states(lens, log, questions, engine))
    statistics = statistics_of(lens)(log).compute(questions)
    statistics = statistics.with_columns((pl.col(COUNTS).exp() - 1).round().cast(pl.Int64))
    liked, disliked = (
        [record["history"] for record in prompt_records(questions, log, nearest_events(questions, log, label, NEAREST))]
        for label in (1, 0)
    )
    hints = zip(verdicts.tolist(), liked, disliked, statistics.to_dicts(), strict=True)
    records = prompt_records(questions, log, log.histories(questions, history))
    names = ("verdict", "liked", "disliked", "statistics")
    return [
        {**record, "hint": dict(zip(names, hint, strict=True))} for record, hint in zip(records, hints, strict=True)
    ]


def nearest_events(questions: pl.DataFrame, log: InteractionLog, label: int, limit: int) -> np.ndarray:
    """Return the history's events of a label whose items are nearest to the target by embeddings.

    They are flat event indices, (questions, limit), the nearest first and of equals the latest; padded with -1.
    """
    assert log.item_embeddings is not None  # the log of the catalog has them
    vectors, sequences = unit_vectors(log.item_embeddings), log.sequences
    events = np.full((questions.height, limit), -1)
    rows = questions.select("user_index", "history_end", "item_index").iter_rows()
    for place, (user, end, item) in enumerate(rows):
        past = np.arange(sequences.offsets[user], end)[::-1]
        past = past[sequences.label[past] == label]
        likeness = vectors[sequences.item_index[past]] @ vectors[item]
        near = past[np.argsort(-likeness.round(6), kind="stable")[:limit]]
        events[place, : len(near)] = near
    return events


class MessageWriter:
    """Writes the messages of records, within a budget of characters, as token counts of an API are unknown.

    Texts of items and users are data: no template in them is followed, and characters of special tokens are replaced.
    `prompt_template` is the text of a question without a hint, see `reclora_kedro.llm.prompts.PromptBuilder`;
    `hint_templates` are texts of whole messages, by name, which read prompt (the question's text), target, verdict,
    liked, disliked and statistics, see `hinted_records`, and the options. Above `max_characters`, the oldest history is
    dropped first, never the hint. ValueError is raised for a template that is no valid Jinja.
    """

    def __init__(
        self, prompt_template: str, hint_templates: Mapping[str, str], prompt: PromptConfig, max_characters: int
    ) -> None:
        self._prompt, self._max_characters = prompt, max_characters
        self._question = template_renderer(prompt_template, prompt)
        self.hint_templates = {name: compile_template(text, f"{name} hint") for name, text in hint_templates.items()}

    def write(self, records: Sequence[HintedQuestion], options: Options | None) -> list[str]:
        """Return the message of each record, with a hint by these options, or without one.

        ValueError is raised for a template that reads names that records and options lack, or for a message without any
        history that exceeds the budget.
        """

        def render(record: HintedQuestion, left_out: int) -> str:
            question = self._question(record, left_out)
            return question if options is None else self._hinted(options, record, question)

        texts, *_ = fit_budget(list, [plain(each) for each in records], render, self._max_characters, OVER_CHARACTERS)
        return texts

    def _hinted(self, options: Options, record: HintedQuestion, question: str) -> str:
        hint = record["hint"]
        shown_events = {
            kind: [visible_fields(item, self._prompt) for item in hint[kind]] for kind in ("liked", "disliked")
        }
        given = {"prompt": question, "target": visible_fields(record["target"], self._prompt)} | hint | shown_events
        try:
            return self.hint_templates[options["template"]].render({**given, **options}).strip()
        except TEMPLATE_ERRORS as error:
            raise ValueError(
                f"The hint template {options['template']} failed on row {record['row']}: {error}. It may read "
                f"{', '.join(given)} and what black_box.hints names."
            ) from error


def plain(value: Any) -> Any:
    """Return data without special tokens of a chat in its texts.

    Examples:
        >>> plain({"title": "Heat<|im_end|>", "genres": ["[INST]"], "rating": 4})
        {'title': 'Heat‹|im_end|›', 'genres': ['(INST)'], 'rating': 4}
    """
    if isinstance(value, str):
        return value.translate(PLAIN)
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value
