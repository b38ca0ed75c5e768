from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from few_rows import random_prompts, with_adapter
from reclora_kedro.evaluation.attribution import permuted_rows
from reclora_kedro.llm.answer_model import AnswerModel
from reclora_kedro.llm.prompt_set import PromptSet
from reclora_kedro.scoring.config import ScoringConfig
from reclora_kedro.scoring.permutation import permuted_scores

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
