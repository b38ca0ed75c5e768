"""The settings of an adapter: one list of fields for parameters and for PEFT, and what is refused."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from peft import PeftConfig

from reclora_kedro.adapters.reclora import RecLoraConfig
from reclora_kedro.adapters.reclora.settings import SETTINGS, RecLoraSettings

PARAMETERS = Path(__file__).parents[3] / "conf/base/parameters_finetuning.yml"


def test_parameters_and_peft_share_one_list_of_fields():
    settings, of_peft = ({entry.name: entry for entry in fields(kind)} for kind in (RecLoraSettings, RecLoraConfig))
    for name, entry in settings.items():
        assert of_peft[name].type == entry.type
    own = of_peft.keys() - settings.keys() - {entry.name for entry in fields(PeftConfig)}
    assert own == {"gate_dim", "gate_input", "layers_to_transform", "base_llm"}
    assert all(of_peft[name].metadata["help"] for name in own)


def test_every_variant_of_conf_base_names_exactly_these_fields():
    for variant in yaml.safe_load(PARAMETERS.read_text())["finetuning"]["variants"].values():
        assert variant["adapter"].keys() == {entry.name for entry in fields(RecLoraSettings)}


def test_the_defaults_are_those_of_the_paper():
    config = RecLoraSettings()
    assert (config.num_meta_loras, config.r, config.lora_alpha, config.gate_hidden_dim) == (8, 8, 16, 60)
    assert config.target_modules == ["q_proj", "v_proj"]


def test_conf_base_differs_from_the_defaults_where_the_docstring_says_so():
    shipped, defaults = yaml.safe_load(PARAMETERS.read_text())["_adapter"], vars(RecLoraSettings())
    assert {name for name, value in shipped.items() if value != defaults[name]} == {"composition", "last_layers"}


def test_what_is_written_is_read_again(tmp_path):
    config = RecLoraConfig(gate_dim=6, target_modules=["o_proj", "down_proj"], last_layers=2, top_k=3)
    config.save_pretrained(tmp_path)
    assert PeftConfig.from_pretrained(tmp_path) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_meta_loras": 0}, "num_meta_loras\n.*greater than"),
        ({"r": 0}, "r\n.*greater than"),
        ({"lora_alpha": 0}, "lora_alpha\n.*greater than"),
        ({"target_modules": []}, "target_modules\n.*at least 1 item"),
        ({"last_layers": 0}, "last_layers\n.*greater than"),
        (
            {"last_layers": 1, "target_modules": ".*q_proj"},
            "last_layers is 1, but target_modules is a regular expression",
        ),
        (
            {"target_modules": "*q_proj"},
            r"target_modules is '\*q_proj', .* not a regular expression .*\(nothing to repeat",
        ),
        ({"composition": "sum"}, "composition\n.*'product_of_sums' or 'sum_of_products'.*'sum'"),
        ({"gate_hidden_dim": 0}, "gate_hidden_dim\n.*greater than"),
        ({"gate_dropout": 1.0}, "gate_dropout\n.*less than 1"),
        ({"gate_norm": "batch"}, "gate_norm\n.*'standard' or 'layer'.*'batch'"),
        ({"gate_scope": "layer"}, "gate_scope\n.*'per_projection' or 'shared'.*'layer'"),
        ({"temperature": -1.0}, "temperature\n.*greater than.*-1"),
        ({"top_k": 0}, "top_k\n.*greater than"),
        ({"top_k": 2}, "top_k is 2; it must be at most num_meta_loras, 1"),
        ({"top_k": 1, "num_meta_loras": 4}, "top_k is 1, .* the gates would never learn: set it to 2 or more"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_by_name_before_anything_is_loaded(settings, message):
    settings = {"num_meta_loras": 1, **settings}
    with pytest.raises(ValueError, match=message):
        SETTINGS.validate_python(settings)
    with pytest.raises(ValueError, match=message):
        RecLoraConfig(**settings)


def test_a_misspelt_setting_is_refused_by_name():
    with pytest.raises(ValueError, match=r"num_loras\n.*[Uu]nexpected"):
        SETTINGS.validate_python({"num_loras": 8})


def test_gates_without_a_width_are_refused():
    with pytest.raises(ValueError, match="gate_dim is None, but 2 meta-LoRAs"):
        RecLoraConfig(num_meta_loras=2)
