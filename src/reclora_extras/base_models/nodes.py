"""Nodes of the base model step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from rich.console import Group

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import AS_IT_CAME
from reclora_kedro.evaluation import formats
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import AUC, evaluate_models
from reclora_kedro.evaluation.records import Record, Records
from reclora_kedro.history.log import InteractionLog
from reclora_kedro.llm.prompts import PromptConfig, prompt_format
from reclora_kedro.terminal import text_table

if TYPE_CHECKING:
    from reclora_kedro.llm.language_model import LanguageModel


def prepare_llm(
    base_llm: LanguageModel,
    log_without_embeddings: InteractionLog,
    prompts: pl.DataFrame,
    config: BaseModelConfig,
    prompt_config: PromptConfig,
) -> tuple[LanguageModel, Records, pl.DataFrame]:
    """Prepare the base LLM by the steps; return it, measurements, and scores of the validation prompts."""
    from reclora_extras.base_models import preparing
    from reclora_extras.base_models.material import Material
    from reclora_kedro.llm.prompt_set import prompt_set

    few_shot, validation = (prompt_set(prompts, use) for use in ("few_shot", "validation"))
    descriptions = preparing.draw_descriptions(log_without_embeddings, config.seed)
    answers = prompt_format(base_llm.tokenizer, prompt_config)
    material = Material(descriptions, few_shot, validation, answers)
    llm, measured, scores = preparing.prepare(base_llm, material, config)
    of_rows = prompts.select("row", "label", user="user_index")
    return llm, measured, scores.join(of_rows, on="row", maintain_order="left")


def report_base_model(base_model_steps: Records, base_model_scores: pl.DataFrame, bootstrap: Bootstrap) -> Records:
    """Return the measurements before and after each step, with AUCs, their intervals and confidence.

    Records after a step also have auc_difference, difference_low and difference_high from the untouched LLM, on the
    same draws of users.
    """
    metrics, pairs = evaluate_models(base_model_scores, bootstrap)
    since: dict[str, Record] = {pair["model_a"]: dict(pair) for pair in pairs if pair["model_b"] == AS_IT_CAME}
    return [
        dict(record)
        | {name: of_step[name] for name in ("auc", "auc_low", "auc_high", "confidence")}
        | {"auc_difference": changed.get("auc_difference")}
        | {f"difference_{end}": changed.get(end) for end in ("low", "high")}
        for record, of_step in zip(base_model_steps, metrics, strict=True)
        for changed in [since.get(of_step["model"], {})]
    ]


def base_model_tables(base_model_report: Records) -> Group:
    """A base LLM as it came and after each step: its size and speed, and its AUC."""
    step, level = {"step": (str, "step")}, formats.level(base_model_report[0]["confidence"])
    size = {
        "parameters": (formats.count, "parameters"),
        "seconds": ("{:.0f}".format, "seconds"),
        "perplexity": ("{:.2f}".format, "perplexity"),
        "ms per row": ("{:.1f}".format, "milliseconds_per_row"),
    }
    less = (formats.signed_estimate, "auc_difference", "difference_low", "difference_high")
    auc = {"AUC": (AUC.estimate, "auc", "auc_low", "auc_high"), f"less that of {base_model_report[0]['step']}": less}
    title = f"AUC on validation rows ({level} intervals)"
    return Group(text_table("Base LLM", base_model_report, step, size), text_table(title, base_model_report, step, auc))
