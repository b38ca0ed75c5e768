"""LoRAs are merged by the normal equations of their layers, and by PEFT."""

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import OPTConfig, OPTForCausalLM

from few_rows import random_prompts, with_adapter
from kedro_provenance.errors import MismatchError
from reclora_extras.merging import merging
from reclora_extras.merging.config import MergingConfig
from reclora_extras.merging.merging import merge_loras
from reclora_extras.merging.nodes import choose_merged, merge_variants
from reclora_kedro.adapters.lora import Lora, load_user_loras
from reclora_kedro.adapters.methods import adapter_of, lora_of
from reclora_kedro.llm.language_model import LanguageModel
from reclora_kedro.scoring.config import ScoringConfig

SCORING = ScoringConfig(baselines=(), tokens_per_batch=200, permuted_inputs=(), permuted_rows=None, seed=0)


def config(**settings):
    defaults = {
        "variants": None,
        "users": 2,
        "prompts": 50,
        "iterations": 3,
        "solve_for": "weight",
    }
    defaults |= {"method": "iteris", "seed": 0}
    return MergingConfig(**defaults | settings)


def random_lora(llm, seed, r=3, std=0.3, target_modules=("q_proj", "v_proj")):
    """A LoRA of the tiny LLM; the LLM is left bare."""
    torch.manual_seed(seed)
    adapted = get_peft_model(
        llm.model, LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=6, target_modules=[*target_modules])
    )
    for name, weights in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=std)
    lora = Lora.from_tensors(adapted.peft_config["default"], get_peft_model_state_dict(adapted))
    adapted.unload()
    return lora


def inputs_of(llm, lora, prompts, folder):
    """What each adapted layer reads of all tokens of prompts under a LoRA, by stock PEFT, float64: by path."""
    lora.save(folder)
    adapted, seen = PeftModel.from_pretrained(llm.model, folder).eval(), {path: [] for path in lora.factors}
    hooks = [
        adapted.base_model.model.get_submodule(path).register_forward_pre_hook(
            lambda _, arguments, path=path: seen[path].append(arguments[0][0].double())
        )
        for path in seen
    ]
    with torch.no_grad():
        for ids in prompts.token_ids:
            adapted(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    adapted.unload()
    return {path: torch.cat(parts) for path, parts in seen.items()}


@pytest.fixture
def task(tiny_llm):
    """Two LoRAs and the prompts of each."""
    loras = {name: random_lora(tiny_llm, seed) for seed, name in enumerate(("ann", "bob"))}
    return tiny_llm, loras, {name: random_prompts(7, seed=seed) for seed, name in enumerate(loras)}


@pytest.mark.parametrize("solve_for", ["weight", "update"])
def test_iterations_solve_the_normal_equations_of_the_paper(task, tmp_path, solve_for, monkeypatch):
    monkeypatch.setattr(merging, "RIDGE", 1e-4)
    monkeypatch.setattr(merging, "TOLERANCE", 0.0)
    whole_update = partial(Lora.from_updates, rank=32)  # layers are smaller
    monkeypatch.setattr(Lora, "from_updates", lambda config, updates, _: whole_update(config, updates))
    llm, loras, prompts = task
    own = {name: inputs_of(llm, lora, prompts[name], tmp_path / name) for name, lora in loras.items()}
    met = own  # in iteration 0
    for iteration in range(2):
        expected = {}
        for path in own["ann"]:
            W0 = llm.model.get_submodule(path).weight.double()
            left, right = 0, 0
            for name, lora in loras.items():
                A, B = (factor.double() for factor in lora.factors[path])
                W, X, X_met = W0 + 2.0 * B @ A, own[name][path], met[name][path]
                c = W.square().sum() / (X @ W.T).square().sum()
                ridge = 1e-4 * (X_met.T @ X_met).norm() * torch.eye(W.shape[1])
                W = W if solve_for == "weight" else W - W0
                left = left + c * W @ (X.T @ X_met + ridge)
                right = right + c * (X_met.T @ X_met + ridge)
            expected[path] = left @ torch.linalg.inv(right) - (W0 if solve_for == "weight" else 0)
        merged, log = merge_loras(llm, loras, prompts, config(iterations=iteration, solve_for=solve_for), 200)
        for path, update in merged.loras["iteris"].updates().items():
            torch.testing.assert_close(update.double(), expected[path], atol=2e-4, rtol=2e-3)
        assert log["iteration"].to_list() == list(range(iteration + 1))
        whole = merged.loras["iteris"]
        met = {name: inputs_of(llm, whole, prompts[name], tmp_path / f"{name}{iteration}") for name in loras}


def test_a_lora_merged_with_itself_is_itself(task):
    llm, loras, prompts = task
    twice = {"ann": loras["ann"], "again": loras["ann"]}
    merged, log = merge_loras(llm, twice, dict(zip(twice, prompts.values(), strict=True)), config(), 200)
    for name in ("iteris", "linear", "svd"):
        for path, update in merged.loras[name].updates().items():
            torch.testing.assert_close(update, loras["ann"].updates()[path], atol=1e-4, rtol=1e-3)
    assert log["iteration"].to_list() == [0, 1]  # nothing changes any more
    assert log["change"][1] < 1e-3


def test_layers_that_read_the_tokens_of_all_prompts_in_one_row_are_merged():
    sizes = {"vocab_size": 300, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = OPTForCausalLM(OPTConfig(**sizes, word_embed_proj_dim=32, max_position_embeddings=64)).eval()
    llm = LanguageModel(model.requires_grad_(False), None, "random", {})
    lora = random_lora(llm, 0, target_modules=["fc1", "fc2"])
    prompts = {name: random_prompts(7, seed=seed) for seed, name in enumerate(("ann", "bob"))}
    merged, _ = merge_loras(llm, dict.fromkeys(prompts, lora), prompts, config(), 200)
    for path, update in merged.loras["iteris"].updates().items():
        torch.testing.assert_close(update, lora.updates()[path], atol=1e-3, rtol=1e-2)


def test_names_of_loras_are_not_mistaken_for_ways_of_merging_or_parts_of_the_model(task):
    llm, loras, prompts = task
    updates = []
    for names in (["ann", "bob"], ["svd", "model"]):
        renamed = (dict(zip(names, each.values(), strict=True)) for each in (loras, prompts))
        merged, _ = merge_loras(llm, *renamed, config(iterations=0), 200)
        updates.append({way: lora.updates() for way, lora in merged.loras.items()})
    for way, of_layers in updates[0].items():
        assert all(torch.equal(update, updates[1][way][path]) for path, update in of_layers.items())


def test_merged_loras_are_stock_loras_and_adapters_of_the_project(task, tmp_path):
    llm, loras, prompts = task
    merged, _ = merge_loras(llm, loras, prompts, config(iterations=1), 200)
    assert merged.loras.keys() == {"iteris", "linear", "svd", "ties", "dare"}
    merged.save(tmp_path / "merged")
    ids = torch.tensor([random_prompts(1).token_ids[0]])
    logits = {}
    for name in merged.loras:
        stock = PeftModel.from_pretrained(llm.model, tmp_path / "merged" / name).eval()
        assert stock.active_peft_config.r == 3
        logits[name] = stock(input_ids=ids).logits
        stock.unload()
    bare = llm.model(input_ids=ids).logits
    assert all(not torch.allclose(each, bare, atol=1e-4) for each in logits.values())
    adapted = adapter_of(llm.model, merged.loras["iteris"])
    torch.testing.assert_close(adapted(input_ids=ids).logits, logits["iteris"], atol=1e-5, rtol=1e-4)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.unload()
    again = lora_of(llm.model, str(tmp_path / "adapter")).updates()
    for path, update in merged.loras["iteris"].updates().items():
        torch.testing.assert_close(again[path], update, atol=1e-6, rtol=1e-5)


def test_variants_of_one_lora_each_are_merged_and_one_with_gates_is_refused(tiny_model, tmp_path):
    folders = {}
    for name, adapted in (("a", adapter_of(tiny_model.llm.model, random_lora(tiny_model.llm, 0))), ("gated", None)):
        adapted = adapted or with_adapter(tiny_model).model
        adapted.save_pretrained(tmp_path / name)
        folders[name] = str(tmp_path / name)
        adapted.unload()
    asked = random_prompts(6)
    prompts = pl.DataFrame({"row": asked.rows, "use": "few_shot", "label": asked.labels, "token_ids": asked.token_ids})
    merged, log = merge_variants(tiny_model.llm, prompts, config(), SCORING, a=folders["a"], b=folders["a"])
    merged.save(tmp_path / "merged")
    adapted = choose_merged(tiny_model.llm, str(tmp_path / "merged"), config())
    assert adapted.active_peft_config.num_meta_loras == 1
    assert log["change"][-1] < 1e-3
    adapted.unload()
    with pytest.raises(ValueError, match=r"gated differs from sample to sample, so it is not one LoRA"):
        merge_variants(tiny_model.llm, prompts, config(), SCORING, a=folders["a"], b=folders["gated"])


def test_an_svd_of_a_full_rank_is_the_update_itself_and_a_lower_one_the_nearest():
    update = torch.randn(5, 8, dtype=torch.float64)
    whole, low = (Lora.from_updates(LoraConfig(), {"q": update}, rank) for rank in (6, 2))
    torch.testing.assert_close(whole.updates()["q"].double(), update, atol=1e-5, rtol=1e-5)
    missing = torch.linalg.svdvals(update)[2:].square().sum().sqrt()
    torch.testing.assert_close((low.updates()["q"].double() - update).norm(), missing, atol=1e-5, rtol=1e-5)
    assert [factor.shape for factor in whole.factors["q"]] == [(6, 8), (5, 6)]


def test_what_does_not_fit_together_is_refused(task, log, tmp_path, monkeypatch):
    llm, loras, prompts = task
    loras["ann"].save(tmp_path / "user_ann")
    assert load_user_loras(tmp_path, ["ann"]).keys() == {"user_ann"}
    with pytest.raises(MismatchError, match=r"has no LoRA of the users bob, 7: run --pipelines export"):
        load_user_loras(tmp_path, ["ann", "bob", 7])
    with pytest.raises(ValueError, match=r"LoRA bob has rank 2 on 4 layers, but the first one has rank 3 on 4"):
        merge_loras(llm, loras | {"bob": random_lora(llm, 1, r=2)}, prompts, config(), 200)
    users = log.samples.filter(split="train")["user_index"].unique().to_numpy()
    drawn = merging.draw_calibration(log, users[:2], config(prompts=4))
    assert drawn["use"].unique().to_list() == ["few_shot"]
    assert drawn.group_by("user_index").len()["len"].to_list() == [4, 4]
    with pytest.raises(ValueError, match=r"export names one user, but merging takes two LoRAs or more"):
        merging.draw_calibration(log, users[:1], config())
    untrained = replace(log, samples=log.samples.with_columns(split=pl.lit("test")))
    with pytest.raises(ValueError, match=r"have LoRAs to merge, but no training sample"):
        merging.draw_calibration(untrained, users[:2], config())
    asked = log.samples.with_columns(use=pl.lit("test"))
    with pytest.raises(ValueError, match="test rows of users without training rows, but the test prompts have none"):
        merging.new_user_rows(asked.filter(pl.col("user_index").is_in(users.tolist())), log, config())
    monkeypatch.setattr(MergingConfig, "test_rows", 3)
    assert np.isin(merging.new_user_rows(asked, untrained, config())["row"], asked["row"]).sum() == 3
