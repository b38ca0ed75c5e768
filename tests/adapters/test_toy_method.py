"""A method from outside goes the whole way: settings, training, validation, saving, scoring."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from few_rows import gates_decide, training_config, with_model
from installed import installed
from reclora_kedro.adapters import methods, registry
from reclora_kedro.distributed.checkpoints import CheckpointStore
from reclora_kedro.finetuning.config import VariantConfig
from reclora_kedro.finetuning.objectives.click import Clicks
from reclora_kedro.finetuning.training import train_adapter
from reclora_kedro.llm.shared_prefix import score_candidates
from reclora_kedro.scoring.config import ScoringConfig
from reclora_kedro.scoring.permutation import permuted_scores
from toy_method import Scaling, ScalingSettings


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("site"), {}, {registry.METHODS.group: {"scaling": "toy_method"}}):
        yield


def variant(**adapter):
    training = training_config(epochs=8, learning_rate=0.05).model_dump()
    return VariantConfig(history="recent", gate_input="target", blend="average", adapter=adapter, training=training)


def last_token_decides(count, seed):
    """Prompts whose last token tells the label."""
    prompts = gates_decide(count, seed=seed)
    ends = (20 + prompts.labels).tolist()
    return replace(prompts, token_ids=[[*ids, end] for ids, end in zip(prompts.token_ids, ends, strict=True)])


def test_a_variant_names_its_method():
    assert variant(method="scaling", target_modules=["o_proj"]).adapter == ScalingSettings(target_modules=["o_proj"])
    assert variant().adapter.method == "reclora"
    with pytest.raises(ValueError, match=r"adapter\n.*'ia3' is unknown: choose one of (mtl_lora, )?reclora, scaling"):
        variant(method="ia3")
    with pytest.raises(ValueError, match=r"adapter\.num_meta_loras\n.*[Uu]nexpected"):
        variant(method="scaling", num_meta_loras=3)


def test_it_is_trained_validated_saved_and_scored(tiny_model, tmp_path):
    few_shot, validation = last_token_decides(128, 0), last_token_decides(96, 1)
    settings = variant(method="scaling")
    untrained = replace(tiny_model, blend="average").scores(validation, 400, "")
    adapted = methods.new_adapter(tiny_model.model, settings.adapter, few_shot.gate_inputs, seed=0)
    model = replace(with_model(tiny_model, adapted), blend=settings.blend)
    np.testing.assert_allclose(model.scores(validation, 400, ""), untrained, atol=1e-6)  # fresh, it changes nothing
    checkpoints = CheckpointStore(tmp_path / "checkpoints", "this one")
    log = train_adapter(model, Clicks(few_shot), validation, settings.training, checkpoints)
    assert log.columns[-3:] == ["largest_scale", "seconds", "weights"]
    assert log["largest_scale"].drop_nulls().min() > 1
    assert log["train_loss"][-4:].mean() < log["train_loss"][:4].mean()
    assert not model.has_gates

    scores = model.scores(validation, 400, "")
    assert np.abs(scores - untrained).max() > 0.01
    np.testing.assert_allclose(score_candidates(model, validation, np.zeros(96), 400), scores, atol=1e-4)
    config = ScoringConfig(
        baselines=(), tokens_per_batch=400, permuted_inputs=("prompt", "lens logit"), permuted_rows=20, seed=0
    )
    permuted = permuted_scores(model, validation, model.all_llm_logits(validation, 400, ""), config)
    assert permuted["input"].unique().sort().to_list() == ["lens logit", "prompt"]

    adapted.save_pretrained(tmp_path / "adapter")
    loaded = methods.load_adapter(adapted.unload(), str(tmp_path / "adapter"), "user", 3)  # it reads no gate inputs
    assert isinstance(methods.method_of(loaded), Scaling)
    np.testing.assert_array_equal(with_model(model, loaded).scores(validation, 400, ""), scores)
    with pytest.raises(ValueError, match="method 'scaling' are not LoRAs"):
        methods.user_loras(loaded, torch.zeros(1, 6), ["ann"])


def test_workers_load_it(tiny_model):
    prompts = last_token_decides(12, 0)
    adapted = methods.new_adapter(tiny_model.model, ScalingSettings(), prompts.gate_inputs, seed=0)
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "ia3_" in name:
                weights.mul_(1.5)
    model = with_model(tiny_model, adapted.eval())
    np.testing.assert_allclose(
        model.packed().load().scores(prompts, 400, ""), model.scores(prompts, 400, ""), atol=1e-6
    )
