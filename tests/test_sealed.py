"""Copies of objects in a storage, which are fetched once and checked."""

from pathlib import Path

import pytest

from kedro_provenance.files.storage import StorageError
from reclora_kedro import sealed
from reclora_kedro.sealed import local_copy


def test_a_folder_is_fetched_once_and_again_when_an_object_changes(bucket, monkeypatch):
    bucket.put("models/tiny/config.json", b"{}")
    bucket.put("models/tiny/weights/part.safetensors", b"1234")
    address = f"{bucket.address}/models/tiny"
    copy = local_copy(address, bucket.options)
    assert copy.endswith("/tiny")
    found = {name: Path(f"{copy}/{name}").read_text() for name in ("config.json", "weights/part.safetensors")}
    assert found == {"config.json": "{}", "weights/part.safetensors": "1234"}

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "download", None)
        assert local_copy(address, bucket.options) == copy
    bucket.put("models/tiny/config.json", b"[]")
    changed = local_copy(f"{address}/", bucket.options)
    assert Path(f"{changed}/config.json").read_text() == "[]"
    assert Path(f"{copy}/config.json").read_text() == "{}"


def test_a_copy_that_was_damaged_is_fetched_again(bucket, caplog):
    bucket.put("models/tiny/weights/part.safetensors", b"1234")
    copy = local_copy(f"{bucket.address}/models/tiny", bucket.options)
    for damage in (lambda file: file.write_bytes(b"4321"), Path.unlink):
        damage(Path(f"{copy}/weights/part.safetensors"))
        assert local_copy(f"{bucket.address}/models/tiny", bucket.options) == copy
        assert Path(f"{copy}/weights/part.safetensors").read_bytes() == b"1234"
    assert caplog.text.count("is downloaded again") == 2


def test_one_object_is_fetched_by_itself(bucket):
    for name in ("llm.gguf", "llm.gguf.old"):
        bucket.put(f"models/{name}", name.encode())
    copy = local_copy(f"{bucket.address}/models/llm.gguf", bucket.options)
    assert copy.endswith("/llm.gguf")
    assert Path(copy).read_text() == "llm.gguf"


def test_what_is_no_address_stays_as_it_is():
    assert local_copy("Qwen/Qwen3-0.6B", {}) == "Qwen/Qwen3-0.6B"
    assert local_copy("data/01_raw/llm", {}) == "data/01_raw/llm"


def test_what_is_not_there_is_named(bucket):
    with pytest.raises(StorageError, match=r"/llm cannot be used: there is no such object or folder\. Make it, or"):
        local_copy(f"{bucket.address}/llm", bucket.options)
