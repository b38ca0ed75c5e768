"""The cache of dequantised GGUF files: private, verified, and rid of what killed processes left."""

import logging
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reclora_kedro.llm import pretrained
from reclora_kedro.llm.pretrained import cached_gguf, dequantise_gguf
from reclora_kedro.sealed import DIGESTS


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A file whose dequantisation writes two small files; it counts how often that was done."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = []

    def dequantise(file: Path, dtype: torch.dtype | None, folder: Path) -> None:
        if dtype is not None:
            made.append(file)
            (folder / "model.safetensors").write_bytes(bytes(1000))
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(pretrained, "dequantise_gguf", dequantise)
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    return SimpleNamespace(file=file, made=made, cache=tmp_path / "cache/kedro-provenance")


def test_an_entry_is_made_once_and_is_the_users_own(source):
    folders = {cached_gguf(source.file, torch.bfloat16) for _ in range(3)}
    assert len(folders) == len(source.made) == 1
    assert stat.S_IMODE(source.cache.stat().st_mode) == 0o700
    cached_gguf(source.file, torch.float32)
    source.file.write_bytes(b"GGUF, changed")
    cached_gguf(source.file, torch.float32)
    assert len(source.made) == 3


def test_an_outline_is_made_without_the_weights(source):
    folder = Path(cached_gguf(source.file, None))
    assert {file.name for file in folder.iterdir()} == {"config.json", "sha256.json"}
    assert source.made == []
    assert cached_gguf(source.file, torch.bfloat16) != str(folder)


def test_an_older_cache_becomes_private(source):
    source.cache.mkdir(parents=True, mode=0o777)
    source.cache.chmod(0o777)
    cached_gguf(source.file, torch.bfloat16)
    assert stat.S_IMODE(source.cache.stat().st_mode) == 0o700


def test_the_cache_of_another_user_is_refused(source, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(PermissionError, match=r"belongs to another user, .* set XDG_CACHE_HOME"):
        cached_gguf(source.file, torch.bfloat16)


def flip_a_byte(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[500] ^= 1
    (folder / "model.safetensors").write_bytes(content)


DAMAGE = {
    "a flipped byte": flip_a_byte,
    "a missing file": lambda folder: (folder / "config.json").unlink(),
    "a further file": lambda folder: (folder / "code.py").write_text("print()"),
    "no digests": lambda folder: (folder / "sha256.json").unlink(),
    "torn digests": lambda folder: (folder / "sha256.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_again(source, damage, caplog):
    folder = Path(cached_gguf(source.file, torch.bfloat16))
    sound = (folder / DIGESTS).read_text()
    DAMAGE[damage](folder)
    assert cached_gguf(source.file, torch.bfloat16) == str(folder)
    assert len(source.made) == 2
    assert f"{folder} is damaged" in caplog.text
    assert (folder / DIGESTS).read_text() == sound


def test_what_a_killed_process_left_is_removed_at_the_next_use(source, caplog):
    cached_gguf(source.file, torch.bfloat16)
    leftover = source.cache / ".unfinished-abc"
    (leftover / "draft").mkdir(parents=True)
    cached_gguf(source.file, torch.bfloat16)
    assert not leftover.exists()
    assert "Removing" in caplog.text
    assert len(source.made) == 1


def test_without_locks_the_drafts_of_other_processes_stay(source, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError("locks are not supported")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(pretrained, "lock_descriptor", refuse)
    draft = source.cache / ".unfinished-abc"
    draft.mkdir(parents=True)
    cached_gguf(source.file, torch.bfloat16)
    assert draft.exists()
    assert "cannot be locked" in caplog.text


def test_a_file_is_read_without_what_lies_beside_it(tmp_path, monkeypatch):
    """Such as an adapter, which transformers would load with it, or a chat template."""
    read = {}

    def load(kind, source, **arguments):
        [file] = Path(source).iterdir()
        read.update(arguments, content=file.read_bytes())
        raise InterruptedError

    monkeypatch.setattr(pretrained, "load_pretrained", load)
    monkeypatch.chdir(tmp_path)
    Path("tiny.gguf").write_bytes(b"GGUF")
    Path("adapter_config.json").write_text("{}")
    with pytest.raises(InterruptedError):
        dequantise_gguf(Path("tiny.gguf"), torch.bfloat16, tmp_path / "folder")
    assert read == {"gguf_file": "tiny.gguf", "content": b"GGUF"}


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, b"no GGUF at all"])
def test_a_malformed_file_is_refused_in_one_sentence(tmp_path, monkeypatch, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.gguf cannot be read as a GGUF file .* download it again"):
        cached_gguf(tmp_path / "broken.gguf", torch.bfloat16)
