"""What sessions of the project know of its configuration."""

import pytest

from reclora_kedro.runs.session import CachingConfigLoader


def test_files_are_read_once_and_a_callers_changes_are_its_own(tmp_path):
    file = tmp_path / "base/parameters.yml"
    file.parent.mkdir()
    file.write_text("lens: {dims: [8]}")
    loader = CachingConfigLoader(str(tmp_path), base_env="base", default_run_env="base")
    loader["parameters"]["lens"]["dims"].append(4)
    file.unlink()
    assert loader["parameters"] == {"lens": {"dims": [8]}}


VARIANTS = """
finetuning:
  variants:
    one: {history: recent, adapter: {method: reclora, r: 8, temperature: 5.0}}
    two: {like: one, adapter: {r: 4}}
    three: {like: two, adapter: {method: mtl_lora, r: 2}}
"""


def test_an_environment_and_the_command_line_add_copies_with_changes(tmp_path):
    for env, text in (
        ("base", VARIANTS),
        ("mine", "finetuning: {variants: {four: {like: three, history: retrieved}}}"),
    ):
        (tmp_path / env).mkdir()
        (tmp_path / env / "parameters.yml").write_text(text)
    given = {"finetuning": {"variants": {"five": {"like": "one", "adapter": {"r": 16}}}}}
    loader = CachingConfigLoader(
        str(tmp_path), "mine", given, base_env="base", default_run_env="base", merge_strategy={"parameters": "soft"}
    )
    one = {"history": "recent", "adapter": {"method": "reclora", "r": 8, "temperature": 5.0}}
    three = {"history": "recent", "adapter": {"method": "mtl_lora", "r": 2}}
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
        ("{a: {like: b}}", "a is like 'b', but finetuning.variants has no other entry"),
        ("{a: {like: b}, b: null, c: {r: 1}}", "a is like 'b', but finetuning.variants has c"),
        ("{a: {like: b}, b: {like: a}}", "b is like 'a', but finetuning.variants has no other entry"),
        ("{a: {like: b, r: 4}, b: {r: 8}}", "a is like 'b', but has values of its own for all of it"),
    ],
)
def test_a_copy_of_nothing_is_refused(tmp_path, entries, message):
    (tmp_path / "parameters.yml").write_text(f"finetuning: {{variants: {entries}}}")
    with pytest.raises(ValueError, match=message):
        CachingConfigLoader(str(tmp_path), base_env="", default_run_env="")["parameters"]
