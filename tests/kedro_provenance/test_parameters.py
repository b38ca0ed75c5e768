"""Parameters that are refused before anything runs."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.pipeline import Node, Pipeline
from kedro.validation import type_extractor
from omegaconf import OmegaConf

from bad_parameters import (
    DEFAULTS,
    MORE,
    PARAMETERS,
    is_helpful,
    one_of_each_kind,
    refusals,
    types_of_parameters,
    wrong_values,
)
from kedro_provenance.check_parameters import check_names, check_parameters, check_values
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.kedro_internals import TypesOfParameters
from kedro_provenance.parameters import parameter_paths
from kedro_provenance.session import CachingConfigLoader
from reclora_kedro.pipelines.names import source_types
from reclora_kedro.serving.config import ServiceConfig
from reclora_kedro.settings import CONFIG_LOADER_ARGS

if TYPE_CHECKING:
    from fractions import Fraction as OfTypeCheckers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def types():
    """What the blocks must be, by path, of all pipelines; Kedro would warn of a block that two nodes want different."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type_extractor.logger, "warning", lambda *said: pytest.fail(str(said)))
        return types_of_parameters()


def test_the_parameters_of_conf_base_are_welcome(types):
    assert refusals("dry_run", False, types) == []
    assert list(check_values(PARAMETERS, types, list(parameter_paths(PARAMETERS)))) == []


def test_a_wrong_value_of_each_kind_is_refused_by_its_path(types):
    cases = [*one_of_each_kind(wrong_values(DEFAULTS)), *MORE]
    assert len(cases) > 100
    said = [(path, words, refusals(path, value, types)) for path, value, words in cases]
    assert [case for case in said if not is_helpful(case[2], case[0], case[1])] == []


# The whole configuration of a session


@pytest.fixture
def refusal(tmp_path):
    """Why a session with a parameter file of its environment and with runtime parameters is refused; None if not."""
    shutil.copytree(ROOT / "conf/base", tmp_path / "conf/base")

    def refuse(file="", runtime_params=None, requested=("ingestion",), catalog="", shared=None):
        (tmp_path / "conf/mine").mkdir(exist_ok=True)
        (tmp_path / "conf/mine/parameters.yml").write_text(file)
        (tmp_path / "conf/mine/catalog.yml").write_text(catalog)
        if shared is not None:
            (tmp_path / "conf/mine/globals.yml").write_text(shared)
        loader = CachingConfigLoader(
            str(tmp_path / "conf"), env="mine", runtime_params=runtime_params, **CONFIG_LOADER_ARGS
        )
        bootstrap_project(ROOT)  # Kedro then builds pipelines anew
        pipelines.set_requested(list(requested))
        try:
            context = SimpleNamespace(config_loader=loader, env="mine")
            check_parameters(context, {"service": ServiceConfig}, [source_types], names=True)
            check_names(context)
        except RunRefusedError as error:
            return str(error)

    yield refuse
    bootstrap_project(ROOT)
    pipelines.set_requested(None)


SOUND = """
_mine: &mine {min_history: 3}
history: {<<: *mine, rating_levels: 10, short: {near: {kind: retrieved, k: 3}}}
ingestion: {users: null, item_texts: {item_id: id, fields: [{name: plot, column: plot}]}}
prompt: {chat_template_arguments: {enable_thinking: false}}
"""


def test_what_an_environment_may_add_is_welcome(refusal):
    assert refusal(SOUND, requested=["ingestion", "history", "finetuning", "study"]) is None


UNKNOWN = "not a parameter. The nearest one is"


@pytest.mark.parametrize(
    ("file", "runtime_params", "lines"),
    [
        (
            "{histroy: {min_history: 3}, lens: {hiden_dim: 3}}",
            {"lenz": {"hidden_dim": 3}},
            [
                f"- histroy is {UNKNOWN} `history`.",
                f"- lenz is {UNKNOWN} `lens`.",
                f"- lens.hiden_dim is {UNKNOWN} `lens.hidden_dim`.",
            ],
        ),
        (
            "{lens: 3, history: null}",
            None,
            [
                "- lens is 3: it must be a block of model, training_rows",
                "- history is null: it must be a block of seed, min_history",
            ],
        ),
        (
            "history: {negatives: null, item_embedding: null}",
            None,
            [
                "- history.negatives is null: input should be a valid dictionary",
                "- history.item_embedding is null: input should be",
            ],
        ),
        ("history: {short: null}", None, ["- history.short names nothing"]),
        ("finetuning: {variants: {reclora: 3}}", None, ["- finetuning.variants.reclora is 3: it must be a block"]),
        (
            "lens: {learning_rat: 0.1, dropout: 3}",
            None,
            [f"- lens.learning_rat is {UNKNOWN} `lens.le", "- lens.dropout is 3: "],
        ),
        (
            "{lens: 3, ingestion: {k_core: .inf}, export: {variant: foo}, ranking: {variant: bar}}",
            {"history": {"min_histori": 1}},
            [
                "- lens is 3: it must be a block of",
                f"- history.min_histori is {UNKNOWN} `history.min_history`.",
                "- export.variant is 'foo': ",
                "- ranking.variant is 'bar': ",
                "- ingestion.k_core is inf: ",
            ],
        ),
        (
            "finetuning: {variants: {mine: {history: latest}, log: {like: reclora}}}",
            {"lens": {"dropout": 3}},
            [
                "- finetuning.variants names 'log': a name",
                "- finetuning.variants.mine.history is 'latest': ",
                "- lens.dropout is 3: ",
            ],
        ),
        (
            "{item_knn: {popularity_powers: []}, lens: {dropout: 3}}",
            None,
            ["- item_knn.popularity_powers is []: ", "- lens.dropout is 3: "],
        ),
        ("service: {model: llm, variant: null}", None, ["- service: model is llm, but variant is null"]),
        ("ingestion: {k_core: .inf}", {"lens": {"dropout": 1}}, ["- ingestion.k_core is inf", "- lens.dropout is 1: "]),
        (
            "lenz: 1",
            {"ingestion": {"kcore": 1}},
            ["- lenz is not", f"- ingestion.kcore is {UNKNOWN} `ingestion.k_core`"],
        ),
        ("export: {variant: foo}", None, ["- export.variant is 'foo': `finetuning.variants` names shared_lora, re"]),
        ("export: {variant: [a]}", None, ["- export.variant is ['a']: `finetuning.variants` names"]),
        (
            "recommendation: {variant: other}",
            None,
            ["- recommendation.variant is 'other': `finetuning.variants` names"],
        ),
        (
            "ranking: {variant: rella}",
            None,
            ["- ranking.variant is 'rella': `finetuning.variants` names shared_lora"],
        ),
    ],
)
def test_all_that_is_wrong_is_named_at_once_with_what_to_do(refusal, file, runtime_params, lines):
    said = refusal(
        file, runtime_params, ["ingestion", "history", "lens", "finetuning", "export", "recommendation", "ranking"]
    )
    assert said.startswith("These parameters are refused. Nothing was written.\n")
    assert all(f"\n{line}" in said for line in lines), said
    assert said.count("\n- ") == len(lines), said
    assert "Correct them in conf/mine/ or conf/base/, or behind --params." in said


def test_an_encoder_that_is_made_of_the_vectors_is_refused(refusal):
    file = "history: {item_embedding: {encoders: [lens]}}"
    assert "so nodes depend on each other in a circle: " in refusal(file, requested=("update",))


def test_a_misspelt_name_of_an_environment_is_refused(refusal):
    assert refusal(catalog="raw_interaction: {type: a}\nraw_items: {type: b}\nraw_itemz: {type: c}").splitlines() == [
        "These names are misspelt. Nothing was written.",
        "- raw_interaction (catalog*.yml): nothing reads it. The nearest name is raw_interactions.",
        "Correct them in conf/mine/, or take them out.",
    ]
    assert refusal(catalog="raw_interactions: {type: a}\n_shared: {type: b}\nmy_encoder: {type: c}") is None
    other = "base_llm2: {type: a}\nsentence_encoders: {type: b}\nmy_base_llm: {type: c}"
    assert refusal("history: {item_embedding: {encoders: [sentence_encoders]}}", catalog=other) is None
    assert "- dta (globals*.yml): nothing reads it. The nearest name is data." in refusal(shared="dta: data/mine")
    assert refusal(shared="data: data/mine\nraw_folder: data/01_raw/mine") is None


def test_a_file_that_is_no_yaml_is_named_with_the_place_of_the_fault(refusal, tmp_path):
    said = refusal("lens:\n  dropout: [0.1\nhistory: 3\n")
    assert f"{tmp_path}/conf/mine/parameters.yml: expected ',' or ']', but got ':' in line 3, column 8." in said


def test_what_refers_to_nothing_is_refused(refusal):
    assert "refused" not in (said := refusal("lens: {seed: '${globals:sed}'}"))
    assert "'sed' not found" in said


def test_values_that_environments_share_are_still_there_afterwards(refusal, tmp_path):
    (tmp_path / "conf/mine").mkdir()
    (tmp_path / "conf/mine/globals.yml").write_text("mine: 7")
    assert refusal("lens: {recent_length: '${globals:mine}'}") is None
    assert OmegaConf.create({"of": "${globals:mine}"}).of == 7


def test_of_the_annotations_of_a_node_those_of_its_parameters_are_evaluated_alone():
    def by_place(data: "OfTypeCheckers", service: "ServiceConfig", days: int) -> "OfTypeCheckers": ...

    def by_name(data, unread: "OfTypeCheckers | None" = None, service: "ServiceConfig | None" = None, **others): ...

    named = {"data": "data", "service": "params:named", "days": "params:days"}
    made = Pipeline(
        [
            Node(by_place, ["data", "params:placed", "params:days"], "left", name="by_place"),
            Node(by_name, named, "right", name="by_name"),
            Node(sorted, "left", "sorted", name="sorted"),
        ]
    )
    types = TypesOfParameters({"made": made}).extract_types_from_pipelines()
    assert types == {"placed": ServiceConfig, "named": ServiceConfig | None}
