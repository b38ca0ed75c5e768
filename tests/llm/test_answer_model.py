from dataclasses import replace

import numpy as np
import pytest
import torch

from few_rows import GATE_DIM, PROMPT_FORMAT, load_model, random_prompts, with_adapter
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.distributed.finished import FinishedShards
from reclora_kedro.errors import MismatchError
from reclora_kedro.llm.answer_model import AnswerModel, score_table
from reclora_kedro.llm.batching import pad_right
from reclora_kedro.llm.prompt_set import PromptBatch

YES, NO = PROMPT_FORMAT.positive, PROMPT_FORMAT.negative


def without_gates(prompts):
    return replace(prompts, gate_inputs=None, lens_logits=None, log_counts=None)


@pytest.fixture
def batch():
    return random_prompts().batch(range(9), torch.device("cpu"))


@pytest.fixture
def untrained(tiny_model, batch):
    """Logits of the batch without an adapter."""
    return tiny_model.logits(batch)


def test_the_score_is_the_softmax_of_the_two_answers_at_the_last_position(tiny_model):
    prompts = without_gates(random_prompts())
    for ids, score in zip(prompts.token_ids, tiny_model.scores(prompts, 64, ""), strict=True):
        with torch.no_grad():
            logits = tiny_model.model(torch.tensor([ids])).logits[0, -1]
        assert score == pytest.approx(torch.softmax(logits[[YES, NO]], 0)[0].item(), abs=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 50, 10_000])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"composition": "sum_of_products", "gate_scope": "shared", "lens_in_score": "prior"},
        {"top_k": 2, "lens_in_score": "prior"},
        {"num_meta_loras": 1, "lens_in_score": "prior"},
        {"lens_in_score": "average", "answer_temperature": 3.0},
    ],
    ids=str,
)
def test_padding_and_batching_never_change_a_score(tiny_model, tokens_per_batch, settings):
    model, prompts = with_adapter(tiny_model, **settings), random_prompts()
    alone = [torch.sigmoid(model.logits(prompts.batch([row], model.device))).item() for row in range(9)]
    np.testing.assert_allclose(model.scores(prompts, tokens_per_batch, ""), alone, atol=1e-6)


@pytest.mark.parametrize("N", [1, 3])
def test_a_lens_prior_adds_the_lens_logit_times_its_weight(tiny_model, batch, untrained, N):
    model = with_adapter(tiny_model, std=0, num_meta_loras=N, lens_in_score="prior")
    torch.testing.assert_close(model.logits(batch), untrained + batch.lens_logits)
    torch.nn.init.constant_(model.model.lens_weight, -0.5)
    torch.testing.assert_close(model.logits(batch), untrained - 0.5 * batch.lens_logits)
    with model.model.disable_adapter():
        torch.testing.assert_close(model.logits(batch), untrained)


def test_the_answer_temperature_divides_the_llms_logit_alone(tiny_model, batch, untrained):
    model = with_adapter(tiny_model, std=0, answer_temperature=4.0, lens_in_score="prior")
    torch.testing.assert_close(model.logits(batch), untrained / 4 + batch.lens_logits)
    with model.model.disable_adapter():
        torch.testing.assert_close(model.logits(batch), untrained)


def test_an_average_joins_the_lens_in_scoring_alone(tiny_model, batch, untrained):
    model = with_adapter(tiny_model, num_meta_loras=1, lens_in_score="average")
    model.model.train()
    alone = model.logits(batch)
    assert (alone - untrained).abs().max() > 0.01
    model.model.eval()
    torch.testing.assert_close(model.logits(batch), (alone + batch.lens_logits) / 2)
    with model.model.disable_adapter():
        torch.testing.assert_close(model.logits(batch), untrained)


def test_where_the_llm_says_nothing_a_prior_scores_as_the_lens(tiny_model):
    prompts = random_prompts()
    same = replace(tiny_model, prompt_format=replace(PROMPT_FORMAT, negative=YES))
    scores = with_adapter(same, num_meta_loras=1, lens_in_score="prior").scores(prompts, 100, "")
    np.testing.assert_array_equal(scores, torch.sigmoid(prompts.lens_logits.double()).numpy())


@pytest.mark.parametrize("lens_in_score", ["prior", "average"])
def test_an_adapter_that_reads_the_lens_refuses_prompts_without_its_logits(tiny_model, lens_in_score):
    prompts = replace(random_prompts(), lens_logits=None)
    message = rf"reads the lens's logit .*lens_in_score is {lens_in_score}.* none were given"
    with pytest.raises(ValueError, match=message):
        with_adapter(tiny_model, lens_in_score=lens_in_score).scores(prompts, 100, "")


def test_a_prior_learns_its_weight(tiny_model, batch):
    model = with_adapter(tiny_model, num_meta_loras=1, lens_in_score="prior")
    model.logits(batch).sum().backward()
    torch.testing.assert_close(model.model.lens_weight.grad, batch.lens_logits.sum())


def test_what_stands_in_the_padding_does_not_matter(tiny_model):
    ids, last = pad_right([[5, 6, 7], [8]])
    other = ids.clone()
    other[1, 1:] = 99
    torch.testing.assert_close(*(tiny_model.logits(PromptBatch(padded, last)) for padded in (ids, other)))


def test_losses_are_cross_entropies_and_their_gradients_those_of_the_sum(tiny_model, batch):
    model, labels = with_adapter(tiny_model), torch.arange(9) % 2
    weights = [weights for weights in model.model.parameters() if weights.requires_grad]
    losses, gradients = model.losses_and_gradients(batch, labels, weights, rows=20)
    scores = torch.sigmoid(model.logits(batch).double())
    expected = -torch.where(labels == 1, scores, 1 - scores).log()
    torch.testing.assert_close(losses.double(), expected, atol=1e-6, rtol=1e-5)
    assert not losses.requires_grad
    for found, gradient in zip(gradients, torch.autograd.grad(expected.sum() / 20, weights), strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-4)


def gate_inputs_table(prompts, name="target"):
    return {"row": torch.from_numpy(prompts.rows), "lens_logit": prompts.lens_logits, name: prompts.gate_inputs}


def test_a_saved_adapter_scores_the_same(tiny_model, tmp_path):
    prompts = random_prompts()
    model = with_adapter(tiny_model, lens_in_score="average")
    expected = model.scores(prompts, 100, "")
    model.model.save_pretrained(tmp_path)
    bare = model.with_model(model.model.unload())
    assert bare.adapter is None
    loaded = bare.with_saved_adapter(str(tmp_path), gate_inputs_table(prompts))
    assert (loaded.adapter.has_gates, loaded.prompt_format, loaded.llm.tokenizer) == (
        True,
        PROMPT_FORMAT,
        bare.llm.tokenizer,
    )
    np.testing.assert_array_equal(loaded.scores(prompts, 100, ""), expected)


@pytest.mark.parametrize(("name", "gate_dim"), [("user", GATE_DIM), ("target", GATE_DIM + 1)])
def test_a_saved_adapter_refuses_another_gate_input(tiny_model, tmp_path, name, gate_dim):
    model = with_adapter(tiny_model)
    model.model.save_pretrained(tmp_path)
    table = gate_inputs_table(random_prompts(gate_dim=gate_dim), name)
    message = f"gate input 'target' of width 5, but got '{name}' of width {gate_dim}"
    with pytest.raises(MismatchError, match=message):
        model.with_model(model.model.unload()).with_saved_adapter(str(tmp_path), table)


def test_gate_inputs_of_the_wrong_width_are_refused(tiny_model):
    with pytest.raises(ValueError, match="width 5"):
        with_adapter(tiny_model).scores(random_prompts(gate_dim=4), 100, "")


def test_scores_are_the_same_where_the_memory_suffices_for_two_prompts_only(tiny_model, monkeypatch):
    model, prompts = with_adapter(tiny_model), random_prompts()
    expected, logits = model.scores(prompts, 10_000, ""), AnswerModel.logits

    def little_memory(model, batch):
        if len(batch.last) > 2:
            raise torch.OutOfMemoryError
        return logits(model, batch)

    monkeypatch.setattr(AnswerModel, "logits", little_memory)
    np.testing.assert_allclose(model.scores(prompts, 10_000, ""), expected, atol=1e-6)


@pytest.mark.parametrize("processes", [2, 3, 20])
def test_shares_of_several_processes_are_whole_together(tiny_model, processes):
    model, prompts = with_adapter(tiny_model), random_prompts()
    shares = [model.all_llm_logits(prompts, 64, "", (process, processes)) for process in range(processes)]
    np.testing.assert_allclose(sum(shares), model.all_llm_logits(prompts, 64, ""), atol=1e-6)
    assert all((share > 0).sum() <= -(-9 // processes) for share in shares)


def test_a_stacking_is_fitted_to_the_rows_given_and_saved_with_the_adapter(tiny_model, tiny_llm_folder, tmp_path):
    model, prompts = with_adapter(tiny_model, lens_in_score="stacked"), random_prompts(count=60)
    model.model.eval()
    prompts = replace(prompts, labels=(prompts.lens_logits > 0).long().numpy())
    before = model.scores(prompts, 400, "")
    logits = torch.from_numpy(model.all_llm_logits(prompts, 400, ""))
    np.testing.assert_allclose(before, torch.sigmoid((logits + prompts.lens_logits) / 2), atol=1e-6)
    model.fit_stacking(prompts, 400)
    after = model.scores(prompts, 400, "")
    assert np.mean((after > 0.5) == (prompts.labels == 1)) > 0.9
    model.model.save_pretrained(tmp_path)
    inputs = {"row": torch.arange(60), "lens_logit": prompts.lens_logits, "target": prompts.gate_inputs}
    loaded = load_model(tiny_llm_folder).with_saved_adapter(str(tmp_path), inputs)
    np.testing.assert_array_equal(loaded.scores(prompts, 400, ""), after)


def test_a_table_of_scores_has_a_line_per_prompt():
    prompts = replace(random_prompts(2), rows=np.array([7, 3]), labels=np.array([1, 0]))
    table = score_table(prompts, np.array([0.25, 0.5]))
    assert table.columns == ["row", "label", "score"]
    assert table.rows() == [(7, 1, 0.25), (3, 0, 0.5)]


def test_a_scoring_that_was_interrupted_goes_on_behind_its_finished_shards(tiny_model, tmp_path, monkeypatch):
    prompts, finished = random_prompts(), FinishedShards(tmp_path)
    model = with_adapter(tiny_model)
    expected, logits_of = model.all_llm_logits(prompts, 64, ""), AnswerModel.llm_logits
    in_shards = replace(model, engine=LOCAL.model_copy(update={"rows_per_shard": 2}), finished=finished)
    scored = []

    def ending(self, batch):
        scored.append(len(batch.last))
        if sum(scored) > 4:
            raise KeyboardInterrupt
        return logits_of(self, batch)

    monkeypatch.setattr(AnswerModel, "llm_logits", ending)
    with pytest.raises(KeyboardInterrupt):
        in_shards.all_llm_logits(prompts, 64, "")
    [first, _] = sorted(tmp_path.glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])  # torn: it does not count
    rows = []
    monkeypatch.setattr(
        AnswerModel, "llm_logits", lambda self, batch: (rows.append(len(batch.last)), logits_of(self, batch))[1]
    )
    np.testing.assert_allclose(in_shards.all_llm_logits(prompts, 64, ""), expected, atol=1e-6)
    assert sum(rows) == 7
    other = replace(prompts, gate_inputs=prompts.gate_inputs + 1)
    in_shards.all_llm_logits(other, 64, "")
    assert sum(rows) == 7 + 9
    finished.clear()
    assert not tmp_path.exists()
