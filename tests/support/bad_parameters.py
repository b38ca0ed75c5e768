"""Parameters that a run must refuse, as dotted path, value, and words of the refusal; made from the defaults."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import yaml
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project

from kedro_provenance.check_parameters import FLAGS, check_values, types_of_blocks
from kedro_provenance.parameters import parameter_paths
from named import PARAMETERS
from reclora_kedro.finetuning.config import AdapterContinuationConfig
from reclora_kedro.pipelines.names import source_types
from reclora_kedro.settings import BLOCKS, CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[2]

NULLABLE = {  # of the numbers
    "backtest.likes",
    "service.reload_seconds",
    "ranking.rows",
    "recommendation.validation_likes",
    "scoring.permuted_rows",
    "export.most_active",
    "history.prompt_rows.few_shot",
    "history.prompt_rows.validation",
    "history.prompt_rows.test",
    "finetuning.variants.reclora.adapter.last_layers",
}
SIGNED = {"ingestion.rating_min", "ingestion.rating_max", "ingestion.label_threshold"}
REAL = {  # written as whole numbers
    *SIGNED,
    "engine.cpus_per_worker",
    "engine.gpus_per_worker",
    "lens.statistics_delay",
    "update.promotion.half_life_days",
    "finetuning.variants.reclora.adapter.lora_alpha",
    *(f"service.{event}_seconds" for event in ("reload", "receive", "timeout", "shutdown")),
    "service.deadline_ms",
}
FREE = {  # checked by whoever reads them, or as another one is
    "finetuning.variants.shared_lora",
    "prompt.chat_template_arguments",
    "study.grid",
    "service.journal",
}
NAMED = {  # whose keys are names that the user gives, so that a wrong one is judged by its value
    *(f"ingestion.interactions.{name}" for name in ("columns", "drop", "unknown_ids")),
}
CHOSEN = {f"finetuning.variants.{name}.adapter.method" for name in ("shared_lora", "reclora")}  # or a module's path
SHARES = {  # from 0 up to but without 1
    "backtest.share",
    "bootstrap.confidence",
    "history.split.train",
    "history.split.validation",
    *(f"retriever.{name}" for name in ("dropout", "item_id_dropout")),
    *(f"lens.{name}" for name in ("dropout", "user_id_dropout", "item_id_dropout", "item_text_dropout")),
    "finetuning.variants.reclora.adapter.gate_dropout",
}
RECLORA = "finetuning.variants.reclora"
CLICKS = {"user_id": "u", "item_id": "i", "rating": None, "timestamp": "t", "timestamp_format": "unix_seconds"}
SLATES = {"separator": " ", "clicked": "-1", "not_clicked": "-0"}
MORE = [
    ("history.short.recent.k", 0, "greater than or equal to 1"),
    ("history.short.recent.kind", "latest", "'retrieved' or 'recent'"),
    ("history.short.near", {"kind": "retreived", "k": 8}, "'retrieved' or 'recent'"),
    ("history.prompt_rows", {"unit": "rows", "few_shot": 1, "validation": 1}, "missing"),
    ("history.rating_levels", 257, "less than or equal to 256"),
    ("history.rating_levels", 1, "greater than or equal to 2"),
    ("history.split.train", 0.95, "leaves no rows to test"),
    ("ingestion.k_core", -1, "greater than or equal to 0"),
    ("ingestion.duplicates", "first", "'highest_rating'"),
    ("ingestion.label_threshold", 9, "gives only one class"),
    ("ingestion.label_threshold", 1, "only one class on a scale from 1 to 5"),
    ("ingestion.label_threshold", 5.5, "only one class"),
    ("ingestion.label_threshold", "four", "input should be"),
    ("ingestion.label_threshold", float("nan"), "input should be"),
    ("ingestion.rating_min", float("-inf"), "input should be"),
    ("ingestion.rating_max", float("inf"), "input should be"),
    (
        "ingestion.plausible_times.last_day",
        "1969-12-31",
        "is 1969-12-31, which is before `ingestion.plausible_times.first_day` 1990-01-01",
    ),
    ("ingestion.items.tittle", "name", "is not a parameter. The nearest one is"),
    ("ingestion.items.fields", [{"name": "genres"}], "'genres' needs either"),
    (
        "ingestion.items.fields",
        [{"name": "g", "indicators": ["a"], "separator": "|"}],
        "`separator` and `values` need a `column`",
    ),
    ("ingestion.items.fields", [{"name": "title", "column": "x"}], "'title'"),
    ("ingestion.items.fields", [{"name": "rating", "column": "x"}], "'rating'"),
    ("ingestion.users", {"user_id": "u", "fields": [{"name": "user_id", "column": "u"}]}, "'user_id'"),
    ("ingestion.users", {"user_id": "u", "fields": [{"name": "title", "column": "u"}]}, "'title'"),
    ("ingestion.item_texts", {"item_id": "i", "fields": [{"name": "genres", "column": "d"}]}, "['genres'] occur twice"),
    ("ingestion.interactions.item_id", "user_id", "names the same column as `ingestion.interactions.item_id`"),
    ("ingestion.interactions.timestamp", None, "a column must have the time"),
    ("ingestion.interactions.timestamp_format", "unix", "should match pattern"),
    ("ingestion.interactions.timestamp", ["day", "hour"], "Set it to a strptime format such as"),
    ("ingestion.interactions.drop", {"quantity": {"below": 1}}, "is not a parameter"),
    (
        "ingestion.interactions",
        CLICKS | {"rating": "r", "clicked": "c"},
        "rating excludes `ingestion.interactions.clicked`",
    ),
    (
        "ingestion.interactions",
        CLICKS | {"clicked": "c", "impressions": SLATES},
        "clicked excludes `ingestion.interactions.impressions`",
    ),
    (
        "ingestion.interactions",
        CLICKS | {"rating": "r", "impressions": SLATES},
        "rating excludes `ingestion.interactions.impressions`",
    ),
    (
        "ingestion.interactions",
        CLICKS | {"rating": "r", "click_history": {"column": "h", "separator": " "}},
        "click_history is for logs without",
    ),
    ("ingestion.interactions.impressions", SLATES | {"not_clicked": "1"}, "Choose different ends"),
    ("ingestion.interactions.impressions", {"separator": " ", "clicked": "-1"}, "not_clicked is missing"),
    ("item_encoder.batch_size", 1, "greater than or equal to 2"),
    ("engine.kind", "spark", "'local' or 'ray'"),
    ("lens.batch_parts", 3, "does not divide batch_size 256"),
    ("lens.model", "sims", "choose one of autoint"),
    ("lens.model", "dni", "nearest one is din"),
    ("lens.co_occurrence_folds", True, "a number, not true"),
    ("lens.co_occurrence_folds", 11, "less than or equal to 10"),
    ("lens.retrieved_negatives", True, "a number, not true"),
    ("lens.statistics_delay", -1, "greater than or equal to 0"),
    ("lens.statistics_delay", "soon", "'frozen'"),
    ("backtest.windows", 1, "greater than or equal to 2"),
    ("backtest.share", 0, "greater than 0"),
    ("backtest.days", 0, "greater than 0"),
    ("bootstrap.confidence", 95, "less than 1"),
    ("bootstrap.seed", -1, "greater than or equal to 0"),
    ("item_knn.popularity_powers", [], "at least 1 item"),
    ("linear.recencies", [0.9, 1.1], "less than or equal to 1"),
    ("popularity.days", [0], "greater than 0"),
    ("export.most_active", None, "give at least one id under users, or a number as most_active"),
    ("export.users", [1], "export.most_active is 100: give at least one id"),
    ("export", {"variant": "reclora", "users": [], "most_active": None}, "give at least one id under users"),
    ("export", {"variant": "reclora", "users": [], "most_active": 5}, "give at least one id under users"),
    ("ranking.cutoffs", [10, 10], "10 twice"),
    ("ranking.cutoffs", [0], "greater than or equal to 1"),
    ("ranking.cutoffs", [], "at least 1 item"),
    ("recommendation.shortlist", 5, "keeps 5 candidates of each user: `recommendation.top_n` recommends 10"),
    ("recommendation.method", "linaer", "one of validation, popularity, item_knn, linear, fusion, ranker; the nearest"),
    ("recommendation.method", "retriever", "must be one of validation, popularity, item_knn, linear, fusion, ranker"),
    ("recommendation.sources", [], "at least 1 item"),
    ("recommendation.sources", ["linear", "linear"], "linear twice"),
    ("recommendation.sources", ["item_kn"], "the nearest one is item_knn"),
    ("recommendation.users", [], "at least 1 item"),
    ("study.seeds", [-1], "study.seeds[0] is -1"),
    ("study.models", [], "at least 1 item"),
    (f"{RECLORA}.adapter.top_k", 9, "at most num_meta_loras, 8"),
    (f"{RECLORA}.adapter.target_modules", [], "at least 1 item"),
    (f"{RECLORA}.adapter.num_meta_loras", 0, "greater than"),
    (f"{RECLORA}.training.learning_rate", 2, "less than or equal to 1"),
    (f"{RECLORA}.training.objective.kind", "clicks", "the nearest one is click"),
    (f"{RECLORA}.training.privacy", {"delta": 1.0}, "less than 1"),
    (f"{RECLORA}.training.privacy", {"epsilon": 1.0}, "The nearest one is max_epsilon"),
    (f"{RECLORA}.blend", "prior", "'none' or 'average'"),
    (f"{RECLORA}.adapter.num_loras", 2, "The nearest one is `finetuning.variants.reclora.adapter.num_meta_loras"),
    (f"{RECLORA}.training.epochs", 0, "greater than or equal to 1"),
    (f"{RECLORA}.training.batchsize", 8, "The nearest one is `finetuning.variants.reclora.training.batch_size"),
    (f"{RECLORA}.name", "reclora", "is not a parameter"),
    (f"{RECLORA}.gate_input", "items", "'target', 'user', 'fields' or 'rating_statistics'"),
]

Case = tuple[str, Any, str]


def wrong_values(
    parameters: Mapping[str, Any], parent: str = "", nullable: Set[str] = NULLABLE, shares: Set[str] = SHARES
) -> Iterator[Case]:
    """Values that steps must refuse, for each parameter and for each block."""
    for name, value in sorted(parameters.items()):
        path = f"{parent}{name}"
        if path.startswith("_") or path in FREE:
            continue
        if isinstance(value, Mapping):
            if path not in CONFIG_LOADER_ARGS["named_blocks"] and path not in (
                "finetuning",
                "update",
            ):  # these are read by their blocks
                unknown = "input should be" if path in NAMED else "is not a parameter. The nearest one is"
                yield f"{path}.hidden_dims", 3, unknown
                yield path, [1], "dictionary"
            yield from wrong_values(value, f"{path}.", nullable, shares)
        elif isinstance(value, bool):
            yield from ((path, bad, "should be") for bad in ("perhaps", 3, None))
        elif isinstance(value, int | float):
            texts = ["many", {"of": value}, True, *([] if path in nullable else [None])]
            yield from ((path, bad, "input should be") for bad in (*texts, float("inf"), float("nan")))
            yield from ((path, bad, "input should be") for bad in ([] if path in SIGNED else [-1, -0.5]))
            if path in shares:
                yield path, 1, "less than 1"
            if isinstance(value, int) and path not in REAL:
                yield path, 2**32, "input should be less than"
        elif path.endswith("_day"):
            yield from ((path, bad, "date") for bad in (3.5, "yesterday", {"a": 1}))
        elif path in CHOSEN:
            yield from ((path, bad, "is unknown: choose one of") for bad in (3.5, {"a": 1}))
        elif isinstance(value, str):
            yield from ((path, bad, "should be") for bad in (3.5, {"a": 1}))
        elif isinstance(value, list):
            yield from ((path, bad, "should be a valid") for bad in (3.5, {"a": 1}))


WRITTEN = {name for file in ROOT.glob("conf/base/parameters*.yml") for name in yaml.safe_load(file.read_text())}
DEFAULTS = {name: block for name, block in PARAMETERS.items() if name in WRITTEN}
"""Parameters of conf/base alone, without those of installed packages."""
CASES = [*wrong_values(DEFAULTS), *MORE]


def one_of_each_kind(cases: Iterable[Case]) -> list[Case]:
    """The first case of each step and kind of bad value."""
    kinds = {
        (path.partition(".")[0], words, "block" if isinstance(bad, dict) else repr(bad)): (path, bad, words)
        for path, bad, words in cases
    }
    return list(kinds.values())


def types_of_parameters(parameters: Mapping[str, Any] = PARAMETERS) -> dict[str, type]:
    """What the blocks must be, by path: of all pipelines that parameters make, and of no node."""
    bootstrap_project(ROOT)
    pipelines.set_requested(None)
    types = types_of_blocks(parameters, [source_types])
    return types | FLAGS | BLOCKS | {"update.adapter": AdapterContinuationConfig}  # which no node of conf/base reads


def refusals(path: str, value: Any, types: Mapping[str, type]) -> list[str]:
    """What is said of conf/base with another value of one parameter."""
    parameters = copy.deepcopy(PARAMETERS)
    *parents, name = path.split(".")
    block = parameters
    for parent in parents:
        block = block[parent]
    block[name] = value
    own = {block: expected for block, expected in types.items() if f"{path}.".startswith(f"{block}.")}
    return [*map(str, check_values(parameters, own, list(parameter_paths(PARAMETERS))))]


def is_helpful(lines: list[str], path: str, words: str) -> bool:
    """Whether a line names the parameter and says what was expected."""
    of_its_block = f"{path.rpartition('.')[0]}: "
    return any((path in line or line.startswith(of_its_block)) and words in line for line in lines)
