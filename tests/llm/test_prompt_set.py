import polars as pl
import pytest
import torch

from kedro_provenance.errors import MismatchError
from reclora_kedro.gate_inputs import GateInputs
from reclora_kedro.llm.prompt_set import prompt_set

PROMPTS = pl.DataFrame(
    {"row": [5, 3, 8], "use": ["test", "test", "few_shot"], "label": [1, 0, 1], "token_ids": [[1], [2, 9], [3]]}
)
GATE_INPUTS = GateInputs(
    rows=torch.tensor([8, 5, 3]),
    name="target",
    values=torch.tensor([[8.0], [5.0], [3.0]]),
    lens_logits=torch.tensor([0.8, 0.5, 0.3]),
)


def test_gate_inputs_and_lens_logits_are_matched_by_row():
    chosen = prompt_set(PROMPTS, "test", GATE_INPUTS)
    assert (chosen.rows.tolist(), chosen.labels.tolist(), chosen.token_ids) == ([5, 3], [1, 0], [[1], [2, 9]])
    assert chosen.lengths.tolist() == [1, 2]
    assert chosen.gate_inputs.name == "target"
    assert chosen.gate_inputs.rows.tolist() == [5, 3]
    assert chosen.gate_inputs.values.flatten().tolist() == [5.0, 3.0]
    torch.testing.assert_close(chosen.gate_inputs.lens_logits, torch.tensor([0.5, 0.3]))
    batch = chosen.batch([1], torch.device("cpu"))
    assert (batch.token_ids.tolist(), batch.last.tolist()) == ([[2, 9]], [1])
    assert batch.gate_inputs.values.tolist() == [[3.0]]
    assert batch.gate_inputs.lens_logits.tolist() == [pytest.approx(0.3)]


def test_without_an_adapter_there_are_none():
    chosen = prompt_set(PROMPTS, "few_shot")
    assert (chosen.rows.tolist(), chosen.gate_inputs) == ([8], None)
    assert chosen.batch([0], torch.device("cpu")).gate_inputs is None


def test_a_prompt_without_a_gate_input_is_refused_by_row():
    with pytest.raises(MismatchError, match=r"1 prompts with use 'test' .* row 3") as raised:
        prompt_set(PROMPTS, "test", GATE_INPUTS.take([0, 1]))
    assert raised.value.entries == ("gate_inputs",)


def test_a_use_without_prompts_is_refused_by_its_parameter():
    with pytest.raises(ValueError, match=r"no prompts with use 'validation'.*prompt_rows.validation"):
        prompt_set(PROMPTS, "validation", GATE_INPUTS)
