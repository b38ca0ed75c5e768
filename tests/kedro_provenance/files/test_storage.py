"""Addresses in an object storage, copies of what lies there, and what errors say."""

import socket
from pathlib import Path

import fsspec
import pytest

from kedro_provenance.files import storage
from kedro_provenance.files.storage import StorageError, local_copy, require_bucket, states


def test_a_folder_is_fetched_once_and_again_when_an_object_changes(bucket, monkeypatch):
    bucket.put("models/tiny/config.json", b"{}")
    bucket.put("models/tiny/weights/part.safetensors", b"1234")
    address = f"{bucket.address}/models/tiny"
    copy = local_copy(address, bucket.options)
    assert copy.endswith("/tiny")
    found = {name: Path(f"{copy}/{name}").read_text() for name in ("config.json", "weights/part.safetensors")}
    assert found == {"config.json": "{}", "weights/part.safetensors": "1234"}

    with monkeypatch.context() as patch:
        patch.setattr(storage, "download", None)
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


def test_an_object_that_would_be_written_elsewhere_is_refused(bucket, tmp_path):
    bucket.put("models/tiny/../../../passwd", b"root")
    with pytest.raises(StorageError, match=r"an object named '.*\.\..*', which leads out of it\. Nothing was read"):
        storage.download(f"{bucket.address}/models/tiny", bucket.options, ["../../passwd"], tmp_path / "a/b")
    assert not (tmp_path / "passwd").exists()


def test_states_tell_objects_of_the_same_size_apart(bucket):
    bucket.put("raw/a.csv", b"1")
    bucket.put("raw/b.csv", b"2")
    before = states(f"{bucket.address}/raw", bucket.options)
    assert before.keys() == {"a.csv", "b.csv"}
    assert states(f"{bucket.address}/raw/*.csv", bucket.options).keys() == {
        name.removeprefix("s3://") for name in (f"{bucket.address}/raw/a.csv", f"{bucket.address}/raw/b.csv")
    }
    bucket.put("raw/b.csv", b"3")
    after = states(f"{bucket.address}/raw", bucket.options)
    assert [name for name in before if before[name] != after[name]] == ["b.csv"]
    assert states(f"{bucket.address}/nothing", bucket.options) == {}


# Errors


def test_a_bucket_that_can_be_listed_is_welcome_whatever_it_holds(bucket):
    require_bucket(f"{bucket.address}/not/there/yet", bucket.options)


@pytest.mark.parametrize(
    ("use", "address", "message"),
    [
        (require_bucket, "s3://absent/data", "s3://absent/data cannot be used: there is no bucket absent"),
        (local_copy, "{bucket}/llm", "/llm cannot be used: there is no such object or folder"),
    ],
)
def test_what_is_not_there_is_named(bucket, use, address, message):
    with pytest.raises(StorageError, match=rf"{message}\. Make it, or"):
        use(address.format(bucket=bucket.address), bucket.options)


def test_a_storage_that_does_not_answer_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    options = {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": endpoint}}
    with pytest.raises(
        StorageError, match=rf"s3://bucket/data cannot be used: .*{endpoint}.*See that the storage is up"
    ):
        require_bucket("s3://bucket/data", options | {"config_kwargs": {"retries": {"max_attempts": 0}}})


def test_credentials_that_are_refused_are_said(bucket, monkeypatch):
    def denied(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(bucket.files, "ls", denied)
    with pytest.raises(
        StorageError, match=r"Access Denied\. Give credentials that may list, .* block `s3` of credentials"
    ):
        require_bucket(f"{bucket.address}/data", bucket.options)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(StorageError, match=r"Install s3fs to access S3\. .*`pip install s3fs`"):
        require_bucket("s3://bucket/data", {})
