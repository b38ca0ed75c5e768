from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from few_rows import GATE_DIM, PROMPT_FORMAT, gate_inputs_of, with_adapter
from reclora_kedro.llm import shared_prefix as candidates
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.attention import PLAIN_MODELS
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.llm.shared_prefix import common_prefix, score_candidates


def random_model(model_type="llama", **settings):
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        model_type,
        **{
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "pad_token_id": 0,
            "initializer_range": 0.3,
            **settings,
        },
    )
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return AnswerModel(LanguageModel(model, None, "tiny", {}), PROMPT_FORMAT)


PLAIN = random_model()
ROUTED = [
    with_adapter(random_model(), composition="product_of_sums"),
    with_adapter(random_model(), composition="sum_of_products", target_modules=["o_proj", "down_proj"]),
]
WITHOUT_GATES = with_adapter(random_model(), num_meta_loras=1, blend="average")
MODELS = [PLAIN, *ROUTED, WITHOUT_GATES]


def random_groups(generator, groups, size, prefix, suffix, one_input):
    """Prompts of several groups in a random order; those of a group share up to `prefix` tokens, maybe gate inputs."""
    token_ids, gate_inputs, group = [], [], []
    for number in range(groups):
        start = generator.integers(3, 300, generator.integers(0, prefix + 1)).tolist()
        gate_input = generator.normal(size=GATE_DIM)
        for _ in range(generator.integers(1, size + 1)):
            token_ids.append(start + generator.integers(3, 300, generator.integers(1, suffix + 1)).tolist())
            gate_inputs.append(gate_input if one_input else generator.normal(size=GATE_DIM))
            group.append(number)
    order = generator.permutation(len(group))
    prompts = PromptSet(
        np.arange(len(group)),
        [token_ids[i] for i in order],
        np.zeros(len(group), dtype=int),
        gate_inputs_of(
            torch.tensor(np.array(gate_inputs)[order], dtype=torch.float32),
            lens_logits=torch.tensor(generator.normal(size=len(group)), dtype=torch.float32),
        ),
    )
    return prompts, np.array(group)[order]


@pytest.fixture
def shared_groups(monkeypatch):
    """Sizes of the groups whose prefix was shared, filled as scoring goes on."""
    sizes, shared = [], candidates._shared_batches

    def counted(model, prompts, rows, *rest):
        sizes.append(len(rows))
        return shared(model, prompts, rows, *rest)

    monkeypatch.setattr(candidates, "_shared_batches", counted)
    return sizes


@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 4),
    size=st.integers(1, 12),
    prefix=st.integers(0, 40),
    suffix=st.integers(1, 20),
    tokens_per_batch=st.sampled_from([1, 60, 200, 10_000]),
    one_input=st.booleans(),
    model=st.integers(0, 3),
)
def test_shared_scores_are_the_unshared_ones(seed, groups, size, prefix, suffix, tokens_per_batch, one_input, model):
    prompts, group = random_groups(np.random.default_rng(seed), groups, size, prefix, suffix, one_input)
    model = MODELS[model]
    if model is PLAIN:
        prompts = replace(prompts, gate_inputs=None)
    expected = model.scores(prompts, 10_000, "")
    scores = score_candidates(model, prompts, group, tokens_per_batch)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected) > 0.01 or len(expected) < 3


@pytest.mark.parametrize("model_type", PLAIN_MODELS)
def test_every_architecture_that_shares_scores_as_it_does_unshared(model_type, shared_groups):
    model = random_model(model_type)
    prompts, group = random_groups(np.random.default_rng(3), 3, 8, 40, 9, one_input=True)
    prompts = replace(prompts, gate_inputs=None)
    expected = model.scores(prompts, 10_000, "")
    np.testing.assert_allclose(score_candidates(model, prompts, group, 150), expected, atol=1e-4)
    assert shared_groups
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [("gemma2", {}), ("gpt_oss", {"num_local_experts": 4}), ("mistral", {"sliding_window": 16})],
)
def test_an_architecture_with_other_attention_is_scored_unshared(model_type, settings, shared_groups):
    model = random_model(model_type, **settings)
    prompts, group = random_groups(np.random.default_rng(3), 3, 8, 40, 9, one_input=True)
    prompts = replace(prompts, gate_inputs=None)
    expected = model.scores(prompts, 10_000, "")
    np.testing.assert_allclose(score_candidates(model, prompts, group, 150), expected, atol=1e-4)
    assert not shared_groups


def test_groups_share_when_it_saves_enough_and_their_gates_read_the_same(shared_groups):
    start = list(range(3, 33))
    token_ids = [[*start, 50, 60 + i] for i in range(5)] + [[*start, 200, 210], [7, 8], [9]]
    gate_inputs = torch.ones(8, GATE_DIM)
    prompts = PromptSet(np.arange(8), token_ids, np.zeros(8), gate_inputs_of(gate_inputs))
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    score_candidates(ROUTED[0], prompts, groups, 100)
    assert shared_groups == [3, 2]  # one prompt alone, or two that share nothing, are left
    gate_inputs[1] = 2
    shared_groups.clear()
    score_candidates(ROUTED[0], prompts, groups, 100)
    assert shared_groups == [2]
    shared_groups.clear()
    score_candidates(WITHOUT_GATES, prompts, groups, 100)
    assert shared_groups == [3, 2]


def test_the_prefix_is_run_once_however_many_batches_there_are(monkeypatch):
    prompts, group = random_groups(np.random.default_rng(5), 1, 12, 40, 9, one_input=True)
    token_ids = [list(range(3, 43)) + ids[-5:] for ids in prompts.token_ids]
    prompts = replace(prompts, token_ids=token_ids, gate_inputs=None)
    runs, packed = [], candidates._packed_states
    monkeypatch.setattr(
        candidates,
        "_packed_states",
        lambda model, s, parts, start: runs.append(start) or packed(model, s, parts, start),
    )
    score_candidates(PLAIN, prompts, group, 15)
    assert runs.count(0) == 1
    assert len(runs) > 3


def test_afterwards_the_llm_is_as_it_was():
    before = PLAIN.model.config._attn_implementation
    prompts, group = random_groups(np.random.default_rng(5), 1, 12, 40, 9, one_input=True)
    score_candidates(PLAIN, replace(prompts, gate_inputs=None), group, 300)
    assert PLAIN.model.config._attn_implementation == before


def test_no_prompts_have_no_scores():
    nothing = PromptSet(np.array([]), [], np.array([]), None)
    assert len(score_candidates(PLAIN, nothing, np.array([]), 100)) == 0


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=2, max_size=6))
def test_a_common_prefix_is_the_longest_and_leaves_a_token(token_ids):
    prefix = common_prefix(token_ids)
    shortest = min(map(len, token_ids))
    assert 0 <= prefix < shortest
    assert len({tuple(ids[:prefix]) for ids in token_ids}) == 1
    assert prefix == shortest - 1 or len({tuple(ids[: prefix + 1]) for ids in token_ids}) > 1
