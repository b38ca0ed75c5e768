from pathlib import Path

import pytest
import torch
import yaml

from reclora_kedro.adapters.reclora.config import AdapterConfig
from reclora_kedro.errors import MismatchError
from reclora_kedro.finetuning.training import TrainingConfig
from reclora_kedro.finetuning.variants import VariantConfig, gate_inputs, with_few_shot
from reclora_kedro.histories.rating_statistics import COLUMNS

PARAMETERS = Path(__file__).parents[2] / "conf/base/parameters_finetuning.yml"


@pytest.fixture
def states():
    rows = torch.tensor([5, 3, 8])
    kinds = {kind: rows[:, None] * torch.ones(width) for kind, width in (("target", 4), ("user", 2), ("fields", 6))}
    return {"row": rows, "logit": rows / 10, **kinds}


@pytest.mark.parametrize("name", ["target", "user", "fields"])
def test_gates_read_a_state_of_the_lens(states, name):
    read = gate_inputs(states, name)
    assert read.keys() == {"row", "lens_logit", name}
    assert torch.equal(read[name], states[name])
    assert torch.equal(read["lens_logit"], states["logit"])
    assert torch.equal(read["row"], states["row"])


def test_counts_go_along_where_the_lens_reads_statistics(states):
    statistics = torch.arange(3 * len(COLUMNS)).view(3, -1).float()
    read = gate_inputs(states | {"rating_statistics": statistics}, "target")
    assert read.keys() == {"row", "lens_logit", "log_counts", "target"}
    assert torch.equal(read["log_counts"], statistics[:, [3, 6]])
    own = gate_inputs(states | {"rating_statistics": statistics}, "rating_statistics")
    assert own["rating_statistics"] is statistics


@pytest.mark.parametrize("name", ["user", "rating_statistics"])
def test_what_there_is_not_is_refused_with_what_there_is(states, name):
    del states["user"]
    with pytest.raises(ValueError, match=f"gate_input is '{name}', but the lens has the states fields, target: change"):
        gate_inputs(states, name)


def test_few_shot_prompts_have_the_states_that_gates_learn_from(states):
    before = {name: state.clone() for name, state in states.items()}
    few_shot = {name: state[[2, 0]] + (name != "row") for name, state in states.items()}
    merged = with_few_shot(states, few_shot)
    assert merged.keys() == states.keys()
    for name, state in merged.items():
        assert torch.equal(
            state, states[name] + torch.tensor([1, 0, 1]).view(-1, *[1] * (state.dim() - 1)) * (name != "row")
        )
    assert all(torch.equal(states[name], state) for name, state in before.items())


def test_few_shot_prompts_of_another_run_are_refused(states):
    few_shot = states | {"row": torch.tensor([5, 4, 9])}
    with pytest.raises(MismatchError, match="few_shot_states has row 4, which lens_states lacks") as raised:
        with_few_shot(states, few_shot)
    assert raised.value.entries == ("few_shot_states",)


def variants_of_conf_base():
    return yaml.safe_load(PARAMETERS.read_text().replace("${globals:seed}", "42"))["finetuning"]["variants"]


@pytest.mark.parametrize("variant", variants_of_conf_base().values(), ids=variants_of_conf_base())
def test_a_variant_of_conf_base_names_every_setting(variant):
    config = VariantConfig(**variant)
    assert isinstance(config.adapter, AdapterConfig)
    assert config.training.model_fields_set == TrainingConfig.model_fields.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate_input": "feedback"}, "gate_input\n.*'target', 'user', 'fields' or 'rating_statistics'"),
        ({"adapter": {"num_loras": 2}}, r"adapter\.num_loras\n.*[Uu]nexpected"),
        ({"adapter": {"top_k": 9}}, "adapter\n.*top_k is 9; it must be at most num_meta_loras, 8"),
        ({"training": {"epochs": 0}}, r"training\.epochs\n.*greater than or equal to 1"),
        ({"training": {"batchsize": 8}}, r"training\.batchsize\n.*not permitted"),
        ({"training": {"swa_ratio": 1.1}}, r"training\.swa_ratio\n.*less than or equal to 1"),
        ({"name": "reclora"}, "name\n.*not permitted"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, message):
    variant = {"history": "retrieved", "gate_input": "target", "adapter": {}, "training": {}}
    VariantConfig(**variant)
    with pytest.raises(ValueError, match=message):
        VariantConfig(**variant | changes)
