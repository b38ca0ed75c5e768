"""Prompts: render the record of a user, a history and a target item as text, and tokenise it."""

import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

import numpy as np
import polars as pl
import psutil
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field

from kedro_provenance.parameters import Block
from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.history.records import FieldValue, ShownEvent, ShownItem, ShownQuestion
from reclora_kedro.parameters import Count, Real

YEAR = re.compile(r"\s*\((1[89]|20)\d\d\)\s*$")  # the year in brackets at the end of a film's title

OTHER_CHAT_TEMPLATE = "Set prompt.chat_template to false, or choose another base LLM."
OVER_TOKENS = (
    "The prompt of row {row} has {length} tokens without any history, over the budget of {budget} with what a chat "
    "template adds: raise prompt.max_tokens, or lower prompt.max_characters."
)
TEMPLATE_ERRORS = (TemplateError, TypeError, ArithmeticError, LookupError)
"""Errors of templates that do not fit a record, such as adding text and a number."""
Encoded = TypeVar("Encoded", bound=Sized)
Q = TypeVar("Q", bound=ShownQuestion)


class PromptConfig(Block):
    """Settings of how records become prompts, and the two words that answer them."""

    template: str
    chat_template: bool
    system_message: str | None
    chat_template_arguments: dict[str, Any]
    max_tokens: Count
    max_characters: Count
    hidden_fields: tuple[str, ...]
    max_unknown_titles: Real = Field(default=0.1, ge=0, le=1)
    positive_answer: str = Field(min_length=1)
    negative_answer: str = Field(min_length=1)


@dataclass(frozen=True)
class PromptFormat:
    """Text around each prompt, and the tokens of its two possible answers."""

    start: list[int]  # token ids before a prompt without a chat template
    before: str  # text of the chat template before a prompt; empty without one
    after: str  # text of the chat template after it
    positive: int  # token id of the answer of a user who likes the item
    negative: int  # token id of the other answer

    def encode(self, tokenizer: Any, texts: list[str]) -> list[list[int]]:
        """Tokenise prompts in their chat format.

        The parts of a prompt that contains special tokens are tokenised separately, so that those become plain text.
        """
        plain = plain_ids(tokenizer, texts)
        if not self.before and not self.after:
            return [self.start + ids for ids in plain]
        parts = [self.before, self.after, *(self.before + text + self.after for text in texts)]
        before, after, *wrapped = tokenizer(parts, add_special_tokens=False)["input_ids"]
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        expected = [token for token in before + after if token in special]
        return [
            ids if [token for token in ids if token in special] == expected else before + alone + after
            for ids, alone in zip(wrapped, plain, strict=True)
        ]


def prompt_format(tokenizer: Any, config: PromptConfig) -> PromptFormat:
    """Return the format of prompts for a tokenizer, with the token ids of the two answers.

    An answer follows a space unless the prompt ends in white space, as chat templates do. Its tokens are those that it
    adds to preceding text, since SentencePiece would put a space before an answer that stands alone. ValueError is
    raised if there is no chat template, it refuses the system message or an argument, or an answer is not one token.
    """
    bos, before, after = tokenizer.bos_token_id, "", ""
    start = [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
    if config.chat_template:
        before, after = chat_wrapping(tokenizer, config.system_message, config.chat_template_arguments)
    opening, space = ("x:\n", "") if after[-1:].isspace() else ("x:", " ")
    words = config.positive_answer, config.negative_answer
    question, *answered = plain_ids(tokenizer, [opening, *(opening + space + word for word in words)])
    positive, negative = (ids[len(question) :] if ids[: len(question)] == question else ids for ids in answered)
    if len(positive) != 1 or len(negative) != 1 or positive == negative:
        raise ValueError(
            f"prompt.positive_answer {config.positive_answer!r} and prompt.negative_answer {config.negative_answer!r} "
            f"must be two different tokens of the base LLM, but its tokenizer makes {positive} and {negative} "
            f"of them. Choose two other words, such as Yes and No."
        )
    return PromptFormat(start, before, after, positive[0], negative[0])


def chat_wrapping(tokenizer: Any, system_message: str | None, arguments: dict[str, Any]) -> tuple[str, str]:
    """Return the text that the chat template puts before and after a single user message."""
    if not tokenizer.chat_template:
        raise ValueError(
            "prompt.chat_template is true, but the base LLM's tokenizer has no chat template: "
            "set it to false, or choose a base LLM tuned for chat."
        )
    unread = [name for name in arguments if not re.search(rf"\b{re.escape(name)}\b", tokenizer.get_chat_template())]
    if unread:
        raise ValueError(
            f"prompt.chat_template_arguments names {', '.join(unread)}, which the base LLM's chat template does not "
            "read: correct the name, or leave it out."
        )
    marker = "the-message-of-the-user"
    try:  # a template that came with an LLM may take for ever
        text = call_bounded(lambda: _render_chat(tokenizer, marker, system_message, arguments))
    except TimeoutError as error:
        raise ValueError(f"The base LLM's chat template was stopped: {error}. {OTHER_CHAT_TEMPLATE}") from error
    before, *rest = text.split(marker)
    if len(rest) != 1:
        fault = f"{'repeats' if rest else 'leaves out'} the message of the user"
        raise ValueError(f"The base LLM's chat template {fault}. {OTHER_CHAT_TEMPLATE}")
    return before, rest[0]


def _render_chat(tokenizer: Any, message: str, system_message: str | None, arguments: dict[str, Any]) -> str:
    messages = [] if system_message is None else [{"role": "system", "content": system_message}]
    messages.append({"role": "user", "content": message})
    from transformers.utils import chat_template_utils

    vars(chat_template_utils)["datetime"] = _NoClock  # of this process, a fork that ends with the rendering
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **arguments)
    except TemplateError as error:
        raise ValueError(
            f"The base LLM's chat template refuses prompt.system_message {system_message!r}: {error}. Set it to null."
        ) from error
    except TypeError as error:  # an argument that is given above, too
        raise ValueError(
            f"prompt.chat_template_arguments are {arguments}, which the template refuses: {error}."
        ) from error
    except (ArithmeticError, MemoryError) as error:
        cause = str(error) or type(error).__name__
        raise ValueError(f"The base LLM's chat template fails: {cause.rstrip('.')}. {OTHER_CHAT_TEMPLATE}") from error


class _NoClock:
    """Stands in for datetime where templates are rendered: prompts would differ from run to run."""

    @staticmethod
    def now() -> NoReturn:
        raise ValueError(
            "The base LLM's chat template reads the clock. If it takes a date as an argument, give one in "
            f"prompt.chat_template_arguments, such as {{date_string: 1 Jan 2026}}. {OTHER_CHAT_TEMPLATE}"
        )


def plain_ids(tokenizer: Any, texts: list[str], limit: int | None = None) -> list[list[int]]:
    """Tokenise texts as data, special tokens in them as plain characters; keep at most `limit` tokens of each."""
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"] if texts else []
    return encoded if limit is None else [ids[:limit] for ids in encoded]


class PromptBuilder:
    """Renders and tokenises one prompt per record, within the token budget; the template is compiled once.

    A prompt over the budget loses the oldest events of its history, but never its question.

    ValueError is raised for a budget beyond the base LLM's context, and for a template that is no valid one.
    """

    def __init__(self, tokenizer: Any, template: str, config: PromptConfig, context_tokens: int) -> None:
        require_context(config, context_tokens)
        self._encode = partial(prompt_format(tokenizer, config).encode, tokenizer)
        self._render, self._budget = template_renderer(template, config), config.max_tokens

    def build(self, records: Sequence[ShownQuestion]) -> pl.DataFrame:
        """Return the prompts of records.

        Returns:
            Frame with row, use, label, prompt, token_ids, dropped_history (items left out for the budget),
            shown_history (titles of the others, oldest first), shown_likes (how many of these were liked) and
            retitled_ids (tokens of a test prompt with another one's title, null if these exceed the budget).

        ValueError is raised where the template does not fit a record, or a question alone exceeds the budget.
        """
        texts, token_ids, dropped = fit_budget(self._encode, records, self._render, self._budget)
        histories = [record["history"][left_out:] for record, left_out in zip(records, dropped, strict=True)]
        columns: dict[str, tuple[Any, list[Any]]] = {
            "row": (pl.UInt32, [record["row"] for record in records]),
            "use": (pl.String, [record["use"] for record in records]),
            "label": (pl.Int8, [record["label"] for record in records]),
            "prompt": (pl.String, texts),
            "token_ids": (pl.List(pl.Int32), token_ids),
            "dropped_history": (pl.Int32, dropped),
            "shown_history": (pl.List(pl.String), [[item["title"] for item in history] for history in histories]),
            "shown_likes": (pl.Int32, [sum(item["liked"] for item in history) for history in histories]),
            "retitled_ids": (pl.List(pl.Int32), self._retitled(records, dropped)),
        }
        return pl.DataFrame([pl.Series(name, values, kind) for name, (kind, values) in columns.items()])

    def _retitled(self, records: Sequence[ShownQuestion], dropped: Sequence[int]) -> list[list[int] | None]:
        """Return the tokens of test prompts whose targets exchange their titles at random, and nothing else."""
        test = np.flatnonzero([record["use"] == "test" for record in records])
        pairs = test[np.stack(permuted_rows(len(test), None, seed=0), axis=1)].tolist()
        texts = []
        for own, other in pairs:
            record = records[own].copy()
            record["target"] = record["target"].copy()
            record["target"]["title"] = records[other]["target"]["title"]
            texts.append(self._render(record, dropped[own]))
        retitled: list[list[int] | None] = [None] * len(records)
        for (own, _), ids in zip(pairs, self._encode(texts), strict=True):
            retitled[own] = ids if len(ids) <= self._budget else None
        return retitled


def require_titles(records: Sequence[ShownQuestion], unknown_title: str, config: PromptConfig) -> None:
    """Raise ValueError if more than `config.max_unknown_titles` of the records ask about an item without a title."""
    unknown = sum(record["target"]["title"] == unknown_title for record in records)
    if unknown > config.max_unknown_titles * len(records):
        raise ValueError(
            f"{unknown:,} of {len(records):,} prompts would ask about {unknown_title!r}, because raw_items has no "
            "title for their items: check `ingestion.items.title` and the items without a row in ingestion_report, or "
            "raise `prompt.max_unknown_titles`. Models without an LLM need no titles."
        )


def require_context(config: PromptConfig, context_tokens: int) -> None:
    """Raise ValueError if `config.max_tokens` exceeds the base LLM's context."""
    if config.max_tokens > context_tokens:
        raise ValueError(
            f"prompt.max_tokens is {config.max_tokens}, but the base LLM's context is {context_tokens} tokens: "
            "lower it, or choose a base LLM with a longer context."
        )


def fit_budget(
    encode: Callable[[list[str]], list[Encoded]],
    records: Sequence[Q],
    render: Callable[[Q, int], str],
    budget: int,
    over_budget: str = OVER_TOKENS,
) -> tuple[list[str], list[Encoded], list[int]]:
    """Render prompts within a budget; return texts, encodings, and the number of oldest events left out of each.

    The smallest numbers are found by bisection over all prompts at once, so that long histories take few rounds. For a
    prompt that exceeds the budget without any history, ValueError has the text `over_budget`.
    """
    texts = [render(record, 0) for record in records]
    encoded = encode(texts)
    too_few = {i: 0 for i, encoding in enumerate(encoded) if len(encoding) > budget}
    enough = {i: len(records[i]["history"]) for i in too_few}
    tried = dict(enough)
    while tried:
        shorter = [render(records[i], left_out) for i, left_out in tried.items()]
        for (i, left_out), text, encoding in zip(tried.items(), shorter, encode(shorter), strict=True):
            if len(encoding) <= budget:
                enough[i], texts[i], encoded[i] = left_out, text, encoding
            elif left_out < enough[i]:
                too_few[i] = left_out
            else:
                raise ValueError(over_budget.format(row=records[i]["row"], length=len(encoding), budget=budget))
        tried = {i: (too_few[i] + enough[i]) // 2 for i in tried if enough[i] - too_few[i] > 1}
    return texts, encoded, [enough.get(i, 0) for i in range(len(records))]


def compile_template(template: str, name: str = "prompt") -> Template:
    """Compile a Jinja template in a sandbox, with our filters; raise ValueError for an invalid one."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"without_year": without_year, "columns": declared_columns}
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise ValueError(f"The {name} template is not valid Jinja: {str(error).rstrip('.')}.") from error


def template_renderer(template: str, config: PromptConfig) -> Callable[[ShownQuestion, int], str]:
    """Return a function that renders a record without some oldest events; raise ValueError for unknown names."""
    compiled = compile_template(template)

    def render(record: ShownQuestion, left_out: int) -> str:
        try:
            text = compiled.render(
                user=visible_fields(record["user"], config),
                history=[visible_fields(item, config) for item in record["history"][left_out:]],
                target=visible_fields(record["target"], config),
            )
        except TEMPLATE_ERRORS as error:
            raise ValueError(
                f"The prompt template failed on row {record['row']}: {error}. It may read user, history (each with "
                "title, liked, rating and the item's text fields) and target (title and text fields); this row has "
                f"user ({', '.join(visible_fields(record['user'], config))}) and target "
                f"({', '.join(visible_fields(record['target'], config))})."
            ) from error
        return text.strip()

    return render


def without_year(title: str) -> str:
    """Remove the year in brackets at the end of a title; other brackets stay.

    Examples:
        >>> [without_year(title) for title in ("Heat (1995)", "Roller (Size 1.00 mm) Titanium", "Big (Extended)")]
        ['Heat', 'Roller (Size 1.00 mm) Titanium', 'Big (Extended)']
    """
    return YEAR.sub("", title) or title


def declared_columns(event: Mapping[str, Any]) -> str:
    """Return what the declared columns say of an event of a history, in brackets behind a space, if anything.

    Examples:
        >>> declared_columns({"title": "Heat", "price": 9.5, "sold_by": "web", "columns": ["price", "sold_by"]})
        ' (price 9.5, sold by web)'
        >>> declared_columns({"title": "Heat"})
        ''
    """
    told = ", ".join(f"{name.replace('_', ' ')} {event[name]}" for name in event.get("columns", ()) if name in event)
    return f" ({told})" if told else ""


class ExampleFields(NamedTuple):
    """The fields that a project declares, each with an example."""

    items: dict[str, FieldValue]
    users: dict[str, FieldValue]
    columns: dict[str, FieldValue]  # of the log, which prompts read


def require_template(template: str, config: PromptConfig, fields: ExampleFields) -> None:
    """Raise ValueError for a template that is invalid, or renders no prompt from a record with all fields."""
    record = made_up_record(fields)
    render = template_renderer(template, config)
    for left_out in (0, 2):
        if not render(record, left_out):
            raise ValueError(
                f"The prompt template gives an empty text for a made-up record with {2 - left_out} events in its "
                "history: correct the file that prompt.template names, so that it writes {{ target.title }}."
            )


def made_up_record(fields: ExampleFields) -> ShownQuestion:
    """Return a record with these values of fields, and two events with those of declared columns in its history."""
    item = cast(ShownItem, {"title": "Title (2000)", **fields.items})
    past = cast(ShownEvent, item | {"rating": 5, "liked": True, **fields.columns, "columns": [*fields.columns]})
    history: list[ShownEvent] = [past, {**past, "liked": False}]
    return {"row": "(made up)", "use": "test", "label": 1, "user": fields.users, "history": history, "target": item}


def visible_fields(fields: Mapping[str, object], config: PromptConfig) -> dict[str, object]:
    """Return the fields of a user or an item that prompts may show, with texts cut at the limit of characters."""
    return {
        name: value[: config.max_characters] if isinstance(value, str) else value
        for name, value in fields.items()
        if name not in config.hidden_fields
    }


def prompt_report(prompts: pl.DataFrame) -> list[dict[str, str | float]]:
    """Summarise rows, tokens and shortened prompts by use."""
    tokens = pl.col("token_ids").list.len()
    summary = prompts.group_by("use", maintain_order=True).agg(
        rows=pl.len(),
        mean_tokens=tokens.mean().round(1),
        max_tokens=tokens.max(),
        shortened_prompts=(pl.col("dropped_history") > 0).sum(),
        dropped_history_items=pl.col("dropped_history").sum(),
    )
    return summary.to_dicts()


CPU_SECONDS, SECONDS = 2, 60
MEMORY_BYTES = 2**30
CHARACTERS = 2**20


def call_bounded(function: Callable[[], str]) -> str:
    """Return ``function()``, computed in a fork of this process within bounds.

    A process can be stopped at any point; a thread cannot, nor can Python while it loops in C. TimeoutError is raised
    if it exceeded the time, ValueError with the text of its error, for more characters, or where a system cannot fork.

    Examples:
        >>> call_bounded(lambda: "text")
        'text'
    """
    if not hasattr(os, "fork"):
        raise ValueError(
            "A chat template that came with a model is rendered in a fork of this process, which Windows does not "
            "support: set prompt.chat_template to false."
        )
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            import resource  # which Windows lacks

            signal.alarm(SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
            if psutil.LINUX:  # others do not limit the address space
                limit = psutil.Process().memory_info().vms + MEMORY_BYTES
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                json.dump(_outcome(function), pipe)
        finally:
            os._exit(0)  # skip the parent's exit handlers and buffers
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        outcome = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise TimeoutError(f"it did not end within {CPU_SECONDS} seconds of a CPU, or {SECONDS} in all")
    text, error = json.loads(outcome)
    if text is None:
        raise ValueError(error)
    return text


def _outcome(function: Callable[[], str]) -> tuple[str | None, str | None]:
    try:
        text = function()
    except Exception as error:
        return None, str(error) or type(error).__name__
    return (text, None) if len(text) <= CHARACTERS else (None, f"it is longer than {CHARACTERS} characters")
