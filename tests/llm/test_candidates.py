from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.llm import candidates
from reclora_kedro.llm.attention import PLAIN_MODELS
from reclora_kedro.llm.candidates import common_prefix, score_candidates
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.llm.scoring import PromptSet, score_prompts

FORM = PromptFormat(prefix=[], suffix=[], positive=40, negative=41)
LENS_DIM = 5


def tiny_model(model_type="llama", **settings):
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
    return LanguageModel(AutoModelForCausalLM.from_config(config).eval().requires_grad_(False), None, "tiny", {})


def with_adapter(llm, **settings):
    config = RecLoraConfig(task_type="CAUSAL_LM", num_meta_loras=3, lens_dim=LENS_DIM, **settings)
    model = get_peft_model(llm.model, config).eval()
    for name, weights in model.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    return llm.with_model(model)


PLAIN = tiny_model()
ADAPTED = [
    with_adapter(tiny_model(), composition="product_of_sums", lens_prior=True),
    with_adapter(tiny_model(), composition="sum_of_products", target_modules=["o_proj", "down_proj"]),
]


def random_groups(generator, groups, size, prefix, suffix, one_state):
    """Prompts of several groups in a random order; those of a group share up to `prefix` tokens and maybe a state."""
    token_ids, states, group = [], [], []
    for number in range(groups):
        start = generator.integers(3, 300, generator.integers(0, prefix + 1)).tolist()
        state = generator.normal(size=LENS_DIM)
        for _ in range(generator.integers(1, size + 1)):
            token_ids.append(start + generator.integers(3, 300, generator.integers(1, suffix + 1)).tolist())
            states.append(state if one_state else generator.normal(size=LENS_DIM))
            group.append(number)
    order = generator.permutation(len(group))
    prompts = PromptSet(
        np.arange(len(group)),
        [token_ids[i] for i in order],
        np.zeros(len(group), dtype=int),
        torch.tensor(np.array(states)[order], dtype=torch.float32),
        torch.tensor(generator.normal(size=len(group)), dtype=torch.float32),
    )
    return prompts, np.array(group)[order]


@pytest.fixture
def shared_groups(monkeypatch):
    """Sizes of the groups whose prefix was shared, filled as scoring goes on."""
    sizes, shared = [], candidates._shared_batches

    def counted(llm, form, prompts, rows, *rest):
        sizes.append(len(rows))
        return shared(llm, form, prompts, rows, *rest)

    monkeypatch.setattr(candidates, "_shared_batches", counted)
    return sizes


@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 4),
    size=st.integers(1, 12),
    prefix=st.integers(0, 40),
    suffix=st.integers(1, 20),
    tokens_per_batch=st.sampled_from([1, 60, 200, 10_000]),
    one_state=st.booleans(),
    model=st.sampled_from([None, 0, 1]),
)
def test_shared_scores_are_the_unshared_ones(seed, groups, size, prefix, suffix, tokens_per_batch, one_state, model):
    prompts, group = random_groups(np.random.default_rng(seed), groups, size, prefix, suffix, one_state)
    if model is None:
        prompts = replace(prompts, lens_states=None)
    llm = PLAIN if model is None else ADAPTED[model]
    expected = score_prompts(llm, FORM, prompts, 10_000, "")
    scores = score_candidates(llm, FORM, prompts, group, tokens_per_batch)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.ptp(expected) > 0.01 or len(expected) < 3


@pytest.mark.parametrize("model_type", PLAIN_MODELS)
def test_every_architecture_that_shares_scores_as_it_does_unshared(model_type, shared_groups):
    llm = tiny_model(model_type)
    prompts, group = random_groups(np.random.default_rng(3), 3, 8, 40, 9, one_state=True)
    prompts = replace(prompts, lens_states=None)
    expected = score_prompts(llm, FORM, prompts, 10_000, "")
    np.testing.assert_allclose(score_candidates(llm, FORM, prompts, group, 150), expected, atol=1e-4)
    assert shared_groups
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [("gemma2", {}), ("gpt_oss", {"num_local_experts": 4}), ("mistral", {"sliding_window": 16})],
)
def test_an_architecture_with_other_attention_is_scored_unshared(model_type, settings, shared_groups):
    llm = tiny_model(model_type, **settings)
    prompts, group = random_groups(np.random.default_rng(3), 3, 8, 40, 9, one_state=True)
    prompts = replace(prompts, lens_states=None)
    expected = score_prompts(llm, FORM, prompts, 10_000, "")
    np.testing.assert_allclose(score_candidates(llm, FORM, prompts, group, 150), expected, atol=1e-4)
    assert not shared_groups


def test_groups_share_when_it_saves_enough_and_their_states_are_one(shared_groups):
    start = list(range(3, 33))
    token_ids = [[*start, 50, 60 + i] for i in range(5)] + [[*start, 200, 210], [7, 8], [9]]
    states = torch.ones(8, LENS_DIM)
    prompts = PromptSet(np.arange(8), token_ids, np.zeros(8), states, torch.zeros(8))
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    score_candidates(ADAPTED[0], FORM, prompts, groups, 100)
    assert shared_groups == [3, 2]  # one prompt alone, or two that share nothing, are left
    states[1] = 2
    shared_groups.clear()
    score_candidates(ADAPTED[0], FORM, prompts, groups, 100)
    assert shared_groups == [2]


def test_the_prefix_is_run_once_however_many_batches_there_are(monkeypatch):
    prompts, group = random_groups(np.random.default_rng(5), 1, 12, 40, 9, one_state=True)
    token_ids = [list(range(3, 43)) + ids[-5:] for ids in prompts.token_ids]
    prompts = replace(prompts, token_ids=token_ids, lens_states=None)
    runs, packed = [], candidates._packed_states
    monkeypatch.setattr(
        candidates, "_packed_states", lambda llm, s, parts, start: runs.append(start) or packed(llm, s, parts, start)
    )
    score_candidates(PLAIN, FORM, prompts, group, 15)
    assert runs.count(0) == 1
    assert len(runs) > 3


def test_afterwards_the_llm_is_as_it_was():
    before = PLAIN.model.config._attn_implementation
    prompts, group = random_groups(np.random.default_rng(5), 1, 12, 40, 9, one_state=True)
    score_candidates(PLAIN, FORM, replace(prompts, lens_states=None), group, 300)
    assert PLAIN.model.config._attn_implementation == before


def test_no_prompts_have_no_scores():
    nothing = PromptSet(np.array([]), [], np.array([]), None)
    assert len(score_candidates(PLAIN, FORM, nothing, np.array([]), 100)) == 0


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=2, max_size=6))
def test_a_common_prefix_is_the_longest_and_leaves_a_token(token_ids):
    prefix = common_prefix(token_ids)
    shortest = min(map(len, token_ids))
    assert 0 <= prefix < shortest
    assert len({tuple(ids[:prefix]) for ids in token_ids}) == 1
    assert prefix == shortest - 1 or len({tuple(ids[: prefix + 1]) for ids in token_ids}) > 1
