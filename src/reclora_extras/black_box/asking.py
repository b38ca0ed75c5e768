"""Search hints for a black box on validation rows, then ask about test rows with them."""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from kedro_provenance.errors import Parameter
from reclora_extras import install_line
from reclora_extras.black_box.chat_api import Answers
from reclora_extras.black_box.config import BlackBoxConfig, PriceConfig
from reclora_extras.black_box.hints import COUNTS, HintedQuestion, MessageWriter, Options
from reclora_kedro.errors import require_both_classes
from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.evaluation.scores import collect_scores
from reclora_kedro.history.config import HistoryConfig
from reclora_kedro.history.rating_statistics import COLUMNS
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.llm.prompts import ExampleFields, made_up_record

AskApi = Callable[[Sequence[str], str], Answers]  # from messages, and what the step is called, to their answers
TOKENS_PER_PRICE = 1_000_000
RANDOM_TRIALS = 4  # before those that earlier ones suggest
SUGGESTIONS = 5  # most, for each combination of options: some come more than once


def draw_questions(learning: pl.DataFrame, test: pl.DataFrame, config: BlackBoxConfig) -> pl.DataFrame:
    """Draw validation and test questions; more rows include fewer.

    ValueError is raised for fewer rows than the settings ask for, or drawn ones of one label.
    """
    drawn = []
    uses = [(learning.filter(use="validation"), "search.rows", config.search.rows), (test, "rows", config.rows)]
    for questions, name, rows in uses:
        if rows is not None and rows > questions.height:
            raise ValueError(
                f"black_box.{name} requests {rows} rows, but there are {questions.height}: request at most that many, "
                "or raise history.prompt_rows."
            )
        order = np.random.default_rng(config.seed).permutation(questions.height)
        drawn.append(part := questions[np.sort(order[:rows])])
        require_both_classes(int(part["label"].sum()), part.height, Parameter(f"black_box.{name}"), "Draw more rows")
    return pl.concat(drawn)


def window_of(history: HistoryConfig, config: BlackBoxConfig) -> WindowConfig:
    """Return the short history of questions; raise ValueError for an unknown name."""
    if (window := history.short.get(config.history)) is None:
        names = ", ".join(name for name, each in history.short.items() if each)
        raise ValueError(
            f"black_box.history is {config.history!r}, but history.short names {names}: choose one of these."
        )
    return window


def require_hints(writer: MessageWriter, config: BlackBoxConfig, fields: ExampleFields) -> None:
    """Raise ValueError for a template of hints that is missing, or fails on a made-up record with any options."""
    if unknown := [name for name in config.choices["template"] if name not in writer.hint_templates]:
        raise ValueError(
            f"black_box.hints.template names {unknown[0]!r}, but hint_templates has "
            f"{', '.join(sorted(writer.hint_templates))}: choose among these, or let this entry name a folder of yours."
        )
    record = made_up_record(fields)
    statistics = dict.fromkeys(COLUMNS, 0.5) | dict.fromkeys(COUNTS, 12)
    for liked, disliked in ((record["history"], []), ([], record["history"])):
        hint: dict[str, Any] = {"verdict": 0.5, "liked": liked, "disliked": disliked, "statistics": statistics}
        for values in product(*config.choices.values()):
            writer.write([{**record, "hint": hint}], dict(zip(config.choices, values, strict=True)))


def ask(
    ask_api: AskApi, records: Sequence[HintedQuestion], writer: MessageWriter, config: BlackBoxConfig
) -> tuple[list[dict[str, Any]], pl.DataFrame, list[dict[str, Any]]]:
    """Search hints on the validation rows, then answer the test rows with them, without, and with those of other rows.

    It returns the trials, see `search_hints`; a frame with row, model, score (probability of a like) and message; and a
    record per model: model and the fields of `cost`.
    """
    validation, test = ([record for record in records if record["use"] == use] for use in ("validation", "test"))
    trials = search_hints(ask_api, validation, writer, config)
    best = max(trials, key=lambda trial: trial["auc"])
    options = {name: best[name] for name in config.choices}
    requests: dict[str, tuple[list[HintedQuestion], Options | None]] = {
        "black_box": (test, options),
        "black_box_without_hints": (test, None),
        "black_box_shuffled_hint": (with_hints_of_others(test, config.seed), options),
    }
    tables, usage = [], []
    for model, (asked, hints) in requests.items():
        messages = writer.write(asked, hints)
        answers = ask_api(messages, model)
        usage.append({"model": model, **cost(answers, config.price)})
        rows = pl.DataFrame({"row": [record["row"] for record in asked]}, schema={"row": pl.UInt32})
        scores = pl.Series(1 / (1 + np.exp(-answers.logits)))
        tables.append(rows.with_columns(pl.lit(model).alias("model"), score=scores, message=pl.Series(messages)))
    return trials, pl.concat(tables), usage


def with_hints_of_others(records: Sequence[HintedQuestion], seed: int) -> list[HintedQuestion]:
    """Return records with the hint of another one each: the null control."""
    shuffled = list(records)
    for place, other in zip(*permuted_rows(len(records), None, seed), strict=True):
        shuffled[place] = records[place] | {"hint": records[other]["hint"]}
    return shuffled


def search_hints(
    ask_api: AskApi, records: Sequence[HintedQuestion], writer: MessageWriter, config: BlackBoxConfig
) -> list[dict[str, Any]]:
    """Try options of hints on validation rows within a budget of calls; return options, auc and `cost` of each trial.

    Optuna's tree-structured Parzen estimator (Bergstra et al., 2011) suggests options from earlier trials. The budget
    counts distinct messages, kept answers included, so that a repeated search has the same trials. ImportError is
    raised without Optuna, ValueError for a budget smaller than one trial.
    """
    optuna = load_optuna()
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=RANDOM_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    labels, tried, trials = [record["label"] for record in records], set[str](), dict[tuple[Any, ...], dict[str, Any]]()
    for _ in range(SUGGESTIONS * prod(map(len, config.choices.values()))):
        suggested = study.ask()
        options = {name: suggested.suggest_categorical(name, values) for name, values in config.choices.items()}
        if (values := tuple(options.values())) not in trials:  # else it is suggested again
            messages = writer.write(records, options)
            if len(tried.union(messages)) > config.search.calls:
                break
            tried.update(messages)
            answers = ask_api(messages, "search hints")
            auc = float(roc_auc_score(labels, answers.logits))
            trials[values] = {"trial": len(trials) + 1, **options, "auc": auc, **cost(answers, config.price)}
        study.tell(suggested, trials[values]["auc"])
    if not trials:
        raise ValueError(
            f"black_box.search.calls is {config.search.calls}, fewer than one trial takes with {len(records)} rows: "
            "raise it, or lower black_box.search.rows."
        )
    return list(trials.values())


def load_optuna() -> Any:
    """Return Optuna; raise ImportError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError(f"Optuna searches prompts of a black-box LLM: `{install_line('black-box')}`.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def scores_beside(
    black_box_scores: pl.DataFrame, scores: pl.DataFrame, questions: pl.DataFrame, models: Sequence[str]
) -> pl.DataFrame:
    """Return scores of the black box and, on its rows, of other models, see `collect_scores`.

    ValueError is raised for a model without scores, MismatchError for scores of other rows.
    """
    scored = {str(name): table for (name,), table in scores.partition_by("model", as_dict=True).items()}
    if unknown := [model for model in models if model not in scored]:
        raise ValueError(f"black_box.beside names {unknown[0]!r}, but scores has {', '.join(scored)}: choose of those.")
    own = black_box_scores.partition_by("model", as_dict=True, maintain_order=True)
    tables = {str(name): table for (name,), table in own.items()} | {model: scored[model] for model in models}
    return collect_scores(questions.filter(pl.col("row").is_in(black_box_scores["row"].implode())), **tables)


def cost(answers: Answers, price: PriceConfig) -> dict[str, float]:
    """Return the usage of answers, and the price of all their tokens, also of kept ones."""
    tokens = answers.usage["prompt_tokens"] * price.prompt + answers.usage["completion_tokens"] * price.completion
    return answers.usage | {"price": tokens / TOKENS_PER_PRICE}
