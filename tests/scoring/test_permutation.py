from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest
import torch

from few_rows import random_prompts, with_adapter
from reclora_kedro.evaluation.attribution import attribute, permuted_rows
from reclora_kedro.evaluation.bootstrap import Bootstrap
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.scoring.config import ScoringConfig
from reclora_kedro.scoring.permutation import permuted_scores, score_with_permuted

CONFIG = ScoringConfig(
    baselines=(), tokens_per_batch=100, permuted_inputs=("prompt", "gate inputs", "lens logit"), permuted_rows=6, seed=2
)


def alone(model, prompts, prompt, gates, lens):
    """The score of one prompt with the gate inputs and the lens's logit of other rows."""
    inputs = prompts.gate_inputs
    mixed = replace(inputs.take([gates]), lens_logits=inputs.lens_logits[[lens]])
    one = PromptSet(prompts.rows[[prompt]], [prompts.token_ids[prompt]], prompts.labels[[prompt]], mixed)
    return model.scores(one, 100, "")[0]


@pytest.mark.parametrize("blend", ["none", "average"])
@pytest.mark.parametrize("num_meta_loras", [1, 3])
def test_one_input_is_that_of_another_row_and_the_others_are_its_own(tiny_model, blend, num_meta_loras):
    model = with_adapter(tiny_model, num_meta_loras=num_meta_loras, blend=blend)
    model.model.eval()
    prompts = random_prompts()
    found = permuted_scores(model, prompts, model.all_llm_logits(prompts, 100, ""), CONFIG)
    drawn = permuted_rows(len(prompts.labels), CONFIG.permuted_rows, CONFIG.seed)
    pairs = list(zip(*drawn, strict=True))
    expected = {"prompt": [(row, alone(model, prompts, other, row, row)) for row, other in pairs]}
    if num_meta_loras > 1:
        expected["gate inputs"] = [(row, alone(model, prompts, row, other, row)) for other, row in pairs]
    if blend != "none":
        expected["lens logit"] = [(row, alone(model, prompts, row, row, other)) for row, other in pairs]
    assert found["input"].unique(maintain_order=True).to_list() == list(expected)
    for name, scored in expected.items():
        part = found.filter(pl.col("input") == name)
        assert part["row"].to_list() == [row for row, _ in scored]
        assert part["label"].to_list() == prompts.labels[[row for row, _ in scored]].tolist()
        np.testing.assert_allclose(part["score"], [score for _, score in scored], atol=1e-5)


def test_what_is_not_asked_for_is_not_permuted_and_needs_no_pass(tiny_model, monkeypatch):
    model, prompts = with_adapter(tiny_model, blend="average"), random_prompts()
    logits = model.all_llm_logits(prompts, 100, "")
    monkeypatch.setattr(AnswerModel, "all_llm_logits", None)
    for inputs in (("lens logit",), ("user",), ()):
        found = permuted_scores(model, prompts, logits, CONFIG.model_copy(update={"permuted_inputs": inputs}))
        assert found["input"].unique().to_list() == [name for name in inputs if name == "lens logit"]
        assert found.columns == ["row", "label", "score", "input"]


def test_permuting_all_rows_does_not_read_them_again_below_the_adapter(tiny_model):
    model, prompts = with_adapter(tiny_model, last_layers=1), random_prompts()
    logits = model.all_llm_logits(prompts, 100, "")
    seen = []
    model.model.get_decoder().layers[0].register_forward_pre_hook(lambda *_: seen.append(1))
    permuted_scores(model, prompts, logits, CONFIG.model_copy(update={"permuted_rows": None}))
    assert not seen
    permuted_scores(model, prompts, logits, CONFIG)
    assert seen


def test_the_llm_without_an_adapter_reads_its_prompt_alone(tiny_model):
    prompts = random_prompts()
    with torch.no_grad():
        logits = tiny_model.all_llm_logits(prompts, 100, "")
    found = permuted_scores(tiny_model, prompts, logits, CONFIG)
    _, others = permuted_rows(len(prompts.labels), CONFIG.permuted_rows, CONFIG.seed)
    assert found["input"].unique().to_list() == ["prompt"]
    np.testing.assert_allclose(found["score"], 1 / (1 + np.exp(-logits[others])))


@dataclass
class Toy:
    """A model whose logit is one of the tokens of a prompt."""

    token: int
    has_gates: bool = False
    blend: str = "none"

    def all_llm_logits(self, prompts, tokens_per_batch, description):
        return np.array([float(ids[self.token]) for ids in prompts.token_ids])

    def probabilities(self, logits, prompts):
        return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("limit", [None, 150])
def test_a_model_that_reads_titles_loses_auc_and_one_that_counts_likes_loses_nothing(limit):
    random = np.random.default_rng(0)
    title, likes = random.normal(size=(2, 300))
    user = np.arange(300) % 40
    prompts = pl.DataFrame({"row": np.arange(300) + 5, "use": "test", "label": (title + likes > 0).astype(np.int8)})
    retitled = np.stack([likes, np.roll(title, 1)], axis=1).tolist()
    retitled[7] = None  # it was over the budget
    prompts = prompts.with_columns(
        token_ids=np.stack([likes, title], axis=1), retitled_ids=pl.Series(retitled, dtype=pl.List(pl.Float64))
    )
    config = CONFIG.model_copy(update={"permuted_inputs": ("title",), "permuted_rows": limit})
    tables = {
        name: score_with_permuted(Toy(token), prompts, None, config) for name, token in (("counts", 0), ("reads", 1))
    }
    scores = pl.concat(
        scored.with_columns(model=pl.lit(name), user=pl.Series(user)) for name, (scored, _) in tables.items()
    )
    bootstrap = Bootstrap(confidence=0.95, seed=0).model_copy(update={"samples": 300})
    counts, reads = attribute(scores, bootstrap, **{name: permuted for name, (_, permuted) in tables.items()})
    assert counts["rows"] == reads["rows"]
    assert (limit or 300) - 1 <= reads["rows"] <= (limit or 299)
    assert [counts[name] for name in ("fall", "low", "high", "within", "within_low", "within_high")] == [0] * 6
    assert 0.1 < reads["low"] < reads["fall"] < reads["high"]
    assert 0 < reads["within_low"] < reads["within"] < reads["within_high"]
    nothing = score_with_permuted(Toy(0), prompts, None, CONFIG.model_copy(update={"permuted_inputs": ()}))[1]
    assert nothing.is_empty()


def test_gates_and_the_logit_of_the_lens_stay_when_titles_are_exchanged(tiny_model):
    model, prompts = with_adapter(tiny_model, blend="average"), random_prompts()
    model.model.eval()
    retitled = replace(prompts, token_ids=[[*ids[:-1], 7] for ids in prompts.token_ids])
    logits = model.all_llm_logits(prompts, 100, "")
    config = CONFIG.model_copy(update={"permuted_inputs": ("title",), "permuted_rows": None})
    found = permuted_scores(model, prompts, logits, config, retitled)
    expected = [alone(model, replace(prompts, token_ids=retitled.token_ids), row, row, row) for row in range(9)]
    assert found["row"].to_list() == list(range(9))
    np.testing.assert_allclose(found["score"], expected, atol=1e-5)
