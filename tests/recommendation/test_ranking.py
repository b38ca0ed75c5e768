from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from peft import get_peft_model

from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.histories.feedback import STATISTICS, FeedbackLog
from reclora_kedro.histories.retrieval import WindowConfig
from reclora_kedro.histories.sequences import build_sequences
from reclora_kedro.lens.base import build_lens
from reclora_kedro.lens.config import LensConfig, LensSizes
from reclora_kedro.lens.training import rows_of, score_rows
from reclora_kedro.llm import candidates
from reclora_kedro.llm.prompts import PromptConfig, prompt_format
from reclora_kedro.llm.scoring import PromptSet, score_prompts
from reclora_kedro.recommendation import ranking
from reclora_kedro.recommendation.candidates import samples_now
from reclora_kedro.recommendation.ranking import Ranker, rank_candidates

USERS, ITEMS = 5, 12
TEMPLATE = Path(__file__).parents[2].joinpath("conf/base/prompt.jinja").read_text()
PROMPT = PromptConfig(
    chat_template=True,
    system_message="",
    max_tokens=256,
    max_characters=120,
    hidden_fields=(),
    positive_answer="Yes",
    negative_answer="No",
)
ADAPTERS = {
    "one LoRA": {"num_meta_loras": 1},
    "user gates": {"num_meta_loras": 3, "gate_input": "user", "lens_prior": True},
    "target gates": {"num_meta_loras": 3, "gate_input": "target"},
    "feedback gates": {"num_meta_loras": 3, "gate_input": "feedback", "lens_average": True},
}


def lens_config():
    return LensConfig(
        model="din",
        recent_length=6,
        long_history=WindowConfig(kind="recent", k=6),
        embedding_dim=4,
        attention_dim=4,
        hidden_dim=8,
        hidden_layers=1,
        dropout=0.0,
        user_id_dropout=0.0,
        item_id_dropout=0.0,
        field_min_count=1,
        learning_rate=1e-3,
        weight_decay=0.0,
        batch_size=8,
        max_epochs=1,
        patience=1,
        seed=0,
        device="cpu",
    )


def untrained_lens():
    sizes = LensSizes(
        users=USERS,
        user_fields=(),
        user_width=0,
        user_values=0,
        items=ITEMS,
        item_fields=(),
        item_width=0,
        item_values=0,
        rating_levels=5,
    )
    torch.manual_seed(0)
    lens = build_lens(lens_config(), sizes)
    for entity in (lens.user, lens.item):
        entity.id_codes.copy_(torch.arange(1, len(entity.id_codes) + 1))
        torch.nn.init.normal_(entity.ids.weight)
    return lens.freeze()


@pytest.fixture
def ranker_with(tiny_llm):
    """A ranker by the settings of an adapter and the kind of short history."""
    random = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), 7),
            "item_id": np.concatenate([random.permutation(ITEMS)[:7] for _ in range(USERS)]),
            "rating": random.integers(1, 6, USERS * 7).astype(float),
            "timestamp": np.arange(USERS * 7) + 1,
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    items = pl.DataFrame({"item_id": range(ITEMS), "title": [f"Drama Film {i} (1990)" for i in range(ITEMS)]})
    users = pl.DataFrame({"user_id": range(USERS), "gender": ["F", "M", "F", "M", "F"]})
    sequences = build_sequences(log, items, users)

    def build(settings, kind="recent"):
        lens = untrained_lens()
        kind_of_state = settings.get("gate_input", "target")
        lens_dim = len(STATISTICS) if kind_of_state == "feedback" else lens.state_dim(kind_of_state)
        torch.manual_seed(0)
        config = RecLoraConfig(task_type="CAUSAL_LM", lens_dim=lens_dim, **settings)
        model = get_peft_model(tiny_llm.model, config).eval()
        for name, weights in model.named_parameters():
            if "reclora_B" in name:
                torch.nn.init.normal_(weights, std=0.5)
        embeddings = random.normal(size=(ITEMS, 3))
        window = WindowConfig(kind=kind, k=5)
        llm = tiny_llm.with_model(model)
        return Ranker(llm, lens, sequences, embeddings, items, users, window, TEMPLATE, PROMPT, 400)

    return build


def all_pairs():
    user, item = np.divmod(np.arange(USERS * ITEMS), ITEMS)
    return pl.DataFrame(
        {"user_id": user, "user_index": user.astype(np.int32), "item_index": item.astype(np.int32)}
    ).with_columns(item_id=pl.col("item_index").cast(pl.Int64), fallback=pl.lit(False))


def one_by_one(ranker, pairs):
    """Scores by the ordinary path, each pair with the lens's state of its own."""
    samples = samples_now(pairs, ranker.sequences)
    prompts = ranking.build_prompts(ranker.llm.tokenizer, ranker._records(samples), TEMPLATE, PROMPT, 1024)
    rows = rows_of(ranker.lens, samples, ranker.sequences, ranker.item_embeddings)
    states = score_rows(ranker.lens, rows, np.arange(pairs.height))[0]
    states["feedback"] = torch.from_numpy(FeedbackLog(ranker.sequences, ranker.items).statistics(samples))
    kind = ranker.llm.model.active_peft_config.gate_input
    chosen = PromptSet(
        np.arange(pairs.height), prompts["token_ids"].to_list(), np.zeros(pairs.height), states[kind], states["logit"]
    )
    return score_prompts(ranker.llm, prompt_format(ranker.llm.tokenizer, PROMPT), chosen, 400, "")


@pytest.mark.parametrize("kind", ["recent", "retrieved"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_scores_are_those_of_each_pair_alone_and_prefixes_are_shared_where_they_can_be(
    ranker_with, adapter, kind, monkeypatch
):
    shared, unpatched = [], candidates._shared_batches
    monkeypatch.setattr(candidates, "_shared_batches", lambda *rest: shared.append(len(rest[3])) or unpatched(*rest))
    ranker, pairs = ranker_with(ADAPTERS[adapter], kind), all_pairs()
    scores = ranker.score(pairs)["score"].to_numpy()
    np.testing.assert_allclose(scores, one_by_one(ranker, pairs), atol=1e-4)
    assert np.ptp(scores) > 0.001
    if kind == "recent":
        assert shared == ([] if adapter in ("target gates", "feedback gates") else [ITEMS] * USERS)


def test_parts_and_their_size_never_change_what_is_recommended(ranker_with, monkeypatch):
    ranker, pairs = ranker_with(ADAPTERS["user gates"]), all_pairs()
    whole, scored = rank_candidates(ranker, pairs, ranker.items, top_n=4)
    monkeypatch.setattr(ranking, "PAIRS_AT_ONCE", 7)
    parts, _ = rank_candidates(ranker, pairs, ranker.items, top_n=4)
    assert scored == USERS * ITEMS
    assert whole.drop("score").equals(parts.drop("score"))
    np.testing.assert_allclose(whole["score"], parts["score"], atol=1e-4)
    assert whole["user_id"].unique(maintain_order=True).to_list() == list(range(USERS))
    best = pairs.with_columns(score=one_by_one(ranker, pairs)).sort("user_id", "score", descending=[False, True])
    assert whole["item_id"].to_list() == best.group_by("user_id", maintain_order=True).head(4)["item_id"].to_list()


def test_the_shown_history_is_what_the_budget_left_of_it(ranker_with):
    ranker, pairs = ranker_with(ADAPTERS["one LoRA"]), all_pairs()[:1]
    [whole] = ranker.score(pairs)["shown_history"].to_list()
    records = ranker._records(samples_now(pairs, ranker.sequences))
    [tokens] = ranking.build_prompts(ranker.llm.tokenizer, records, TEMPLATE, PROMPT, 1024)["token_ids"].list.len()
    tight = PROMPT.model_copy(update={"max_tokens": tokens - 1})
    [rest] = replace(ranker, prompt_config=tight).score(pairs)["shown_history"].to_list()
    assert len(whole) == 5
    assert 0 < len(rest) < 5
    assert whole[-len(rest) :] == rest
