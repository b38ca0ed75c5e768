from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from few_rows import GATE_DIM, PROMPT_FORMAT, random_prompts, with_adapter
from kedro_provenance.errors import MismatchError
from named import PARAMETERS
from reclora_kedro.distributed.checkpoints import FinishedShards
from reclora_kedro.distributed.engine import LOCAL
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.llm.answer_model import AnswerModel, answering_model
from reclora_kedro.llm.batching import pad_right
from reclora_kedro.llm.prompt_set import PromptBatch
from reclora_kedro.llm.prompts import PromptConfig

PROMPT = PromptConfig(**PARAMETERS["prompt"])
YES, NO = PROMPT_FORMAT.positive, PROMPT_FORMAT.negative


def without_gates(prompts):
    return replace(prompts, gate_inputs=None)


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
        {"composition": "sum_of_products", "gate_scope": "shared"},
        {"top_k": 2},
        {"num_meta_loras": 1},
        {"blend": "average"},
    ],
    ids=str,
)
def test_padding_and_batching_never_change_a_score(tiny_model, tokens_per_batch, settings):
    model, prompts = with_adapter(tiny_model, **settings), random_prompts()
    alone = [torch.sigmoid(model.logits(prompts.batch([row], model.device))).item() for row in range(9)]
    np.testing.assert_allclose(model.scores(prompts, tokens_per_batch, ""), alone, atol=1e-6)


def test_an_average_joins_the_lens_in_scoring_alone(tiny_model, batch, untrained):
    model = with_adapter(tiny_model, num_meta_loras=1, blend="average")
    alone = model.llm_logits(batch)
    assert (alone - untrained).abs().max() > 0.01
    torch.testing.assert_close(model.logits(batch), (alone + batch.gate_inputs.lens_logits) / 2)
    losses = Clicks(random_prompts()).losses(model, batch, np.arange(9))
    labels = torch.from_numpy(random_prompts().labels).float()
    torch.testing.assert_close(losses, binary_cross_entropy_with_logits(alone, labels, reduction="none"))


def test_a_blend_refuses_prompts_without_the_lens_logits(tiny_model):
    message = "blend is average, which reads the lens's logits .* none were given"
    with pytest.raises(ValueError, match=message):
        replace(tiny_model, blend="average").scores(without_gates(random_prompts()), 100, "")


def test_what_stands_in_the_padding_does_not_matter(tiny_model):
    ids, last = pad_right([[5, 6, 7], [8]])
    other = ids.clone()
    other[1, 1:] = 99
    torch.testing.assert_close(*(tiny_model.logits(PromptBatch(padded, last)) for padded in (ids, other)))


def test_a_saved_adapter_scores_the_same(tiny_llm, tmp_path):
    prompts = random_prompts()
    bare = answering_model(tiny_llm, PROMPT, blend="average")
    model = with_adapter(bare, blend="average")
    expected = model.scores(prompts, 100, "")
    model.model.save_pretrained(tmp_path)
    tiny_llm = tiny_llm.with_model(model.model.unload())
    inputs = prompts.gate_inputs
    loaded = answering_model(tiny_llm, PROMPT, adapter=str(tmp_path), gate_inputs=inputs, blend="average")
    assert (loaded.has_gates, loaded.prompt_format) == (True, bare.prompt_format)
    np.testing.assert_array_equal(loaded.scores(prompts, 100, ""), expected)
    own = answering_model(tiny_llm.with_model(loaded.model.unload()), PROMPT, adapter=str(tmp_path))
    mean = (logits(own, prompts) + inputs.lens_logits.numpy()) / 2
    np.testing.assert_allclose(logits(loaded, prompts), mean, atol=1e-6)


def logits(model, prompts):
    scores = model.scores(prompts, 100, "")
    return np.log(scores / (1 - scores))


@pytest.mark.parametrize(("name", "gate_dim"), [("user", GATE_DIM), ("target", GATE_DIM + 1)])
def test_a_saved_adapter_refuses_another_gate_input(tiny_llm, tmp_path, name, gate_dim):
    model = with_adapter(answering_model(tiny_llm, PROMPT))
    model.model.save_pretrained(tmp_path)
    inputs = replace(random_prompts(gate_dim=gate_dim).gate_inputs, name=name)
    message = f"gate input 'target' of width 5, but got '{name}' of width {gate_dim}"
    with pytest.raises(MismatchError, match=message):
        answering_model(tiny_llm.with_model(model.model.unload()), PROMPT, adapter=str(tmp_path), gate_inputs=inputs)


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


def test_a_scoring_that_was_interrupted_goes_on_behind_its_finished_shards(tiny_model, tmp_path, monkeypatch):
    prompts, finished = random_prompts(), FinishedShards(tmp_path, "work")
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
    [first, _] = sorted(tmp_path.glob("work/*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])  # torn: it does not count
    rows = []
    monkeypatch.setattr(
        AnswerModel, "llm_logits", lambda self, batch: (rows.append(len(batch.last)), logits_of(self, batch))[1]
    )
    np.testing.assert_allclose(in_shards.all_llm_logits(prompts, 64, ""), expected, atol=1e-6)
    assert sum(rows) == 7
    inputs = prompts.gate_inputs
    other = replace(prompts, gate_inputs=replace(inputs, values=inputs.values + 1))
    in_shards.all_llm_logits(other, 64, "")
    assert sum(rows) == 7 + 9
    replace(in_shards, finished=FinishedShards(tmp_path, "other work")).all_llm_logits(prompts, 64, "")
    assert sum(rows) == 7 + 9 + 9
