"""Parameters that a run must refuse, as dotted path, value, and words of the refusal; made from the defaults."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.validation.type_extractor import TypeExtractor

from kedro_provenance.check_parameters import FLAGS, check_values
from kedro_provenance.parameters import parameter_paths
from kedro_provenance.session_parameters import use_parameters
from named import PARAMETERS
from reclora_kedro.finetuning.continuation import AdapterContinuationConfig
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[2]

NULLABLE = {  # of the numbers
    "black_box.rows",
    "black_box.search.rows",
    "ranking.users",
    "service.reload_seconds",
    "retriever.validation_rows",
    "ranking.rows",
    "recommendation.shortlist",
    "recommendation.validation_likes",
    "scoring.permuted_rows",
    "export.most_active",
    "history.prompt_rows.few_shot",
    "history.prompt_rows.validation",
    "history.prompt_rows.test",
    "finetuning.variants.reclora.adapter.last_layers",
    *(f"base_model.{step}.recovery.lora_rank" for step in ("prune", "drop_layers")),
}
SIGNED = {"ingestion.rating_min", "ingestion.rating_max", "ingestion.label_threshold"}
REAL = {  # written as whole numbers
    *SIGNED,
    "engine.cpus_per_worker",
    "engine.gpus_per_worker",
    "lens.statistics_delay",
    "recommendation.pool_days",
    "finetuning.variants.reclora.adapter.lora_alpha",
    *(f"service.{event}_seconds" for event in ("reload", "receive", "timeout", "shutdown", "clock_skew")),
    "service.deadline_ms",
}
FREE = {  # checked by whoever reads them, or as another one is
    "finetuning.variants.shared_lora",
    "prompt.chat_template_arguments",
    "study.grid",
    "service.folder",
}
SHARES = {  # from 0 up to but without 1
    "bootstrap.confidence",
    "history.split.train",
    "history.split.validation",
    *(f"retriever.{name}" for name in ("dropout", "item_id_dropout", "average_decay")),
    *(f"base_model.{name}" for name in ("quality.max_repetition", "corpus.held_out_items", "prune.ratio")),
    *(f"lens.{name}" for name in ("dropout", "user_id_dropout", "item_id_dropout", "item_text_dropout")),
    *(f"finetuning.variants.reclora.{name}" for name in ("adapter.gate_dropout", "training.warmup_ratio")),
}
OBJECTIVE = "finetuning.variants.reclora.training.objective"
MORE = [
    ("history.short.recent.k", 0, "greater than or equal to 1"),
    ("history.short.recent.kind", "latest", "'retrieved' or 'recent'"),
    ("history.rating_levels", {"step": 0}, "rating_levels.step is 0"),
    ("history.rating_levels", 257, "less than or equal to 256"),
    ("history.rating_levels", 1, "greater than or equal to 2"),
    ("history.split.train", 0.95, "leaves no rows to test"),
    ("ingestion.label_threshold", 9, "gives one class only"),
    ("ingestion.interactions.timestamp", None, "a column must say when"),
    ("ingestion.interactions.clicked", "click", "exclude one another"),
    ("item_encoder.batch_size", 1, "greater than or equal to 2"),
    ("item_encoder.validation_pairs", 1, "greater than or equal to 2"),
    ("black_box.models", ["black_box", "black_box"], "name each once"),
    ("base_model.steps", ["quantise"], "'pretrain', 'prune', 'drop_layers' or 'distill'"),
    ("engine.kind", "spark", "'local' or 'ray'"),
    ("lens.batch_parts", 3, "does not divide batch_size 256"),
    ("lens.model", "sims", "choose one of autoint"),
    ("lens.statistics_delay", "soon", "'frozen'"),
    ("ranking.cutoffs", [10, 10], "name each length once"),
    ("recommendation.shortlist", 5, "top_n recommends 10"),
    ("recommendation.users", [], "at least 1 item"),
    ("study.seeds", [-1], "study.seeds[0] is -1"),
    ("study.models", [], "at least 1 item"),
    ("finetuning.variants.reclora.adapter.top_k", 9, "at most num_meta_loras, 8"),
    ("finetuning.variants.reclora.adapter.target_modules", [], "at least 1 item"),
    ("finetuning.variants.reclora.adapter.num_meta_loras", 0, "greater than"),
    ("finetuning.variants.reclora.training.learning_rate", 2, "less than or equal to 1"),
    ("finetuning.variants.reclora.training.swa_ratio", 1.5, "less than or equal to 1"),
    ("finetuning.variants.reclora.training.objective.kind", "clicks", "the nearest one is click"),
    (OBJECTIVE, {"kind": "preference", "references": []}, "at least 1 item"),
    (OBJECTIVE, {"kind": "preference", "references": ["lens", "lens"]}, "names lens twice"),
    (OBJECTIVE, {"kind": "self_generated", "round": 3}, "round is no parameter. The nearest one is rounds"),
    ("finetuning.variants.reclora.training.privacy", {"delta": 1.0}, "less than 1"),
    ("finetuning.variants.reclora.training.privacy", {"epsilon": 1.0}, "The nearest one is max_epsilon"),
    ("finetuning.variants.reclora.gate_input", "items", "'target', 'user', 'fields' or 'rating_statistics'"),
]

Case = tuple[str, Any, str]


def wrong_values(parameters: Mapping[str, Any], parent: str = "") -> Iterator[Case]:
    """Values that steps must refuse, for each parameter of conf/base and for each of its blocks."""
    for name, value in sorted(parameters.items()):
        path = f"{parent}{name}"
        if path.startswith("_") or path in FREE:
            continue
        if isinstance(value, Mapping):
            if path not in CONFIG_LOADER_ARGS["named_blocks"] and path not in (
                "finetuning",
                "update",
            ):  # these are read by their blocks
                yield f"{path}.hidden_dims", 3, "is no parameter. The nearest one is"
                yield path, [1], "dictionary"
            yield from wrong_values(value, f"{path}.")
        elif isinstance(value, bool):
            yield from ((path, bad, "should be") for bad in ("perhaps", 3, None))
        elif isinstance(value, int | float):
            texts = ["many", {"of": value}, True, *([] if path in NULLABLE else [None])]
            yield from ((path, bad, "input should be") for bad in (*texts, float("inf"), float("nan")))
            yield from ((path, bad, "input should be") for bad in ([] if path in SIGNED else [-1, -0.5]))
            if path in SHARES:
                yield path, 1, "less than 1"
            if isinstance(value, int) and path not in REAL:
                yield path, 2**32, "input should be less than"
        elif path.endswith("_day"):
            yield from ((path, bad, "date") for bad in (3.5, "yesterday", {"a": 1}))
        elif isinstance(value, str):
            yield from ((path, bad, "should be") for bad in (3.5, {"a": 1}))
        elif isinstance(value, list):
            yield from ((path, bad, "should be a valid") for bad in (3.5, {"a": 1}))


CASES = [*wrong_values(PARAMETERS), *MORE]


def one_of_each_kind(cases: Iterable[Case]) -> list[Case]:
    """The first case of each step and kind of bad value."""
    kinds = {
        (path.partition(".")[0], words, "block" if isinstance(bad, dict) else repr(bad)): (path, bad, words)
        for path, bad, words in cases
    }
    return list(kinds.values())


# Which no node of conf/base reads.
OTHERS = {"service": ServiceConfig, "update.retriever": bool, "update.adapter": AdapterContinuationConfig}


def types_of_parameters() -> dict[str, type]:
    """What the blocks must be, by path, of all pipelines that conf/base makes, with a teacher; and `OTHERS`."""
    bootstrap_project(ROOT)
    use_parameters(PARAMETERS | {"base_model": PARAMETERS["base_model"] | {"steps": ["distill"], "variant": "reclora"}})
    pipelines.set_requested(None)
    return TypeExtractor(dict(pipelines)).extract_types_from_pipelines() | FLAGS | OTHERS


def refusals(path: str, value: Any, types: Mapping[str, type]) -> list[str]:
    """What is said of conf/base with another value of one parameter."""
    parameters = copy.deepcopy(PARAMETERS)
    *parents, name = path.split(".")
    block = parameters
    for parent in parents:
        block = block[parent]
    block[name] = value
    own = {block: expected for block, expected in types.items() if f"{path}.".startswith(f"{block}.")}
    return list(check_values(parameters, own, list(parameter_paths(PARAMETERS))))


def is_helpful(lines: list[str], path: str, words: str) -> bool:
    """Whether a line names the parameter and says what was expected."""
    of_its_block = f"{path.rpartition('.')[0]}: "
    return any(line.startswith((path, of_its_block)) and words in line for line in lines)
