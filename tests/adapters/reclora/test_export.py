"""Users' LoRAs, as stock PEFT loads them, against the personalized adapter that they come from."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from forked import exit_code
from random_llama import random_llama, with_random_adapter
from reclora_kedro.adapters.methods import user_loras
from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.adapters.reclora.export import lora_config
from reclora_kedro.pipelines.export.nodes import SERVER_NOTES

GATE_DIM = 6
USERS = ["anna", "o/..", 7]
FOLDERS = ["user_anna", "user_o%2F..", "user_7"]
STOCK_PEFT = """
import sys, torch
from pathlib import Path
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

for ours in [name for name in sys.modules if name.partition(".")[0] == "reclora_kedro"]:
    del sys.modules[ours]
sys.modules["reclora_kedro"] = None  # cannot be imported any more
for registered in (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING):
    for method in [name for name, kind in registered.items() if kind.__module__.startswith("reclora_kedro")]:
        del registered[method]
ids = load_file(root / "ids.safetensors")["ids"]
logits = {}
for folder in sorted(path.parent for path in root.glob("*/*/adapter_config.json")):
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(root / "llm"), folder).eval()
    with torch.no_grad():
        name = f"{folder.parent.name}/{folder.name}"
        logits[name] = model(ids).logits
        logits[name + "/merged"] = model.merge_and_unload()(ids).logits
save_file(logits, root / "logits.safetensors")
"""
SAVE = """
import os, torch
from random_llama import random_llama, with_random_adapter
from reclora_kedro.adapters.methods import user_loras
assert hash("seed") != seed or "PYTHONHASHSEED" in os.environ
names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
settings = {"num_meta_loras": 2, "r": 2, "gate_dim": 3, "gate_input": "user", "target_modules": names}
adapted = with_random_adapter(random_llama(2), 0.1, **settings)
adapted.save_pretrained(folder / "adapter")
user_loras(adapted, torch.eye(3), ["ann", "bob", "cid"]).save(folder / "users")
"""
OPTIONS = {
    "product": {"composition": "product_of_sums"},
    "sum": {"composition": "sum_of_products"},
    "product-shared": {"composition": "product_of_sums", "gate_scope": "shared"},
    "sum-last": {
        "composition": "sum_of_products",
        "layers_to_transform": [2],
        "target_modules": ["o_proj", "down_proj"],
    },
    "last-layer": {"last_layers": 1},
    "sum-top-k": {"composition": "sum_of_products", "top_k": 2},
    "product-top-k": {"composition": "product_of_sums", "top_k": 2},
    "one": {"num_meta_loras": 1, "gate_input": "target"},
    "regex": {"target_modules": r".*layers\.1\.self_attn\.v_proj"},
}
RANKS = {
    "product": 3,
    "sum": 12,
    "last-layer": 3,
    "product-shared": 3,
    "sum-last": 12,
    "sum-top-k": 6,
    "one": 3,
    "regex": 3,
}


def personalized(**settings):
    settings = {"num_meta_loras": 4, "gate_input": "user", "r": 3, "lora_alpha": 7, "gate_dim": GATE_DIM} | settings
    return with_random_adapter(random_llama(3), 0.3, **settings)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder of users' adapters for each of OPTIONS, the gated logits of each user, and those of stock PEFT."""
    root = tmp_path_factory.mktemp("exported")
    ids, states = torch.randint(0, 64, (2, 9)), torch.randn(len(USERS), GATE_DIM)
    random_llama(3).save_pretrained(root / "llm")
    save_file({"ids": ids}, root / "ids.safetensors")
    expected = {}
    for option, settings in OPTIONS.items():
        model = personalized(**settings)
        model.fit_gates(states)
        loras = user_loras(model, states, USERS)
        loras.save(root / option)
        for place, folder in enumerate(loras.folders):
            with torch.no_grad():
                expected[f"{option}/{folder}"] = model(input_ids=ids, gate_inputs=states[[place, place]]).logits
    assert exit_code(exec, SAVE + STOCK_PEFT, {"root": root, "folder": root / "saved/there", "seed": hash("seed")}) == 0
    return root, expected, load_file(root / "logits.safetensors")


def test_saved_adapters_are_the_same_to_the_last_byte_whatever_the_seed_of_hashes_is(exported, tmp_path):
    exec(SAVE, {"folder": tmp_path, "seed": None})
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path, exported[0] / "saved/there")
    )
    assert len(first) >= 3 + 2 * 3
    assert first.keys() == second.keys()
    assert not [str(path) for path, content in first.items() if content != second[path]]


def test_long_ids_have_folders_of_their_own():
    ids = ["é" * 300, "é" * 299 + "e", "short"]
    names = user_loras(personalized(), torch.randn(3, GATE_DIM), ids).folders
    assert len(set(names)) == 3
    assert all(len(name) <= 200 for name in names)


@pytest.mark.parametrize("option", OPTIONS)
def test_stock_peft_gives_the_gated_logits_of_each_user(exported, option):
    _, expected, found = exported
    for folder in FOLDERS:
        name = f"{option}/{folder}"
        torch.testing.assert_close(found[name], expected[name], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found[f"{name}/merged"], expected[name], atol=2e-5, rtol=1e-4)
    differ = not torch.allclose(found[f"{option}/{FOLDERS[0]}"], found[f"{option}/{FOLDERS[1]}"], atol=1e-3)
    assert differ == (option != "one")


@pytest.mark.parametrize(("option", "rank"), RANKS.items())
def test_the_rank_is_that_of_the_composition(exported, option, rank):
    root, _, _ = exported
    config = json.loads((root / option / "user_7/adapter_config.json").read_text())
    assert (config["peft_type"], config["r"]) == ("LORA", rank)
    assert config["lora_alpha"] / rank == pytest.approx(7 / 3)
    shapes = {
        name: tensor.shape for name, tensor in load_file(root / option / "user_7/adapter_model.safetensors").items()
    }
    assert all(shape[0] == rank for name, shape in shapes.items() if "lora_A" in name)
    assert all(shape[1] == rank for name, shape in shapes.items() if "lora_B" in name)


def test_the_table_names_each_users_folder_and_how_its_gates_choose():
    model = personalized(temperature=1e7)
    table = user_loras(model, torch.randn(3, GATE_DIM), USERS).table()
    assert [(record["user_id"], record["folder"], record["rank"]) for record in table] == [
        (user_id, folder, 3) for user_id, folder in zip(USERS, FOLDERS, strict=True)
    ]
    assert all(record["gate_entropy"] == pytest.approx(1, abs=1e-5) for record in table)
    chosen = personalized(temperature=1e-7)
    assert user_loras(chosen, torch.randn(1, GATE_DIM), [1]).table()[0]["gate_entropy"] == pytest.approx(0)
    one = user_loras(personalized(num_meta_loras=1), torch.randn(1, 2), [1])
    assert one.table()[0]["gate_entropy"] is None


def test_what_has_not_changed_since_the_export_before_is_a_link_to_it(tmp_path):
    model, states = personalized(), torch.randn(3, GATE_DIM)
    user_loras(model, states, USERS).save(tmp_path / "first")
    states[1] += 1
    user_loras(model, states, USERS).save(tmp_path / "second", before=tmp_path / "first")
    user_loras(model, states, USERS).save(tmp_path / "third")
    weights = "adapter_model.safetensors"
    linked = [(tmp_path / "second" / name / weights).samefile(tmp_path / "first" / name / weights) for name in FOLDERS]
    assert linked == [True, False, True]
    for name in FOLDERS:
        new, whole = (tmp_path / which / name / weights for which in ("second", "third"))
        assert new.read_bytes() == whole.read_bytes()


def test_weights_are_written_in_the_type_of_the_base_llm(tmp_path):
    model = with_random_adapter(random_llama(3).bfloat16(), 0.3, num_meta_loras=2, gate_dim=GATE_DIM, gate_input="user")
    user_loras(model, torch.randn(1, GATE_DIM), [1]).save(tmp_path)
    assert {t.dtype for t in load_file(tmp_path / "user_1/adapter_model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.parametrize("gate_input", ["target", "fields", "rating_statistics"])
def test_gates_that_read_the_target_are_refused(gate_input):
    with pytest.raises(
        ValueError,
        match=rf"gates of this adapter read '{gate_input}', but only the lens's state of the user.*gate_input: user",
    ):
        user_loras(personalized(gate_input=gate_input), torch.randn(1, GATE_DIM), [1])


def test_what_a_server_has_to_do_besides_stands_beside_the_loras(tmp_path):
    user_loras(personalized(), torch.randn(1, GATE_DIM), [1], SERVER_NOTES["average"]).save(tmp_path)
    assert "must take the mean of the lens's logit and the LLM's" in (tmp_path / "README.md").read_text()
    assert "lens" not in user_loras(personalized(), torch.randn(1, GATE_DIM), [1]).readme()


def test_scaling_survives_a_change_of_rank():
    config = RecLoraConfig(r=8, lora_alpha=16, num_meta_loras=16, gate_dim=4, composition="sum_of_products")
    assert (lora_config(config).r, lora_config(config).lora_alpha) == (128, 256)
