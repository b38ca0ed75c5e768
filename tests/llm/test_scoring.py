from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from peft import get_peft_model

from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.llm import scoring
from reclora_kedro.llm.batching import pad_right
from reclora_kedro.llm.embedding import embed_texts
from reclora_kedro.llm.prompts import PromptFormat
from reclora_kedro.llm.scoring import PromptBatch, PromptSet, answer_logits, collect_scores, prompt_set, score_prompts

FORM = PromptFormat(prefix=[], suffix=[], positive=40, negative=41)


def random_prompts(count=9, lens_dim=5, seed=0):
    generator = np.random.default_rng(seed)
    token_ids = [generator.integers(3, 300, generator.integers(1, 30)).tolist() for _ in range(count)]
    states = torch.from_numpy(generator.normal(size=(count, lens_dim)).astype(np.float32))
    logits = torch.from_numpy(generator.normal(size=count).astype(np.float32))
    return PromptSet(np.arange(count), token_ids, generator.integers(0, 2, count), states, logits)


def with_adapter(llm, lens_dim=5, **settings):
    torch.manual_seed(0)
    config = RecLoraConfig(task_type="CAUSAL_LM", **{"num_meta_loras": 3, "lens_dim": lens_dim, **settings})
    model = get_peft_model(llm.model, config).eval()
    for name, weights in model.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    return llm.with_model(model)


def test_score_is_the_softmax_of_the_two_answers_at_the_last_position(tiny_llm):
    prompts = random_prompts()
    scores = score_prompts(tiny_llm, FORM, PromptSet(prompts.rows, prompts.token_ids, prompts.labels, None), 64, "")
    for ids, score in zip(prompts.token_ids, scores, strict=True):
        with torch.no_grad():
            logits = tiny_llm.model(torch.tensor([ids])).logits[0, -1]
        assert score == pytest.approx(torch.softmax(logits[[40, 41]], 0)[0].item(), abs=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 50, 10_000])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"composition": "sum_of_products", "gate_scope": "shared", "lens_prior": True},
        {"routing": "top_k", "top_k": 2, "lens_prior": True},
        {"num_meta_loras": 1, "lens_prior": True},
    ],
    ids=str,
)
def test_padding_and_batching_never_change_a_score(tiny_llm, tokens_per_batch, settings):
    llm, prompts = with_adapter(tiny_llm, **settings), random_prompts()
    alone = [
        torch.sigmoid(answer_logits(llm, FORM, prompts.batch([row], llm.device))).item()
        for row in range(len(prompts.labels))
    ]
    np.testing.assert_allclose(score_prompts(llm, FORM, prompts, tokens_per_batch, ""), alone, atol=1e-6)


@pytest.mark.parametrize("N", [1, 3])
def test_a_lens_prior_adds_the_lens_logit_times_its_weight(tiny_llm, N):
    prompts = random_prompts()
    batch = prompts.batch(range(9), tiny_llm.device)
    without = answer_logits(tiny_llm, FORM, batch_without_lens(batch))
    llm = with_adapter(tiny_llm, num_meta_loras=N, lens_prior=True)
    for name, weights in llm.model.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.zeros_(weights)
    torch.testing.assert_close(answer_logits(llm, FORM, batch), without + prompts.lens_logits)
    torch.nn.init.constant_(llm.model.lens_weight, -0.5)
    torch.testing.assert_close(answer_logits(llm, FORM, batch), without - 0.5 * prompts.lens_logits)
    with llm.model.disable_adapter():
        torch.testing.assert_close(answer_logits(llm, FORM, batch), without)


def test_the_answer_temperature_divides_the_llms_logit_alone(tiny_llm):
    prompts = random_prompts()
    batch = prompts.batch(range(9), tiny_llm.device)
    settings = {"num_meta_loras": 1, "answer_temperature": 4.0}
    untrained = answer_logits(tiny_llm, FORM, batch_without_lens(batch))
    llm = with_adapter(tiny_llm, **settings, lens_prior=True)
    for name, weights in llm.model.named_parameters():
        if "reclora_B" in name:
            torch.nn.init.zeros_(weights)
    torch.testing.assert_close(answer_logits(llm, FORM, batch), untrained / 4 + prompts.lens_logits)
    with llm.model.disable_adapter():
        torch.testing.assert_close(answer_logits(llm, FORM, batch), untrained)


def test_an_average_joins_the_lens_in_scoring_alone(tiny_llm):
    prompts = random_prompts()
    batch = prompts.batch(range(9), tiny_llm.device)
    untrained = answer_logits(tiny_llm, FORM, batch_without_lens(batch))
    llm = with_adapter(tiny_llm, num_meta_loras=1, lens_average=True)
    alone = answer_logits(llm.with_model(llm.model.train()), FORM, batch)
    assert (alone - untrained).abs().max() > 0.01
    llm.model.eval()
    torch.testing.assert_close(answer_logits(llm, FORM, batch), (alone + prompts.lens_logits) / 2)
    with llm.model.disable_adapter():
        torch.testing.assert_close(answer_logits(llm, FORM, batch), untrained)


def test_where_the_llm_says_nothing_a_prior_scores_as_the_lens(tiny_llm):
    prompts = random_prompts()
    same = PromptFormat(prefix=[], suffix=[], positive=40, negative=40)
    llm = with_adapter(tiny_llm, num_meta_loras=1, lens_prior=True)
    expected = torch.sigmoid(prompts.lens_logits.double()).numpy()
    np.testing.assert_array_equal(score_prompts(llm, same, prompts, 100, ""), expected)


def batch_without_lens(batch):
    return PromptBatch(batch.token_ids, batch.last)


@pytest.mark.parametrize("lens_part", ["lens_prior", "lens_average"])
def test_an_adapter_that_reads_the_lens_refuses_prompts_without_its_logits(tiny_llm, lens_part):
    prompts = replace(random_prompts(), lens_logits=None)
    with pytest.raises(ValueError, match=r"no lens logits.*kedro run --pipelines lens"):
        score_prompts(with_adapter(tiny_llm, **{lens_part: True}), FORM, prompts, 100, "")


def test_a_prior_learns_its_weight(tiny_llm):
    llm = with_adapter(tiny_llm, num_meta_loras=1, lens_prior=True)
    logits = answer_logits(llm, FORM, random_prompts().batch(range(9), llm.device))
    logits.sum().backward()
    torch.testing.assert_close(llm.model.lens_weight.grad, random_prompts().lens_logits.sum())


def test_what_stands_in_the_padding_does_not_matter(tiny_llm):
    ids, last = pad_right([[5, 6, 7], [8]])
    other = ids.clone()
    other[1, 1:] = 99
    logits = [answer_logits(tiny_llm, FORM, PromptBatch(padded, last)) for padded in (ids, other)]
    torch.testing.assert_close(*logits)


def test_a_state_that_the_lens_does_not_have_is_refused_by_name():
    prompts = pl.DataFrame({"row": [1], "use": ["test"], "label": [1], "token_ids": [[5]]})
    states = {"row": torch.tensor([1]), "target": torch.zeros(1, 3), "logit": torch.zeros(1)}
    with pytest.raises(ValueError, match="read the lens state 'user', but the lens has target: change the adapter's"):
        prompt_set(prompts, "test", states, "user")


def test_lens_states_are_matched_by_row(tiny_llm):
    prompts = pl.DataFrame(
        {"row": [5, 3, 8], "use": ["test", "test", "few_shot"], "label": [1, 0, 1], "token_ids": [[1], [2], [3]]}
    )
    states = {"row": torch.tensor([8, 5, 3]), "target": torch.tensor([[8.0], [5.0], [3.0]])}
    chosen = prompt_set(prompts, "test", states, "target")
    assert chosen.lens_states.flatten().tolist() == [5.0, 3.0]
    assert chosen.lens_logits is None
    with_logits = prompt_set(prompts, "test", {**states, "logit": torch.tensor([0.8, 0.5, 0.3])}, "target")
    torch.testing.assert_close(with_logits.lens_logits, torch.tensor([0.5, 0.3]))
    with pytest.raises(ValueError, match=r"1 prompts .* row 3"):
        prompt_set(prompts, "test", {name: tensor[:2] for name, tensor in states.items()}, "target")
    with pytest.raises(ValueError, match=r"no prompts with use 'validation'.*prompt_rows.validation"):
        prompt_set(prompts, "validation", states, "target")


def test_states_of_the_wrong_width_are_refused(tiny_llm):
    prompts = random_prompts(lens_dim=4)
    with pytest.raises(ValueError, match="width 5"):
        score_prompts(with_adapter(tiny_llm), FORM, prompts, 100, "")


def test_scores_of_all_models_are_on_the_same_rows():
    test_rows = pl.DataFrame({"row": [2, 1], "label": [1, 0]})
    lens = pl.DataFrame({"row": [1, 2, 3], "score": [0.1, 0.2, 0.3]})
    llm = pl.DataFrame({"row": [2, 1], "label": [1, 0], "score": [0.8, 0.9]})
    scores = collect_scores({"lens": lens, "reclora": llm}, test_rows)
    assert scores.rows() == [(2, 1, "lens", 0.2), (1, 0, "lens", 0.1), (2, 1, "reclora", 0.8), (1, 0, "reclora", 0.9)]
    with pytest.raises(ValueError, match=r"reclora has no score for 1 of 2 test rows .*row 1"):
        collect_scores({"lens": lens, "reclora": llm[:1]}, test_rows)


def test_embeddings_are_means_of_last_hidden_states_whatever_the_batch(tiny_llm):
    texts = ["Heat", "", "Action Film 3 (1990), a long one", "Heat"]
    embeddings = embed_texts(tiny_llm, texts, max_tokens=8, tokens_per_batch=20)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (4, 32)
    assert not embeddings[1].any()
    np.testing.assert_array_equal(embeddings[0], embeddings[3])
    ids = tiny_llm.tokenizer(texts[2])["input_ids"][:8]
    with torch.no_grad():
        states = tiny_llm.last_hidden_states(torch.tensor([ids]))[0]
    np.testing.assert_allclose(embeddings[2], states.mean(0).numpy(), atol=1e-5)


def test_scores_are_the_same_where_the_memory_suffices_for_two_prompts_only(tiny_llm, monkeypatch):
    llm, prompts = with_adapter(tiny_llm), random_prompts()
    expected = score_prompts(llm, FORM, prompts, 10_000, "")

    def little_memory(llm, form, batch):
        if len(batch.last) > 2:
            raise torch.OutOfMemoryError
        return answer_logits(llm, form, batch)

    monkeypatch.setattr(scoring, "answer_logits", little_memory)
    np.testing.assert_allclose(score_prompts(llm, FORM, prompts, 10_000, ""), expected, atol=1e-6)


@pytest.mark.parametrize("processes", [2, 3, 20])
def test_shares_of_several_processes_are_whole_together(tiny_llm, processes):
    llm, prompts = with_adapter(tiny_llm), random_prompts()
    shares = [score_prompts(llm, FORM, prompts, 64, "", (process, processes)) for process in range(processes)]
    np.testing.assert_allclose(sum(shares), score_prompts(llm, FORM, prompts, 64, ""), atol=1e-6)
    assert all((share > 0).sum() <= -(-9 // processes) for share in shares)
