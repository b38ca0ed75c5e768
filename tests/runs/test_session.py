"""What sessions of the project know of its configuration."""

from reclora_kedro.runs.session import CachingConfigLoader


def test_files_are_read_once_and_a_callers_changes_are_its_own(tmp_path):
    file = tmp_path / "base/parameters.yml"
    file.parent.mkdir()
    file.write_text("lens: {dims: [8]}")
    loader = CachingConfigLoader(str(tmp_path), base_env="base", default_run_env="base")
    loader["parameters"]["lens"]["dims"].append(4)
    file.unlink()
    assert loader["parameters"] == {"lens": {"dims": [8]}}
