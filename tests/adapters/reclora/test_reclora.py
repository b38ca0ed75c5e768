"""The personalized LoRA against plain float64 references, PEFT's own LoRA, and the invariances it must keep."""

import itertools
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.hotswap import hotswap_adapter

from random_llama import random_llama, with_random_adapter
from reclora_kedro.adapters.reclora import RecLoraConfig, RecLoraLayer
from reclora_kedro.adapters.reclora.model import GateBank, gate_entropy, mixed_factors
from reclora_kedro.adapters.tuner import AdaptedLinear, update

GATE_DIM = 6


def personalized(composition="product_of_sums", seed=1, **settings):
    llm = random_llama(2)
    torch.manual_seed(seed)
    settings = {"gate_dim": GATE_DIM, "r": 3, "lora_alpha": 6, "composition": composition, **settings}
    return with_random_adapter(llm, 0.3, **settings)


def inputs(batch=4, tokens=7, seed=2):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 64, (batch, tokens), generator=generator)
    return ids, torch.randn(batch, GATE_DIM, generator=generator)


def logits(model, ids, gate_inputs=None):
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), gate_inputs=gate_inputs).logits


def personalized_update(x, A, B, weights, composition, scaling):
    return update(x, *mixed_factors(A, B, weights, composition, scaling, x.dtype))


def reference_update(x, A, B, weights, composition, scaling):
    """Sample by sample, with every matrix formed, in float64."""
    N = A.shape[0]
    out = torch.empty(*x.shape[:-1], B.shape[0], dtype=torch.float64)
    for i, sample in enumerate(x.double()):
        alpha = weights[i].double() if weights is not None else torch.ones(N, dtype=torch.float64)
        if composition == "product_of_sums":
            mixed_A = sum(alpha[k] * A[k].double() for k in range(N))
            mixed_B = sum(alpha[k] * B[:, k].double() for k in range(N))
            delta = mixed_B @ mixed_A
        else:
            delta = sum(alpha[k] * B[:, k].double() @ A[k].double() for k in range(N))
        out[i] = scaling * sample @ delta.T
    return out


def random_parts(N, batch=2):
    """A, B and weights of a small layer, 4 to 5, in float64."""
    torch.manual_seed(N)
    A, B = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((N, 2, 4), (5, N, 2)))
    return A, B, torch.rand(batch, N, dtype=torch.float64, requires_grad=True) if N > 1 else None


@pytest.mark.parametrize("composition", ["product_of_sums", "sum_of_products"])
@pytest.mark.parametrize("N", [1, 2, 5])
@pytest.mark.parametrize("shape", [(4, 7, 10), (4, 10), (2, 3, 5, 10)])
def test_update_equals_the_plain_reference(composition, N, shape):
    torch.manual_seed(N)
    x, A, B = torch.randn(shape), torch.randn(N, 3, 10), torch.randn(8, N, 3)
    weights = torch.softmax(torch.randn(shape[0], N), -1) if N > 1 else None
    computed = personalized_update(x, A, B, weights, composition, 2.0)
    torch.testing.assert_close(
        computed.double(), reference_update(x, A, B, weights, composition, 2.0), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("composition", ["product_of_sums", "sum_of_products"])
@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_and_its_update_in_one_step_equal_their_sum(composition, N, bias):
    A, B, weights = random_parts(N)
    linear = torch.nn.Linear(4, 5, bias).double().requires_grad_(False)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)

    def in_one_step(x, A, B, weights):
        factors = mixed_factors(A, B, weights, composition, 2.0, x.dtype)
        return AdaptedLinear.apply(x, linear.weight, linear.bias, *factors)

    expected = linear(x) + personalized_update(x, A, B, weights, composition, 2.0)
    torch.testing.assert_close(in_one_step(x, A, B, weights), expected)
    assert torch.autograd.gradcheck(in_one_step, (x, A, B, weights))
    assert torch.autograd.gradcheck(in_one_step, (x.detach(), A, B, weights))


@pytest.mark.parametrize("composition", ["product_of_sums", "sum_of_products"])
@pytest.mark.parametrize("shape", [(4, 7, 32), (4, 32), (4, 2, 5, 32)])
@pytest.mark.parametrize("plain", [True, False])
def test_any_linear_layer_is_adapted_the_same(composition, shape, plain):
    _, gate_inputs = inputs()
    model = personalized(composition, num_meta_loras=3)
    layer = model.adapted_layers("default")[0]
    if not plain:  # a hook must see what it would see without an adapter
        seen = []
        layer.base_layer.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(shape)
    with model.gate_context(gate_inputs):
        A, B = layer.reclora_A["default"], layer.reclora_B["default"]
        expected = layer.base_layer.weight.double() @ x.double()[..., None]
        expected = expected[..., 0] + reference_update(x, A, B, layer.gate_weights["default"], composition, 2.0)
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=1e-4)
    assert plain or len(seen) == 1


def test_one_hot_weights_make_both_compositions_the_chosen_lora():
    torch.manual_seed(0)
    x, A, B = torch.randn(2, 5, 10), torch.randn(4, 3, 10), torch.randn(8, 4, 3)
    weights = torch.eye(4)[[2, 0]]
    chosen = torch.stack([x[0] @ A[2].T @ B[:, 2].T, x[1] @ A[0].T @ B[:, 0].T])
    for composition in ("product_of_sums", "sum_of_products"):
        torch.testing.assert_close(
            personalized_update(x, A, B, weights, composition, 1.0), chosen, atol=1e-5, rtol=1e-5
        )


def test_one_meta_lora_equals_pefts_own_lora():
    ours = personalized(num_meta_loras=1)
    theirs = get_peft_model(
        random_llama(2), LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"])
    ).eval()
    layers = dict(ours.named_modules())
    for name, module in theirs.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            module.lora_A["default"].weight.data = layers[name].reclora_A["default"].data[0].clone()
            module.lora_B["default"].weight.data = layers[name].reclora_B["default"].data[:, 0].clone()
    ids, _ = inputs()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(logits(ours, ids), expected, atol=1e-6, rtol=1e-5)


def test_high_temperature_approaches_the_plain_average():
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=3, temperature=1e7)
    torch.testing.assert_close(
        logits(model, ids, gate_inputs), logits(model, ids, gate_inputs.flip(0)), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("composition", ["product_of_sums", "sum_of_products"])
def test_fresh_adapter_leaves_the_base_model_bit_identical(composition):
    ids, gate_inputs = inputs()
    expected = logits_of_base = random_llama(2)(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    config = RecLoraConfig(task_type="CAUSAL_LM", num_meta_loras=4, gate_dim=GATE_DIM, composition=composition)
    assert torch.equal(logits(get_peft_model(random_llama(2), config).eval(), ids, gate_inputs), expected)
    trained = personalized(composition, num_meta_loras=4)
    assert not torch.allclose(logits(trained, ids, gate_inputs), logits_of_base)
    with trained.disable_adapter():
        assert torch.equal(logits(trained, ids, gate_inputs), logits_of_base)


OPTIONS = [
    dict(zip(("composition", "gate_scope", "gate_norm"), values, strict=True)) | {"num_meta_loras": N, "top_k": top_k}
    for *values, (N, top_k) in itertools.product(
        ("product_of_sums", "sum_of_products"),
        ("per_projection", "shared"),
        ("standard", "layer"),
        ((1, None), (4, None), (4, 2)),
    )
]


@pytest.mark.parametrize(
    ("options", "adapter_name"),
    zip(OPTIONS, itertools.cycle(["default", "another", "another"]), strict=False),
    ids=lambda part: "-".join(map(str, part.values())) if isinstance(part, dict) else part,
)
def test_saved_and_loaded_adapter_gives_identical_logits(tmp_path, options, adapter_name):
    ids, gate_inputs = inputs()
    model = personalized(**options)
    model.fit_gates(7 + 3 * gate_inputs)
    expected = logits(model, ids, gate_inputs)
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    loaded = PeftModel.from_pretrained(random_llama(2), tmp_path, adapter_name=adapter_name).eval()
    assert torch.equal(logits(loaded, ids, gate_inputs), expected)
    assert not any(weights.requires_grad for weights in loaded.parameters())


def bank_of(gates=3, seed=0, **settings):
    torch.manual_seed(seed)
    return GateBank(RecLoraConfig(**{"num_meta_loras": 5, "gate_dim": GATE_DIM, **settings}), gates).eval()


def reference_gate(bank, g, gate_inputs):
    """One gate as the paper has it, in float64, with the weights of gate g."""
    gate_inputs = gate_inputs.double()
    if bank.config.gate_norm == "layer":
        gate_inputs = (gate_inputs - gate_inputs.mean(-1, keepdim=True)) / (
            gate_inputs.var(-1, keepdim=True, correction=0) + 1e-5
        ).sqrt()
    else:
        gate_inputs = (gate_inputs - bank.center.double()) / bank.scale.double()
    hidden = torch.relu(gate_inputs @ bank.hidden_weight[g].double().T + bank.hidden_bias[g].double())
    scores = hidden @ bank.output_weight[g].double().T + bank.output_bias[g].double()
    return torch.softmax(scores / bank.config.temperature, -1)


@pytest.mark.parametrize(("last_layers", "expected"), [(None, [0, 1]), (1, [1]), (5, [0, 1])])
def test_the_last_layers_alone_are_adapted(tmp_path, last_layers, expected):
    model = personalized(last_layers=last_layers)
    ids, gate_inputs = inputs()

    def adapted(model):
        parts = {i: list(layer.modules()) for i, layer in enumerate(model.get_decoder().layers)}
        return [i for i, part in parts.items() if any(isinstance(module, RecLoraLayer) for module in part)]

    assert adapted(model) == expected
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(random_llama(2), tmp_path).eval()
    assert adapted(loaded) == expected
    assert torch.equal(logits(loaded, ids, gate_inputs), logits(model, ids, gate_inputs))


@pytest.mark.parametrize("gate_norm", ["standard", "layer"])
@pytest.mark.parametrize("gates", [1, 4])
def test_the_bank_equals_independent_gates(gate_norm, gates):
    bank = bank_of(gates, gate_norm=gate_norm, temperature=0.7)
    gate_inputs = 3 + 2 * torch.randn(9, GATE_DIM)
    bank.fit(gate_inputs)
    expected = torch.stack([reference_gate(bank, g, gate_inputs) for g in range(gates)])
    torch.testing.assert_close(bank(gate_inputs).double(), expected, atol=1e-6, rtol=1e-5)


def test_gates_start_out_like_linear_layers():
    bank = bank_of(gates=200, gate_hidden_dim=60)
    for weights, fan_in in (
        (bank.hidden_weight, GATE_DIM),
        (bank.hidden_bias, GATE_DIM),
        (bank.output_weight, 60),
        (bank.output_bias, 60),
    ):
        bound = fan_in**-0.5
        assert weights.abs().max() <= bound
        assert weights.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert abs(weights.mean().item()) < 0.05 * bound
        assert weights[0].flatten()[0] != weights[1].flatten()[0]


def test_dropout_inside_the_gates_is_live_in_training_alone():
    bank, gate_inputs = bank_of(gate_dropout=0.5), torch.randn(2, GATE_DIM)
    assert torch.equal(bank(gate_inputs), bank(gate_inputs))
    bank.train()
    assert not torch.equal(bank(gate_inputs), bank(gate_inputs))


@given(N=st.integers(2, 6), data=st.data(), seed=st.integers(0, 99))
def test_top_k_keeps_the_greatest_weights_and_renormalises_them(N, data, seed):
    k = data.draw(st.integers(2, N))
    soft = bank_of(num_meta_loras=N, seed=seed)
    sparse = bank_of(num_meta_loras=N, seed=seed, top_k=k)
    gate_inputs = torch.randn(7, GATE_DIM)
    weights, all_weights = sparse(gate_inputs), soft(gate_inputs)
    assert ((weights > 0).sum(-1) == k).all()
    kept = torch.where(weights > 0, all_weights, 0.0)
    assert kept.sum(-1).allclose(all_weights.topk(k, dim=-1).values.sum(-1))
    torch.testing.assert_close(weights, kept / kept.sum(-1, keepdim=True), atol=1e-6, rtol=1e-5)
    if k == N:
        torch.testing.assert_close(weights, all_weights, atol=1e-6, rtol=1e-5)
    alone = torch.cat([sparse(row[None]) for row in gate_inputs], dim=1)
    torch.testing.assert_close(weights, alone, atol=1e-6, rtol=1e-5)


def test_gradients_flow_through_the_weights_that_top_k_keeps():
    bank, gate_inputs = bank_of(gates=1, top_k=2), torch.randn(1, GATE_DIM)
    weights = bank(gate_inputs)
    (weights * torch.arange(5.0)).sum().backward()
    chosen = weights[0, 0] > 0
    assert torch.equal(bank.output_bias.grad[0] != 0, chosen)


def test_a_shared_gate_gives_every_layer_the_same_weights():
    _, gate_inputs = inputs()
    for scope, different in (("shared", False), ("per_projection", True)):
        model = personalized(num_meta_loras=4, gate_scope=scope)
        with model.gate_context(gate_inputs):
            first, *others = [layer.gate_weights["default"] for layer in model.adapted_layers("default")]
        assert len(others) == 3
        assert all(torch.equal(first, weights) != different for weights in others)
        assert len(model.gate_weights(gate_inputs)) == (4 if different else 1)


def test_gate_entropy_tells_average_from_choice():
    _, gate_inputs = inputs()
    averaging = personalized(num_meta_loras=4, temperature=1e7).gate_weights(gate_inputs)
    torch.testing.assert_close(gate_entropy(averaging), torch.ones(4), atol=1e-5, rtol=0)
    choosing = personalized(num_meta_loras=4, temperature=1e-7).gate_weights(gate_inputs)
    assert gate_entropy(choosing).tolist() == pytest.approx([0.0] * 4)
    assert personalized(num_meta_loras=1).gate_weights(gate_inputs) is None


def test_entropy_is_that_of_the_mean_sample():
    weights = torch.softmax(torch.randn(2, 50, 3, dtype=torch.float64), -1)
    expected = -(weights * weights.log()).sum(-1).mean(-1) / torch.tensor(3.0, dtype=torch.float64).log()
    torch.testing.assert_close(gate_entropy(weights), expected)


@pytest.mark.parametrize(("gate_norm", "length_matters"), [("standard", True), ("layer", False)])
def test_standardised_inputs_lose_their_units_and_keep_their_length(gate_norm, length_matters):
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4, gate_norm=gate_norm)
    model.fit_gates(gate_inputs)
    expected = logits(model, ids, gate_inputs)
    assert torch.allclose(logits(model, ids, 2 * gate_inputs), expected, atol=1e-5) != length_matters
    model.fit_gates(7 + 3 * gate_inputs)
    assert torch.allclose(logits(model, ids, 7 + 3 * gate_inputs), expected, atol=1e-5)


def test_the_code_of_the_guide_trains_saves_and_loads_without_kedro(tmp_path):
    guide = (Path(__file__).parents[3] / "docs/guides/swap-models.md").read_text("utf-8")
    [code] = [code for code in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "RecLoraConfig" in code]
    ids, values = torch.tensor([[3, 4]]), {"llm": random_llama(2), "folder": tmp_path, "H": torch.randn(9, 128)}
    values |= {"h": values["H"][:1], "ids": ids}
    exec(code.replace("input_ids=..., attention_mask=...", "input_ids=ids"), values)
    gates = values["model"].base_model.gates["default"]
    torch.testing.assert_close(gates.center, values["H"].mean(0))


def test_inputs_that_are_all_alike_can_be_standardised():
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4)
    model.fit_gates(torch.ones_like(gate_inputs))
    assert logits(model, ids, gate_inputs).isfinite().all()


def test_rows_of_a_batch_do_not_influence_each_other():
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4)
    together = logits(model, ids, gate_inputs)
    alone = torch.cat([logits(model, ids[i : i + 1], gate_inputs[i : i + 1]) for i in range(len(ids))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(logits(model, ids[order], gate_inputs[order]), together[order], atol=1e-5, rtol=1e-5)
    changed = gate_inputs.clone()
    changed[0, 0] += 1
    assert not torch.allclose(logits(model, ids, changed)[0], together[0])
    assert torch.equal(logits(model, ids, changed)[1:], together[1:])


def test_gradients_reach_the_adapter_and_nothing_else():
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4).train()
    gate_inputs.requires_grad_()
    model(input_ids=ids, attention_mask=torch.ones_like(ids), gate_inputs=gate_inputs).logits.square().mean().backward()
    for name, parameter in model.named_parameters():
        trainable = "reclora_" in name
        assert parameter.requires_grad == trainable, name
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == trainable, name


@pytest.mark.parametrize("composition", ["product_of_sums", "sum_of_products"])
def test_gradients_are_the_same_where_activations_are_computed_again(composition):
    ids, gate_inputs = inputs()
    gradients = []
    for again in (False, True):
        model = personalized(composition, num_meta_loras=4, gate_dropout=0.0).train()
        if again:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        with model.gate_context(gate_inputs):
            model.base_model.model(input_ids=ids).logits.square().mean().backward()
        gradients.append({name: weights.grad for name, weights in model.named_parameters() if weights.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_a_second_adapter_can_be_added_and_chosen():
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4)
    first = logits(model, ids, gate_inputs)
    model.add_adapter("other", RecLoraConfig(task_type="CAUSAL_LM", num_meta_loras=2, gate_dim=GATE_DIM))
    assert torch.equal(logits(model, ids, gate_inputs), first)
    model.set_adapter("other")
    assert torch.equal(logits(model, ids, gate_inputs), logits(tiny_llm_as_peft(), ids, gate_inputs))


def test_the_gates_of_an_adapter_are_its_own(tmp_path):
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4, seed=1)
    other = personalized(num_meta_loras=3, seed=5, gate_scope="shared", target_modules=["o_proj"])
    expected = [logits(model, ids, gate_inputs), logits(other, ids, gate_inputs)]
    other.save_pretrained(tmp_path)
    model.load_adapter(tmp_path, "other")
    model.eval()
    assert torch.equal(logits(model, ids, gate_inputs), expected[0])
    assert {name for name, weights in model.named_parameters() if weights.requires_grad} == {
        name for name, _ in personalized(num_meta_loras=4).named_parameters() if "reclora_" in name
    }
    model.set_adapter("other")
    assert torch.equal(logits(model, ids, gate_inputs), expected[1])
    trainable = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert trainable
    assert all(".other" in name for name in trainable)
    model.delete_adapter("other")
    assert torch.equal(logits(model, ids, gate_inputs), expected[0])
    assert not any(".other" in name for name, _ in model.named_parameters())
    assert torch.equal(model.unload()(input_ids=ids).logits, random_llama(2)(input_ids=ids).logits)


def test_the_same_seed_gives_the_same_adapter():
    first, second, other = (personalized(num_meta_loras=4, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(
        torch.equal(first[name], other[name]) for name in first if "reclora_gates" in name and "weight" in name
    )


def tiny_llm_as_peft():
    return get_peft_model(random_llama(2), RecLoraConfig(task_type="CAUSAL_LM", num_meta_loras=1)).eval()


def test_missing_or_wrong_gate_inputs_are_refused_by_name():
    ids, gate_inputs = inputs()
    model = personalized(num_meta_loras=4)
    with pytest.raises(ValueError, match="none were given"):
        logits(model, ids)
    with pytest.raises(ValueError, match=r"width 6.*\(4, 5\)"):
        logits(model, ids, gate_inputs[:, :5])
    assert not any(m.gate_weights for m in model.modules() if isinstance(m, RecLoraLayer))


def test_what_peft_offers_and_personalized_lora_does_not_is_refused_with_what_is_missing(tmp_path):
    ids, gate_inputs = inputs(batch=2)
    model = personalized(num_meta_loras=4)
    expected = logits(model, ids, gate_inputs)
    model.add_adapter("b", RecLoraConfig(task_type="CAUSAL_LM", num_meta_loras=2, gate_dim=GATE_DIM))
    with pytest.raises(ValueError, match=r"adapter_names .* set_adapter"):
        model(input_ids=ids, gate_inputs=gate_inputs, adapter_names=["default", "b"])
    with pytest.raises(ValueError, match=r"adapter_names .* set_adapter"):
        model.generate(input_ids=ids, adapter_names=["default", "b"])
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(TypeError, match=r"cannot be merged .*user_loras"):
            merge()
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="only supports LORA but RECLORA"):
        hotswap_adapter(model, tmp_path, "default", torch_device="cpu")
    assert torch.equal(logits(model, ids, gate_inputs), expected)
    with pytest.raises(ValueError, match="'RECLORA' is not compatible with the `PeftMixedModel`"):
        get_peft_model(random_llama(2), RecLoraConfig(num_meta_loras=1), mixed=True)


def test_only_linear_layers_are_adapted():
    with pytest.raises(TypeError, match="embed_tokens"):
        get_peft_model(random_llama(2), RecLoraConfig(num_meta_loras=1, target_modules=["embed_tokens"]))


def own_modules():
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "reclora_kedro"}


@pytest.fixture
def _nothing_imported(monkeypatch):
    """As if nothing of the package had been imported yet; all that a test imports is gone after it."""
    imported = own_modules()
    for known in (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING):
        monkeypatch.delitem(known, "RECLORA")
    for name in imported:
        del sys.modules[name]
    yield
    for name in own_modules():
        del sys.modules[name]
    sys.modules.update(imported)


@pytest.mark.usefixtures("_nothing_imported")
def test_peft_knows_the_method_of_an_ordinary_lora_where_nothing_else_has_made_an_adapter():
    import_module("reclora_kedro.adapters.reclora.export")
    assert "RECLORA" in PEFT_TYPE_TO_TUNER_MAPPING
