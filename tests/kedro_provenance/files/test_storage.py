"""Addresses in an object storage, and what errors say."""

import socket

import fsspec
import pytest

from kedro_provenance.files import storage
from kedro_provenance.files.storage import StorageError, require_bucket, states


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


def test_a_bucket_that_is_not_there_is_named(bucket):
    with pytest.raises(StorageError, match=r"s3://absent/data cannot be used: there is no bucket absent\. Make it, or"):
        require_bucket("s3://absent/data", bucket.options)


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
