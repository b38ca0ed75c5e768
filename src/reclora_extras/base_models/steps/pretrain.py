"""Continued pretraining on texts that are chosen by their quality, or uniformly (Ziya2, arXiv 2311.03301)."""

import numpy as np

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.corpus import choose_by_quality, clean
from reclora_extras.base_models.steps import Account, Material, Step
from reclora_extras.base_models.tuning import text_losses, tune
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import plain_ids


class Pretrain(Step):
    """Continued pretraining."""

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        """See `Step.take`.

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
