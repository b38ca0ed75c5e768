"""What sessions of the project know of its configuration, and what they refuse before a run begins."""

import re
import shutil
from pathlib import Path

import click
import pytest
import yaml
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from documented import config_files
from kedro_provenance.failures import RunRefusedError
from kedro_provenance.session import CachingConfigLoader, ResumingSession
from reclora_kedro.cli import (
    OF_RUN,
    read_config,
    split_load_versions,
    split_params,
)

ROOT = Path(__file__).parents[2]


def test_files_are_read_once_and_a_callers_changes_are_its_own(tmp_path):
    file = tmp_path / "base/parameters.yml"
    file.parent.mkdir()
    file.write_text("lens: {dims: [8]}")
    loader = CachingConfigLoader(str(tmp_path), base_env="base", default_run_env="base")
    loader["parameters"]["lens"]["dims"].append(4)
    file.unlink()
    assert loader["parameters"] == {"lens": {"dims": [8]}}


NAMED = {"base_env": "base", "default_run_env": "base", "named_blocks": ["finetuning.variants"]}
VARIANTS = """
finetuning:
  variants:
    one: {history: recent, adapter: {method: reclora, r: 8, temperature: 5.0}}
    two: {like: one, adapter: {r: 4}}
    three: {like: two, adapter: {method: other, r: 2}}
"""


def test_an_environment_and_the_command_line_add_copies_with_changes(tmp_path):
    for env, text in (
        ("base", VARIANTS),
        ("mine", "finetuning: {variants: {four: {like: three, history: retrieved}}}"),
    ):
        (tmp_path / env).mkdir()
        (tmp_path / env / "parameters.yml").write_text(text)
    given = {"finetuning": {"variants": {"five": {"like": "one", "adapter": {"r": 16}}}}}
    loader = CachingConfigLoader(str(tmp_path), "mine", given, **NAMED, merge_strategy={"parameters": "soft"})
    one = {"history": "recent", "adapter": {"method": "reclora", "r": 8, "temperature": 5.0}}
    three = {"history": "recent", "adapter": {"method": "other", "r": 2}}
    assert loader["parameters"]["finetuning"]["variants"] == {
        "one": one,
        "two": {"history": "recent", "adapter": one["adapter"] | {"r": 4}},
        "three": three,
        "four": three | {"history": "retrieved"},
        "five": {"history": "recent", "adapter": one["adapter"] | {"r": 16}},
    }


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("{a: {like: b}}", "a is like 'b': finetuning.variants has no other entry"),
        ("{a: {like: b}, b: null, c: {r: 1}}", "a is like 'b': finetuning.variants has c"),
        ("{a: {like: b}, b: {like: a}}", "b is like 'a': finetuning.variants has no other entry"),
        ("{a: {like: b, r: 4}, b: {r: 8}}", "a is like 'b', but changes all of its values"),
    ],
)
def test_a_copy_of_nothing_is_refused(tmp_path, entries, message):
    (tmp_path / "parameters.yml").write_text(f"finetuning: {{variants: {entries}}}")
    with pytest.raises(RunRefusedError, match=message):
        CachingConfigLoader(str(tmp_path), **NAMED | {"base_env": "", "default_run_env": ""})["parameters"]


@pytest.mark.parametrize("kind", ["globals", "catalog", "credentials"])
def test_a_file_of_any_kind_that_is_no_yaml_is_refused_by_its_place(tmp_path, kind):
    file = tmp_path / f"base/{kind}.yml"
    file.parent.mkdir()
    file.write_text("data: data\nlog: {type: a")
    with pytest.raises(RunRefusedError, match=rf"{file}: expected .* in line 2, column \d+\. Correct the file"):
        CachingConfigLoader(str(tmp_path), base_env="base", default_run_env="base")[kind]


@pytest.mark.parametrize("kind", ["mlflow", "parameters"])
def test_configuration_without_files_is_missing_as_kedro_has_it(tmp_path, kind):
    for env in ("base", "local"):
        (tmp_path / env).mkdir()
    patterns = {"mlflow": ["mlflow*"]}
    loader = CachingConfigLoader(str(tmp_path), base_env="base", default_run_env="local", config_patterns=patterns)
    with pytest.raises(MissingConfigException):
        loader[kind]


def test_data_that_lie_nowhere_are_refused(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/globals.yml").write_text("data: null")
    with pytest.raises(RunRefusedError, match=r"The globals have None as `data`; expected the folder"):
        CachingConfigLoader(str(tmp_path), base_env="base", default_run_env="base")["globals"]


@pytest.mark.parametrize(
    ("env", "arguments", "words"),
    [
        ("nowhere", {}, r"conf/nowhere\. Correct --env\. Nothing was written"),
        (
            "studies",
            {},
            r"conf/studies has no file of .* so it is not an environment: correct --env\. Nothing was written",
        ),
        ("test", {"pipeline_names": ["lenz"]}, r"There is no pipeline lenz\. The nearest name is lens\."),
        ("test", {"pipeline_names": ["ingestion"], "from_nodes": ["a"]}, r"nodes named \['a'\]\. Nothing was written"),
        (
            "test",
            {"pipeline_names": ["ingestion"], "load_versions": {"itms": "1"}},
            r"itms.* not found in the catalog\. N",
        ),
        (
            "test",
            {"pipeline_names": ["ingestion"], "load_versions": {"items": "1"}},
            r"--load-versions names items, which this run makes itself",
        ),
        (
            "test",
            {"pipeline_names": ["ingestion"], "load_versions": {"lens": "1"}},
            r"--load-versions names lens, which this run does not read",
        ),
    ],
    ids=["environment", "studies", "pipeline", "node", "entry", "version", "unread"],
)
def test_a_command_that_names_what_is_not_there_is_refused(env, arguments, words):
    bootstrap_project(ROOT)
    with pytest.raises(RunRefusedError, match=words):
        ResumingSession.create(ROOT, env=env).run(**arguments)


def of_command(*options):
    """The arguments that `kedro run` is called with."""
    return run.make_context("run", [*options]).params


def test_what_is_named_twice_is_refused():
    assert of_command("--params", "a=1,b=2")["params"] == {"a": 1, "b": 2}
    for options in (("--params", "a=1", "--params", "b=2"), ("--params", "a=1,a=2")):
        with pytest.raises(click.UsageError, match=r"--params (is given 2 times|names a several times)"):
            of_command(*options)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("{user: u, explode: [x, y]}", {"user": "u", "explode": ["x", "y"]}),
        ("{x: {k: 1}, y: {k: 2}}", {"x": {"k": 1}, "y": {"k": 2}}),
        ("[[1,2],3]", [[1, 2], 3]),
        ("[1,[2,3]]", [1, [2, 3]]),
        ("'x, y'", "x, y"),
        ("{t: 'it''s, [so]'}", {"t": "it's, [so]"}),
        ("Bull's eye", "Bull's eye"),
    ],
)
def test_nested_and_quoted_values_are_one(value, read):
    assert of_command("--params", f"a={value},b='1,2'")["params"] == {"a": read, "b": "1,2"}


@pytest.mark.parametrize("file", config_files())
def test_config_files_of_the_docs_say_what_options_would(tmp_path, file):
    path = tmp_path / "options.yml"
    path.write_text(file)
    given = of_command("--config", str(path))
    options = yaml.safe_load(file)["run"]
    assert given["pipelines"] == options["pipelines"]
    assert given["params"] == options["params"]


def test_ids_in_a_config_file_are_taken_as_they_are_typed(tmp_path):
    path = tmp_path / "options.yml"
    path.write_text("run: {params: {forget: {users: [0042, 1_000, 12:30, 7], erase: true}, lens: {seed: 0042}}}")
    expected = {"forget": {"users": ["0042", "1_000", "12:30", "7"], "erase": True}, "lens": {"seed": 34}}
    assert of_command("--config", str(path))["params"] == expected


def test_versions_are_given_by_entry():
    context, option = click.Context(click.Command("run")), OF_RUN["load_versions"]
    assert split_load_versions(context, option, "lens:2026-01-31T09.30.00.000Z") == {"lens": "2026-01-31T09.30.00.000Z"}
    assert split_load_versions(context, option, "") == {}
    with pytest.raises(click.UsageError, match=r"--load-versions has 'lens': expected an entry and its version"):
        split_load_versions(context, option, "items:1,lens")


@pytest.mark.parametrize("value", ["%Y-%m-%d %H:%M:%S", "[1", "!!python/object:os.system"])
def test_a_value_that_is_no_yaml_is_refused_with_what_to_type(value):
    context = click.Context(click.Command("run"))
    with pytest.raises(click.UsageError, match=re.escape(f"quote it: \"a.b='{value}'\"")):
        split_params(context, OF_RUN["params"], f"lens.seed=7,a.b={value}")
    assert split_params(context, OF_RUN["params"], f"a.b='{value}'") == {"a": {"b": value}}


@pytest.mark.parametrize("text", ["run: {env: !!python/object/apply:os.getcwd []}", "runs: {env: test}", "run: [", "7"])
def test_a_config_file_that_holds_no_plain_options_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "run.yml").write_text(text)
    context = click.Context(click.Command("run"), info_name="run")
    with pytest.raises(click.UsageError, match=r"run\.yml .*: expected plain YAML without tags.*below `run:`\.$"):
        read_config(context, OF_RUN["config"], str(tmp_path / "run.yml"))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("null", r"raw_users is null, but an entry is a block with a `type`\. A missing table is"),
        ("{filepath: users.csv}", r"'raw_users': 'type' is missing"),
        ("{type: pandas.CSVDatset, filepath: users.csv}", r"- raw_users: Dataset 'CSVDatset' not found in 'pandas'"),
        ("{type: pandas.CSVDataset, filepath: users.csv, argz: 1}", r"- raw_users: .*unexpected .* argument 'argz'"),
        ("{type: pandas.CSVDataset, filepath: users.csv, credentials: mine}", r"credentials 'mine'"),
    ],
    ids=["null", "no type", "another type", "another argument", "no credentials"],
)
def test_an_entry_that_is_none_is_refused_without_a_stack_trace(tmp_path, entry, words):
    shutil.copytree(ROOT / "conf/base", tmp_path / "base")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/globals.yml").write_text(f"data: {tmp_path}")
    (tmp_path / "mine/catalog.yml").write_text(f"raw_users: {entry}")
    bootstrap_project(ROOT)
    with pytest.raises(RunRefusedError, match=rf"{words}(.|\n)*"):
        ResumingSession.create(ROOT, env="mine", conf_source=str(tmp_path)).run(pipeline_names=["ingestion"])


def test_an_entry_reads_files_beside_its_configuration(tmp_path):
    (tmp_path / "conf/base").mkdir(parents=True)
    (tmp_path / "conf/base/catalog.yml").write_text('"{name}.prompt": {filepath: "${conf:base/prompts}/{name}.txt"}')
    loader = CachingConfigLoader(str(tmp_path / "conf"), base_env="base", default_run_env="base")
    assert loader["catalog"]["{name}.prompt"]["filepath"] == f"{tmp_path}/conf/base/prompts/{{name}}.txt"
    archive = shutil.make_archive(str(tmp_path / "conf"), "gztar", tmp_path, "conf")
    with pytest.raises(RunRefusedError, match=r"conf\.tar\.gz is an archive: unpack it, and name its folder"):
        CachingConfigLoader(archive, base_env="base", default_run_env="base")["catalog"]


def test_relative_addresses_are_those_of_the_project(tmp_path, monkeypatch):
    bootstrap_project(ROOT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(KedroSession, "run", lambda self, **arguments: Path.cwd())
    assert ResumingSession.create(ROOT, env="test").run() == ROOT
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("folder", "words"), [("a[b]", r"characters \* \? \["), ("empty", "There is no configuration")]
)
def test_a_configuration_that_kedro_would_not_find_is_refused(tmp_path, folder, words):
    source = tmp_path / folder / "conf"
    (source / ("base" if folder == "a[b]" else "")).mkdir(parents=True)
    with pytest.raises(RunRefusedError, match=words):
        CachingConfigLoader(str(source), base_env="base", default_run_env="base")["parameters"]
