"""Parameters of the methods that are refused before anything runs."""

import pytest
from pydantic import ValidationError

from bad_parameters import DEFAULTS, NULLABLE, SHARES, is_helpful, refusals, types_of_parameters, wrong_values
from kedro_provenance.check_parameters import check_values
from kedro_provenance.parameters import parameter_paths
from named import PARAMETERS
from reclora_extras.base_models.config import BaseModelConfig

OWN = {name: block for name, block in PARAMETERS.items() if not (name in DEFAULTS or name.startswith("_"))}
ALARMS = {f"monitoring.alarms.{name}" for name in ("auc_fall", "calibration", "hit_rate_fall", "psi")}
OWN_NULLABLE = {"black_box.rows", "black_box.search.rows", *ALARMS, "base_model.recovery.lora_rank"}
REAL = [(f"monitoring.{name}_days", 2**32) for name in ("reference", "period")]  # written as whole numbers
OBJECTIVE = "finetuning.variants.reclora.training.objective"
MORE = [
    ("black_box.hints", {"template": None, "honest": [True]}, "hints names no template"),
    ("base_model.steps", ["quantise"], "choose one of drop_layers"),
    (OBJECTIVE, {"kind": "preference", "references": []}, "at least 1 item"),
    (OBJECTIVE, {"kind": "preference", "references": ["lens", "lens"]}, "names lens twice"),
    (
        OBJECTIVE,
        {"kind": "preference", "max_day_apart": 3},
        "max_day_apart is not a parameter. The nearest one is max_d",
    ),
]


@pytest.fixture(scope="module")
def types():
    """What the blocks must be, by path."""
    return types_of_parameters(PARAMETERS)


def test_the_defaults_are_welcome(types):
    assert list(check_values(PARAMETERS, types, list(parameter_paths(PARAMETERS)))) == []


def test_a_wrong_value_is_refused_by_its_path(types):
    made = wrong_values(OWN, nullable=NULLABLE | OWN_NULLABLE, shares=SHARES)
    cases = [case for case in made if case[:2] not in REAL] + MORE
    assert {path.partition(".")[0] for path, *_ in cases} >= {*OWN}
    said = [(path, words, refusals(path, value, types)) for path, value, words in cases]
    assert [case for case in said if not is_helpful(case[2], case[0], case[1])] == []


def test_a_step_twice_in_a_row_is_refused():
    with pytest.raises(ValidationError, match=r"(?s)steps.*names drop_layers twice in a row"):
        BaseModelConfig(steps=["drop_layers", "drop_layers"])
