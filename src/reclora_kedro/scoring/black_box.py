"""A black box beside other models: hints are searched on validation rows, then test rows are answered with them."""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator
from sklearn.metrics import roc_auc_score

from reclora_kedro.errors import require_both_classes
from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.evaluation.scores import collect_scores
from reclora_kedro.histories.rating_statistics import COLUMNS
from reclora_kedro.llm.chat_api import Answers
from reclora_kedro.llm.prompts import Record, made_up_record
from reclora_kedro.parameters import Block, Count, NonNegative, Seed
from reclora_kedro.scoring.hints import COUNTS, MessageWriter, Options

Ask = Callable[[Sequence[str], str], Answers]
"""From messages, and what the step is called, to their answers."""
BlackBoxModel = Literal["black_box", "black_box_without_hints", "black_box_shuffled_verdict"]
"""With the hints that were found; without any; with these hints, but the verdict of another row: the null control."""
TOKENS_PER_PRICE = 1_000_000
RANDOM_TRIALS = 4  # before those that earlier ones suggest
SUGGESTIONS = 5  # most, for each combination of options: some come more than once


class SearchConfig(Block):
    """What the search for hints may cost."""

    rows: Count | None
    calls: Count


class PriceConfig(Block):
    """What a million tokens costs."""

    prompt: NonNegative
    completion: NonNegative


class BlackBoxConfig(Block):
    """What a black box is asked, and which hints are tried."""

    template: str
    history: str
    max_characters: Count
    nearest: Count
    hints: dict[str, Annotated[tuple[bool | int | float | str, ...], Field(min_length=1)] | None]
    search: SearchConfig
    rows: Count | None
    models: Annotated[tuple[BlackBoxModel, ...], Field(min_length=1)]
    beside: tuple[str, ...]
    price: PriceConfig
    seed: Seed

    @property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """What the search chooses among, by name."""
        return {name: values for name, values in self.hints.items() if values is not None}

    @model_validator(mode="after")
    def _hints_name_templates(self) -> Self:
        if "template" not in self.choices:
            raise ValueError("hints names no template: list files of conf/base/hints under hints.template")
        return self


def draw_rows(questions: pl.DataFrame, rows: int | None, name: str, seed: int) -> pl.DataFrame:
    """Questions, drawn uniformly, in their order; a larger number of rows keeps those of a smaller one.

    Args:
        questions: to draw from.
        rows: how many; None for all.
        name: the parameter that says so, for messages.
        seed: of the draw.

    Raises:
        ValueError: there are fewer, or all that were drawn have one label.
    """
    if rows is not None and rows > questions.height:
        raise ValueError(
            f"black_box.{name} asks for {rows} rows, but there are {questions.height}: ask for at most that many, or "
            "raise history.prompt_rows."
        )
    drawn = questions[np.sort(np.random.default_rng(seed).permutation(questions.height)[:rows])]
    require_both_classes(int(drawn["label"].sum()), drawn.height, f"the draw of black_box.{name}", "Draw more rows.")
    return drawn


def require_hints(
    writer: MessageWriter, config: BlackBoxConfig, item_fields: Sequence[str], user_fields: Sequence[str]
) -> None:
    """Refuse templates of hints that are not there, or that fail on a made-up record with any of the options.

    Raises:
        ValueError: one is, or does.
    """
    if unknown := [name for name in config.choices["template"] if name not in writer.hint_templates]:
        raise ValueError(
            f"black_box.hints.template names {unknown[0]!r}, but conf/base/hints has "
            f"{', '.join(sorted(writer.hint_templates))}: choose among these, or add the file."
        )
    record = made_up_record(item_fields, user_fields)
    statistics = dict.fromkeys(COLUMNS, 0.5) | dict.fromkeys(COUNTS, 12)
    for liked, disliked in ((record["history"], []), ([], record["history"])):
        hint: dict[str, Any] = {"verdict": 0.5, "liked": liked, "disliked": disliked, "statistics": statistics}
        for values in product(*config.choices.values()):
            writer.write([record | {"hint": hint}], dict(zip(config.choices, values, strict=True)))


def search_hints(
    ask: Ask, records: Sequence[Record], writer: MessageWriter, config: BlackBoxConfig
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The options of the hints with the best AUC on validation rows, within a budget of calls.

    Optuna's tree-structured Parzen estimator (Bergstra et al., 2011) suggests options from those before. The budget
    counts distinct messages, kept answers among them, so that a search that is repeated takes the same way.

    Args:
        ask: asks the black box.
        records: of the validation rows, see `hinted_records`.
        writer: writes messages.
        config: options and budget.

    Returns:
        The best options, of equals the first; and a record per trial: the options, auc, and what `cost` says.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the budget is smaller than one trial.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("Hints are searched by Optuna: pip install -e '.[black-box]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    labels, asked, trials = [record["label"] for record in records], set[str](), list[dict[str, Any]]()
    aucs, combinations = dict[tuple[Any, ...], float](), prod(map(len, config.choices.values()))
    for _ in range(SUGGESTIONS * combinations):
        trial = study.ask()
        options = {name: trial.suggest_categorical(name, values) for name, values in config.choices.items()}
        if (values := tuple(options.values())) in aucs:  # suggested again: nothing new, and nothing to pay
            study.tell(trial, aucs[values])
            continue
        messages = writer.write(records, options)
        if len(asked.union(messages)) > config.search.calls:
            break
        asked.update(messages)
        answers = ask(messages, "search hints")
        aucs[values] = auc = float(roc_auc_score(labels, answers.logits))
        study.tell(trial, auc)
        trials.append({"trial": len(trials) + 1, **options, "auc": auc, **cost(answers, config.price)})
    if not trials:
        raise ValueError(
            f"black_box.search.calls is {config.search.calls}, less than one trial takes with {len(records)} rows: "
            "raise it, or lower black_box.search.rows."
        )
    best = max(trials, key=lambda trial: trial["auc"])
    return {name: best[name] for name in config.choices}, trials


def answer_questions(
    ask: Ask, records: Sequence[Record], writer: MessageWriter, options: Options, config: BlackBoxConfig
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Scores of test rows by each of the models, and what they cost.

    Returns:
        Frame with row, model, score (probability of a like), read_from (see `Answers`) and message; and a record per
        model: model, and what `cost` says.
    """
    drawn, others = permuted_rows(len(records), None, config.seed)
    shuffled = list(records)
    for place, other in zip(drawn, others, strict=True):
        shuffled[place] = records[place] | {
            "hint": records[place]["hint"] | {"verdict": records[other]["hint"]["verdict"]}
        }
    said: dict[str, tuple[Sequence[Record], Options | None]] = {
        "black_box": (records, options),
        "black_box_without_hints": (records, None),
        "black_box_shuffled_verdict": (shuffled, options),
    }
    tables, usage = [], []
    for model in config.models:
        messages = writer.write(*said[model])
        answers = ask(messages, model)
        usage.append({"model": model, **cost(answers, config.price)})
        columns = {
            "row": pl.Series([record["row"] for record in records], dtype=pl.UInt32),
            "model": pl.repeat(model, len(records), eager=True),
            "score": 1 / (1 + np.exp(-answers.logits)),
            "read_from": answers.read_from,
            "message": messages,
        }
        tables.append(pl.DataFrame(columns))
    return pl.concat(tables), usage


def scores_beside(
    black_box_scores: pl.DataFrame, scores: pl.DataFrame, questions: pl.DataFrame, models: Sequence[str]
) -> pl.DataFrame:
    """The scores of the black box and, on its rows, of other models, see `collect_scores`.

    Raises:
        ValueError: a model has no scores.
        MismatchError: they are of other rows.
    """
    scored = {str(name): table for (name,), table in scores.partition_by("model", as_dict=True).items()}
    if unknown := [model for model in models if model not in scored]:
        raise ValueError(f"black_box.beside names {unknown[0]!r}, but scores has {', '.join(scored)}: choose of these.")
    own = black_box_scores.partition_by("model", as_dict=True, maintain_order=True)
    tables = {str(name): table for (name,), table in own.items()} | {model: scored[model] for model in models}
    return collect_scores(tables, questions.filter(pl.col("row").is_in(black_box_scores["row"].implode())))


def cost(answers: Answers, price: PriceConfig) -> dict[str, float]:
    """The usage of answers, and the price of all their tokens, whenever they were asked for."""
    tokens = answers.usage["prompt_tokens"] * price.prompt + answers.usage["completion_tokens"] * price.completion
    return answers.usage | {"price": tokens / TOKENS_PER_PRICE}
