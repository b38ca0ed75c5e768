from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from kedro_provenance.parameters import Block
from reclora_kedro.adapters.registry import ExportConfig
from reclora_kedro.candidates.next_item.config import RetrieverConfig
from reclora_kedro.finetuning.config import AdapterContinuationConfig
from reclora_kedro.history.config import ItemEmbeddingConfig
from reclora_kedro.ingestion.config import InteractionColumns
from reclora_kedro.update.config import ForgetConfig

CONF = Path(__file__).parents[1] / "conf"
BASE = OmegaConfigLoader(str(CONF), base_env="base", default_run_env="base")["parameters"]


class Inner(Block):
    size: int


class Outer(Block):
    inner: Inner
    name: str = "any"


def test_a_block_takes_the_keys_that_it_knows():
    assert Outer(inner={"size": 3}) == Outer(inner=Inner(size=3), name="any")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"inner": {"size": 1}, "nane": "x"}, "nane"),
        ({"inner": {"size": 1, "sizes": 2}}, r"inner\.sizes"),
        ({"inner": {}}, r"inner\.size"),
        ({"inner": {"size": "three"}}, r"inner\.size"),
    ],
    ids=["misspelt", "misspelt inside", "missing", "of another type"],
)
def test_any_other_key_or_value_is_refused_by_its_path(settings, key):
    with pytest.raises(ValidationError, match=rf"(?m)^{key}$"):
        Outer(**settings)


def test_a_block_is_read_only():
    block = Outer(inner={"size": 3})
    with pytest.raises(ValidationError, match="frozen"):
        block.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        block.inner.size = 4


@pytest.mark.parametrize(
    ("block", "settings"),
    [
        (ForgetConfig, {"users": [True], "erase": False, "retrain": False, "lens": False}),
        (ExportConfig, {"variant": "reclora", "users": [True], "most_active": None}),
        (InteractionColumns, {"unknown_ids": {"user_id": [True]}}),
    ],
)
def test_a_boolean_is_no_id(block, settings):
    with pytest.raises(ValidationError, match="an id is a whole number or a text, not true or false"):
        block(**settings)


@pytest.mark.parametrize(
    ("block", "settings", "refusal"),
    [
        (ItemEmbeddingConfig, {"encoders": ["tfidf", "tfidf"]}, "(?s)encoders.*names tfidf twice"),
        (ItemEmbeddingConfig, {"components": 100_000}, "(?s)components.*less than or equal to 4096"),
        (AdapterContinuationConfig, {"safeguard": ["none", "none"]}, "(?s)safeguard.*names none twice"),
        (RetrieverConfig, BASE["retriever"] | {"seed": 0, "batch_parts": 3}, "batch_parts is 3, which does not divide"),
    ],
)
def test_settings_that_mean_nothing_are_refused(block, settings, refusal):
    with pytest.raises(ValidationError, match=refusal):
        block(**settings)
