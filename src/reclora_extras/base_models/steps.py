"""The steps that turn a base LLM into a prepared one, and what is measured before and after each."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from reclora_extras.base_models import distilling, pruning
from reclora_extras.base_models.config import BaseModelConfig, ImportanceConfig
from reclora_extras.base_models.corpus import Corpus, choose_by_quality, clean
from reclora_extras.base_models.tuning import losses_of_texts, prompt_losses, text_losses, tune, with_weights
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.evaluation.metrics import evaluate_models
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.prompts import PromptFormat, plain_ids

AS_IT_CAME = "as it came"
"""The step of a report before any was taken."""

Account = dict[str, float]
"""Numbers that a step tells of itself, by name."""

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Material:
    """What steps learn from and are measured by.

    Attributes:
        corpus: texts of the training split.
        few_shot: prompts of the training split, to calibrate, recover and distill by.
        validation: prompts of the validation split.
        answers: tokens of the two answers.
        teacher: gives the base LLM with a trained adapter, the same each time; the first may change the LLM in place.
    """

    corpus: Corpus
    few_shot: PromptSet
    validation: PromptSet
    answers: PromptFormat
    teacher: Callable[[], AnswerModel] | None = None


def prepare(
    llm: LanguageModel, material: Material, config: BaseModelConfig
) -> tuple[LanguageModel, Records, pl.DataFrame]:
    """The LLM after the steps of the configuration, one after the other, and what was measured.

    Args:
        llm: the base LLM; a teacher may leave its adapter in it.
        material: what steps learn from and are measured by.
        config: which steps, and their settings.

    Returns:
        The prepared LLM; a record of the LLM as it came and one after each step, see `measure`; and how each of these
        scores the validation prompts: row, model (the step's place and name) and score (probability of a like).

    Raises:
        ValueError: the LLM or the settings are not fit for a step, see `require_steps`.
        FloatingPointError, MemoryError: see `tune`.
    """
    if getattr(llm.model, "is_quantized", False):
        raise ValueError(
            f"{llm.name!r} has quantised weights, which no step of base_model.steps can change: set `quantization` of "
            "the catalog entry `base_llm` to null."
        )
    require_steps(llm, config)
    measured, logits = measure(llm, material, config)
    records, scores = [measured | {"step": AS_IT_CAME, "seconds": 0.0, "account": {}}], {AS_IT_CAME: expit(logits)}
    for place, step in enumerate(config.steps, start=1):
        start = time.perf_counter()
        llm, account = STEPS[step](llm, material, config)
        seconds = time.perf_counter() - start
        measured, logits = measure(llm, material, config)
        records.append(measured | {"step": step, "seconds": seconds, "account": account})
        scores[f"{place}. {step}"] = expit(logits)
    tables = [
        pl.DataFrame({"row": material.validation.rows, "score": of_step}).with_columns(model=pl.lit(name))
        for name, of_step in scores.items()
    ]
    return llm, records, pl.concat(tables)


def report(measured: Records, scores: pl.DataFrame, bootstrap: Bootstrap) -> Records:
    """The records of `prepare` with AUCs.

    Args:
        measured: a record of the LLM as it came and one after each step.
        scores: of the validation prompts by these, in their order: row, user, label, model, score.
        bootstrap: of the intervals.

    Returns:
        Each record with auc, auc_low, auc_high, confidence and, after a step, auc_difference, difference_low and
        difference_high: less the AUC of the LLM as it came, on the same draws of users.

    Raises:
        ValueError: fewer than two users have a like, or fewer than two a dislike.
    """
    metrics, pairs = evaluate_models(scores, bootstrap)
    since = {pair["model_a"]: pair for pair in pairs if pair["model_b"] == AS_IT_CAME}
    return [
        record
        | {name: of_step[name] for name in ("auc", "auc_low", "auc_high", "confidence")}
        | {"auc_difference": changed.get("auc_difference")}
        | {f"difference_{end}": changed.get(end) for end in ("low", "high")}
        for record, of_step in zip(measured, metrics, strict=True)
        for changed in [since.get(of_step["model"], {})]
    ]


def require_steps(llm: LanguageModel, config: BaseModelConfig) -> None:
    """Refuse an LLM, of which the meta device will do, or settings that are not fit for the steps.

    Raises:
        ValueError: layers of the LLM cannot be taken apart, or there are too few of them when a step's turn comes.
    """
    if set(config.steps) != {"pretrain"}:
        pruning.require_prunable(llm.model)
    layers = llm.model.config.get_text_config().num_hidden_layers
    for step in config.steps:
        if step == "drop_layers":
            pruning.require_droppable(layers, config.drop_layers)
            layers -= config.drop_layers.layers
        elif step == "distill":
            distilling.require_layers(layers, config.distill)
            layers = config.distill.layers


def measure(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[dict[str, Any], np.ndarray]:
    """What the LLM is and does: parameters, perplexity and milliseconds_per_row; and its logits of a like, (prompts,).

    The perplexity is of a token of held-out descriptions of items; milliseconds and logits are of Yes or No to the
    validation prompts, without an adapter.
    """
    held_out = [clean(text) for text in material.corpus.held_out]
    token_ids = plain_ids(llm.tokenizer, held_out, config.corpus.max_tokens)
    predicted = np.array([max(0, len(ids) - 1) for ids in token_ids])
    losses = losses_of_texts(llm, token_ids, config.tokens_per_batch)
    model, prompts = AnswerModel(llm, material.answers), material.validation
    logits, milliseconds = answering(model, prompts, config.tokens_per_batch)
    measured = {
        "parameters": sum(weight.numel() for weight in llm.model.parameters()),
        "perplexity": math.exp(min(100, (losses * predicted).sum() / max(1, predicted.sum()))),
        "milliseconds_per_row": milliseconds,
    }
    return measured, logits


def answering(model: AnswerModel, prompts: PromptSet, tokens_per_batch: int) -> tuple[np.ndarray, float]:
    """Logits of a like by prompts, and how many milliseconds each took, with no layer's states remembered."""
    model = replace(model, llm=with_weights(model.llm, model.model))
    start = time.perf_counter()
    logits = model.all_llm_logits(prompts, tokens_per_batch, "measure")
    seconds = time.perf_counter() - start
    return logits, 1000 * seconds / len(logits)


def pretrain(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
    """Continued pretraining on texts that are chosen by their quality, or uniformly (Ziya2, arXiv 2311.03301).

    Raises:
        ValueError: no text is good enough.
    """
    corpus, sources, tokens = config.corpus, material.corpus.texts, config.tokens_per_batch
    drawn = np.random.default_rng(config.seed).permutation(len(sources))[
        : corpus.max_texts * corpus.candidates_per_text
    ]
    texts, counts = [sources[place] for place in drawn], {"told": len(sources)}
    if corpus.selection == "quality":
        places, stages = choose_by_quality(llm, texts, config.quality, corpus.max_tokens, tokens)
        texts, counts = [texts[place] for place in sorted(places)], counts | stages
        if not texts:
            raise ValueError(f"No text to pretrain on is good enough, {stages}: loosen base_model.quality.")
    cleaned = [clean(text) for text in texts[: corpus.max_texts]]
    token_ids = plain_ids(llm.tokenizer, cleaned, corpus.max_tokens)
    lengths = np.array([len(ids) for ids in token_ids])
    counts |= {"texts": len(token_ids), "tokens": int(lengths.sum())}
    llm, account = tune(llm, lengths, text_losses(token_ids), config.pretrain, tokens, config.seed)
    return llm, counts | account


def prune(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
    """Pruning of heads and channels, and a recovery, see `pruning.prune`."""
    return _shrink(pruning.importances, pruning.prune, llm, material, config.prune, config)


def drop_layers(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
    """Dropping of layers, and a recovery, see `pruning.drop_layers`."""
    return _shrink(pruning.layer_importances, pruning.drop_layers, llm, material, config.drop_layers, config)


def _shrink(
    weigh: Callable[..., Any],
    cut: Callable[..., tuple[LanguageModel, Account]],
    llm: LanguageModel,
    material: Material,
    own: ImportanceConfig,
    config: BaseModelConfig,
) -> tuple[LanguageModel, Account]:
    """Cut away what matters least, then tune what is left to read and answer prompts of the training split."""
    prompts, answers, tokens = material.few_shot, material.answers, config.tokens_per_batch
    importance = weigh(llm, prompts, answers, own, tokens, config.seed)
    smaller, account = cut(llm, importance, own)
    losses = prompt_losses(prompts, answers)
    smaller, tuned = tune(smaller, prompts.lengths, losses, own.recovery, tokens, config.seed)
    return smaller, account | tuned


def distill(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
    """Distilling of the teacher into the first layers, see `distilling.distill`; the teacher is measured, too."""
    assert material.teacher is not None
    student = distilling.first_layers(llm, config.distill)  # before the teacher's adapter is put on the same weights
    teacher = material.teacher()
    tokens = config.tokens_per_batch
    student, account = distilling.distill(student, teacher, material.few_shot, config.distill, tokens, config.seed)
    logits, milliseconds = answering(teacher, material.validation, tokens)
    auc = float(roc_auc_score(material.validation.labels, logits))
    return student, account | {"teacher_auc": auc, "teacher_milliseconds_per_row": milliseconds}


STEPS = {"pretrain": pretrain, "prune": prune, "drop_layers": drop_layers, "distill": distill}
"""By the name that ``base_model.steps`` takes."""
