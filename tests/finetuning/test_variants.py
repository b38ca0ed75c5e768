from pathlib import Path

import pytest
import yaml

from reclora_kedro.finetuning.variants import VariantConfig

PARAMETERS = Path(__file__).parents[2] / "conf/base/parameters_finetuning.yml"


VARIANTS = yaml.safe_load(PARAMETERS.read_text().replace("${globals:seed}", "42"))["finetuning"]["variants"]
TRAINING = VARIANTS["reclora"]["training"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gate_input": "feedback"}, r"gate_input.*\n.*'target', 'user', 'fields' or 'rating_statistics'"),
        ({"blend": "prior"}, "blend\n.*'none' or 'average'"),
        ({"adapter": {"num_loras": 2}}, r"adapter\.num_loras\n.*[Uu]nexpected"),
        ({"adapter": {"top_k": 9}}, "adapter\n.*top_k is 9; it must be at most num_meta_loras, 8"),
        ({"training": TRAINING | {"epochs": 0}}, r"training\.epochs\n.*greater than or equal to 1"),
        ({"training": TRAINING | {"batchsize": 8}}, r"training\.batchsize\n.*not permitted"),
        ({"training": TRAINING | {"swa_ratio": 1.1}}, r"training\.swa_ratio\n.*less than or equal to 1"),
        ({"name": "reclora"}, "name\n.*not permitted"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, message):
    variant = {"history": "retrieved", "gate_input": "target", "adapter": {}, "training": TRAINING}
    VariantConfig(**variant)
    with pytest.raises(ValueError, match=message):
        VariantConfig(**variant | changes)
