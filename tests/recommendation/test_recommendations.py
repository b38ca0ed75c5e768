from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from peft import get_peft_model

from named import PARAMETERS
from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.history.questions import CANDIDATE
from reclora_kedro.history.retrieval import WindowConfig
from reclora_kedro.lens.states import gate_inputs, lens_states
from reclora_kedro.llm import shared_prefix as candidates
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptConfig
from reclora_kedro.pipelines.question_nodes import build_prompts
from reclora_kedro.recommendation.delivery import (
    as_lines,
    best_of_shortlists,
    candidate_questions,
    delivery_lines,
    titles_table,
)
from reclora_kedro.scoring.prompt_scores import score_prompts

TEMPLATE = Path(__file__).parents[2].joinpath("conf/base/prompts/sections.jinja").read_text()
HISTORY_EVENTS = 5
PROMPT = PromptConfig(**PARAMETERS["prompt"] | {"chat_template": True})
ADAPTERS = {
    "one LoRA": ("target", {"num_meta_loras": 1}),
    "user gates": ("user", {"num_meta_loras": 3}),
    "target gates": ("target", {"num_meta_loras": 3}),
    "gates of rating statistics": ("rating_statistics", {"num_meta_loras": 3}),
}
BLENDS = {"gates of rating statistics": "average"}


@pytest.fixture
def model_of(tiny_llm):
    """The tiny LLM with a random adapter, by the adapter's name and what its gates will read."""

    def build(adapter, inputs):
        _, settings = ADAPTERS[adapter]
        torch.manual_seed(0)
        config = RecLoraConfig(task_type="CAUSAL_LM", gate_dim=inputs.width, **settings)
        model = get_peft_model(tiny_llm.model, config).eval()
        for name, weights in model.named_parameters():
            if "reclora_B" in name:
                torch.nn.init.normal_(weights, std=0.5)
        return answering_model(tiny_llm.with_model(model), PROMPT, blend=BLENDS.get(adapter, "none"))

    return build


@pytest.fixture
def prompts_of(tiny_llm, log):
    """Prompts of a shortlist, by the kind of short history."""

    def build(shortlist, kind="recent", config=PROMPT):
        questions = candidate_questions(log, shortlist)
        history = log.histories(questions, WindowConfig(kind=kind, k=HISTORY_EVENTS))
        prompts, _ = build_prompts(tiny_llm, TEMPLATE, log, questions, {"events": history}, config, "Unknown title")
        return prompts

    return build


@pytest.fixture
def prompts_and_inputs(prompts_of, lens, log):
    """What an adapter reads of a shortlist, by its name and the kind of short history."""

    def build(shortlist, adapter="user gates", kind="recent"):
        states = lens_states(lens, log, candidate_questions(log, shortlist))
        return prompts_of(shortlist, kind), gate_inputs(states, ADAPTERS[adapter][0])

    return build


def rank(model, shortlist, prompts, inputs, top_n, tokens_per_batch):
    """What is recommended by the scores of a model."""
    scores = score_prompts(model, prompts, inputs, tokens_per_batch)
    return best_of_shortlists(shortlist, prompts.with_columns(score=scores), top_n)


@pytest.mark.parametrize("kind", ["recent", "retrieved"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_scores_are_those_of_each_pair_alone_and_prefixes_are_shared_where_they_can_be(
    model_of, prompts_and_inputs, shortlist, log, adapter, kind, monkeypatch
):
    shared, unpatched = [], candidates._shared_batches
    monkeypatch.setattr(candidates, "_shared_batches", lambda *rest: shared.append(len(rest[2])) or unpatched(*rest))
    prompts, inputs = prompts_and_inputs(shortlist, adapter, kind)
    model = model_of(adapter, inputs)
    ranked = rank(model, shortlist, prompts, inputs, top_n=100, tokens_per_batch=400)
    scores = ranked.sort("user_id", "item_id")["score"].to_numpy()
    np.testing.assert_allclose(scores, model.scores(prompt_set(prompts, CANDIDATE, inputs), 400, ""), atol=1e-4)
    assert np.ptp(scores) > 0.001
    if kind == "recent":
        every_user = [log.items.height] * log.users.height
        assert shared == (every_user if adapter in ("one LoRA", "user gates") else [])


def test_the_best_of_each_user_are_ranked_whatever_the_size_of_a_batch(model_of, prompts_and_inputs, shortlist):
    prompts, inputs = prompts_and_inputs(shortlist)
    model = model_of("user gates", inputs)
    whole, parts = (rank(model, shortlist, prompts, inputs, 4, tokens) for tokens in (4000, 150))
    assert whole.drop("score").equals(parts.drop("score"))
    np.testing.assert_allclose(whole["score"], parts["score"], atol=1e-4)
    scores = model.scores(prompt_set(prompts, CANDIDATE, inputs), 400, "")
    best = shortlist.with_columns(score=scores).sort("user_id", "score", descending=[False, True])
    best = best.group_by("user_id", maintain_order=True).head(4)
    assert whole.select("user_id", "item_id", "title").equals(best.select("user_id", "item_id", "title"))
    assert whole["rank"].to_list() == [1, 2, 3, 4] * 5
    assert not whole["fallback"].any()


def test_the_shown_history_is_what_the_budget_left_of_it(prompts_of, log, shortlist):
    def prompt(config):
        return prompts_of(shortlist[:1], config=config).row(0, named=True)

    whole = prompt(PROMPT)
    tight = prompt(PROMPT.model_copy(update={"max_tokens": len(whole["token_ids"]) - 1}))
    last = log.sequences.item_index[: log.sequences.offsets[1]][-HISTORY_EVENTS:]
    assert whole["shown_history"] == log.items["title"].gather(last).to_list()
    assert 0 < len(tight["shown_history"]) < HISTORY_EVENTS
    assert whole["shown_history"][-len(tight["shown_history"]) :] == tight["shown_history"]


def test_each_candidate_is_asked_about_after_the_last_event(log, shortlist):
    shuffled = shortlist.sample(fraction=1, shuffle=True, seed=1)
    questions = candidate_questions(log, shuffled)
    assert questions["row"].to_list() == list(range(shuffled.height))
    assert questions.select("user_index", "item_index").equals(shuffled.select("user_index", "item_index"))
    assert questions["history_end"].to_list() == log.sequences.offsets[1:][shuffled["user_index"]].tolist()
    assert (questions["timestamp"] == log.sequences.timestamp.max() + 1).all()


def test_pairs_of_a_fallback_are_passed_by_and_keep_their_order(model_of, prompts_and_inputs, shortlist):
    shortlist = shortlist[::-1].filter(pl.col("user_id") > 1)
    mixed = shortlist.with_columns(fallback=pl.col("user_id") == 3)
    prompts, inputs = prompts_and_inputs(mixed)
    model = model_of("user gates", inputs)
    scored = [*range(12), *range(24, 36)]
    assert prompts["row"].to_list() == inputs.rows.tolist() == scored
    ranked = rank(model, mixed, prompts, inputs, top_n=4, tokens_per_batch=400)
    assert ranked["user_id"].to_list() == [4] * 4 + [3] * 4 + [2] * 4
    fallback = ranked.filter("fallback")
    assert fallback["item_id"].to_list() == mixed.filter("fallback")["item_id"].head(4).to_list()
    assert fallback["score"].to_list() == [None] * 4
    assert fallback["shown_history"].to_list() == [[]] * 4
    everyone = rank(model, shortlist, *prompts_and_inputs(shortlist), top_n=4, tokens_per_batch=400)
    assert ranked.filter(~pl.col("fallback")).equals(everyone.filter(pl.col("user_id") != 3))


def test_without_a_model_lists_stay_as_they_are_with_their_scores(shortlist):
    scores = pl.int_range(pl.len(), 0, -1).over("user_id") / 100
    recommended = best_of_shortlists(shortlist.with_columns(score=scores), None, top_n=3)
    assert recommended["item_id"].to_list() == [0, 1, 2] * 5
    assert recommended["score"].to_list() == [0.12, 0.11, 0.1] * 5


def test_reasons_are_one_text_in_a_csv_and_the_table_is_of_a_user_with_a_history(shortlist):
    because = pl.when(pl.col("item_id") == 0).then(pl.lit(["Heat", "Net"])).otherwise(pl.lit([], pl.List(pl.String)))
    mixed = shortlist.with_columns(because=because, fallback=pl.col("user_id") == 0)
    recommended = best_of_shortlists(mixed, None, top_n=2)
    lines = as_lines(recommended)
    assert lines["because"].to_list() == ["Heat; Net", ""] * 5
    assert "shown_history" not in lines.columns
    assert titles_table(recommended).title == "Recommended to user 1"
    fallbacks = recommended.filter("fallback")
    assert titles_table(fallbacks).title == "Recommended to user 0, the most popular items (no history)"
    assert titles_table(recommended.clear()) == "No user has any candidate."


def test_diversity_reorders_what_scores_order_and_shows_none(shortlist, log):
    scored = pl.DataFrame({"row": range(60), "score": np.tile(np.linspace(1, 0, 12), 5)})
    scored = scored.with_columns(shown_history=pl.lit([], pl.List(pl.String)))
    vectors = np.eye(6)[np.arange(12) // 2]
    recommended = best_of_shortlists(shortlist, scored, 3, diversity=0.99, vectors=vectors)
    assert recommended["item_id"].to_list() == [0, 2, 4] * 5
    assert recommended["score"].null_count() == 15


def test_a_run_says_how_lists_are_made_and_how_alike_they_are():
    report = {"users": 1200, "fallbacks": 30, "empty_candidate_sets": 0}
    report |= {"warnings": ["Nearly everyone ..."]}
    alike = {"lists": 1170, "coverage": 0.1234, "first_share": 0.1, "overlap": 0.25, "most_frequent": 0.2}
    text = delivery_lines("fusion", "weighted", "it stays", report | {"concentration": alike})
    assert text.splitlines() == [
        "Lists are made by fusion (weighted): it stays.",
        "1,200 users, of whom 30 without events get the most popular items; their lists hold 12.3% of all items, and "
        "two users share 25% of a list on average.",
        "Nearly everyone ...",
    ]


def test_a_shortlist_of_fallbacks_alone_needs_no_llm(prompts_and_inputs, shortlist):
    fallbacks = shortlist.with_columns(fallback=True)
    prompts, inputs = prompts_and_inputs(fallbacks)
    assert prompts.height == 0
    assert len(inputs.rows) == len(inputs.lens_logits) == len(inputs.values) == 0
    ranked = rank(None, fallbacks, prompts, inputs, top_n=2, tokens_per_batch=400)
    assert ranked["item_id"].to_list() == [0, 1] * 5
    assert ranked.schema == {
        "user_id": pl.Int64,
        "rank": pl.Int32,
        "item_id": pl.Int64,
        "title": pl.String,
        "score": pl.Float64,
        "because": pl.List(pl.String),
        "shown_history": pl.List(pl.String),
        "fallback": pl.Boolean,
    }
