"""Continued pretraining on texts that are chosen by their quality, or uniformly (Ziya2, arXiv 2311.03301)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reclora_extras.base_models.config import BaseModelConfig, StageConfig
from reclora_extras.base_models.steps import Account, Material, Step
from reclora_kedro.llm.prompts import plain_ids

if TYPE_CHECKING:
    from reclora_kedro.llm.language_model import LanguageModel

SAMPLED = 64  # texts by whose mean length the number of texts for a stage's tokens is estimated


class Pretrain(Step):
    """Continued pretraining, in one stage or in several with mixtures of their own."""

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        """See `Step.take`. The account of several stages has those of each, with the perplexities after it."""
        from reclora_extras.base_models.corpus import PROMPTS, perplexities

        corpus, texts = config.corpus, material.corpus.texts
        if corpus.stages is None:
            token_ids, counts = choose_texts(llm, texts, corpus.max_texts, config, config.seed)
            llm, account = read(llm, token_ids, config)
            return llm, {"told": len(texts)} | counts | account
        sources = material.corpus.sources | {PROMPTS: told_prompts(llm, material)}
        stages = []
        for number, stage in enumerate(corpus.stages):
            llm, account = read(llm, mixture(llm, sources, stage, config, config.seed + number), config)
            measured = perplexities(llm, material.corpus, corpus.max_tokens, config.tokens_per_batch)
            stages.append({"stage": number + 1, **account, **measured})
        return llm, {"told": sum(map(len, sources.values())), "stages": stages}


def mixture(
    llm: LanguageModel, sources: dict[str, list[str]], stage: StageConfig, config: BaseModelConfig, seed: int
) -> list[list[int]]:
    """Return the tokens of a stage's texts, whose sources have about their shares of its tokens.

    ValueError is raised for a source without a text, or without one that is good enough.
    """
    token_ids, total = list[list[int]](), sum(stage.shares.values())
    for name, share in stage.shares.items():
        if not share:
            continue
        if not sources[name]:
            raise ValueError(
                f"base_model.corpus.stages names {name}, but each of its texts names a held-out item, or it has none: "
                "lower base_model.corpus.held_out_items, or leave it out."
            )
        places = np.random.default_rng(seed).permutation(len(sources[name]))[:SAMPLED]
        sampled = plain_ids(llm.tokenizer, [sources[name][place] for place in places], config.corpus.max_tokens)
        count = round(stage.tokens * share / total / np.mean([len(ids) for ids in sampled]))
        token_ids += choose_texts(llm, sources[name], max(1, count), config, seed)[0]
    return token_ids


def choose_texts(
    llm: LanguageModel, texts: Sequence[str], limit: int, config: BaseModelConfig, seed: int
) -> tuple[list[list[int]], Account]:
    """Return the tokens of randomly drawn texts, by `config.corpus.selection`, and the number that each filter leaves.

    ValueError is raised if no text is good enough.
    """
    from reclora_extras.base_models.corpus import choose_by_quality, clean

    corpus, tokens = config.corpus, config.tokens_per_batch
    drawn = np.random.default_rng(seed).permutation(len(texts))[: limit * corpus.candidates_per_text]
    chosen, counts = [texts[place] for place in drawn], dict[str, int]()
    if corpus.selection == "quality":
        places, counts = choose_by_quality(llm, chosen, corpus.max_tokens, tokens)
        chosen = [chosen[place] for place in sorted(places)]
        if not chosen:
            advice = "set base_model.corpus.selection to uniform"
            raise ValueError(f"No text to pretrain on is good enough, {counts}: {advice}.")
    return plain_ids(llm.tokenizer, [clean(text) for text in chosen[:limit]], corpus.max_tokens), counts


def read(llm: LanguageModel, token_ids: list[list[int]], config: BaseModelConfig) -> tuple[LanguageModel, Account]:
    """Tune the LLM to read texts; return it, the number of texts and of their tokens, and the account of `tune`."""
    from reclora_extras.base_models.tuning import text_losses, tune

    lengths = np.array([len(ids) for ids in token_ids])
    llm, account = tune(llm, lengths, text_losses(token_ids), config.pretrain, config.tokens_per_batch, config.seed)
    return llm, {"texts": len(token_ids), "tokens": int(lengths.sum())} | account


def told_prompts(llm: LanguageModel, material: Material) -> list[str]:
    """Return the few-shot prompts with their answers as texts, except those that name a held-out item."""
    from reclora_extras.base_models.corpus import without_names

    answers, prompts = material.answers, material.few_shot
    answered = [
        [*ids, answers.positive if label else answers.negative]
        for ids, label in zip(prompts.token_ids, prompts.labels, strict=True)
    ]
    return without_names(llm.tokenizer.batch_decode(answered, skip_special_tokens=True), material.corpus.names)
