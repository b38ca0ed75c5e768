"""A base LLM with its tokenizer, loaded from a hub id, a local folder or a GGUF file."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import functional

from reclora_kedro.devices import choose_device, choose_dtype, keep_freed_memory
from reclora_kedro.extras import install_line
from reclora_kedro.llm import OTHER_SOURCE
from reclora_kedro.llm.attention import FrozenLayers, attends_to_all_before, use_causal_attention
from reclora_kedro.llm.batching import mean_of_tokens
from reclora_kedro.llm.prompts import plain_ids

T = TypeVar("T")

Quantization = Literal["8bit", "4bit"]
MOST_TOLD = 300  # characters of an error of another library

LOGIT_SCALES = {"logit_scale": 1, "lm_head_multiplier": 1, "logits_scaling": -1}
"""Configuration settings by which logits are multiplied (1) or divided (-1)."""

LOGIT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Configuration settings that cap logits: cap · tanh(logits / cap)."""

LOGITS_TOLERANCE = 0.05  # largest relative difference of logits that may stem from rounding to bfloat16


@dataclass(frozen=True)
class LanguageModel:
    """A causal LM, frozen and in eval mode, and its tokenizer.

    ``name`` is its source, and ``arguments`` reload it with :func:`load_language_model`. ``frozen`` caches states of
    its lower layers; models with the same base weights may share it.
    """

    model: Any
    tokenizer: Any
    name: str
    arguments: dict[str, Any]
    frozen: FrozenLayers = field(default_factory=FrozenLayers, repr=False, compare=False)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def width(self) -> int:
        return self.model.get_output_embeddings().weight.shape[1]

    @property
    def context_tokens(self) -> int:
        """Maximum prompt length in tokens."""
        return context_of(self.model)

    def with_model(self, model: Any) -> "LanguageModel":
        return replace(self, model=model)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and tokenizer to an existing folder, in transformers' layout."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def loader(self, on_gpu: bool) -> "Callable[[], LanguageModel]":
        """Return a function that loads the same LLM in another process, on its GPU unless `device` was ``cpu``."""
        device = "auto" if on_gpu and self.arguments["device"] != "cpu" else "cpu"
        path = Path(self.arguments["source"])  # other processes may have another working directory
        source = str(path.absolute()) if path.exists() else self.arguments["source"]
        return partial(load_language_model, **self.arguments | {"device": device, "source": source})

    def last_hidden_states(self, token_ids: Tensor) -> Tensor:
        """Return the final hidden states of right-padded prompts, shape (batch, tokens, hidden)."""
        return self.frozen.last_hidden_states(self.model, token_ids)

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Return at most `max_tokens` token ids of each text, without special tokens."""
        return plain_ids(self.tokenizer, texts, min(max_tokens, self.context_tokens))

    def encode(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Return the mean final hidden states of right-padded texts (RecLoRA, section 3.2): (batch, hidden)."""
        return mean_of_tokens(self.last_hidden_states(token_ids), last)

    def token_logits(self, hidden: Tensor, tokens: list[int] | slice) -> Tensor:
        """Return the logits of some tokens from final hidden states: (batch, hidden) to (batch, tokens).

        Only these tokens' rows of the head are used, in float32. Scales (Cohere, Granite, Falcon-H1) and soft caps
        (Gemma 2 and 3, RecurrentGemma, xLSTM) of the logits apply as in the model's forward pass.
        """
        head, config = self.model.get_output_embeddings(), self.model.config.get_text_config()
        logits = hidden.float() @ head.weight[tokens].float().T
        if head.bias is not None:
            logits = logits + head.bias[tokens].float()
        for name, power in LOGIT_SCALES.items():
            if (scale := getattr(config, name, None)) is not None:
                logits = logits * scale**power
        for name in LOGIT_CAPS:
            if (cap := getattr(config, name, None)) is not None:
                logits = cap * torch.tanh(logits / cap)
        return logits


def context_of(model: Any) -> int:
    """Return the maximum length of a text in tokens; unlimited for recurrent models, BLOOM and T5."""
    config = model.config.get_text_config()
    limits = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    return next((limit for limit in limits if limit is not None), sys.maxsize)


def refusing(load: Callable[..., T]) -> Callable[..., T]:
    """Wrap a function that loads a model from a `source`, so that whatever is wrong with that is a ValueError.

    A header that lies, sizes that do not fit or a truncated file fail anywhere in transformers, with any exception.
    """

    @wraps(load)
    def loading(source: str, *arguments: Any, **named: Any) -> T:
        try:
            return load(source, *arguments, **named)
        except (OSError, ImportError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if isinstance(error, ValueError) and _is_own(error):
                raise
            text = " ".join(str(error).split())[:MOST_TOLD]
            raise ValueError(
                f"{source!r} cannot be read as a model ({type(error).__name__}: {text}). Copy or download it again. "
                f"{OTHER_SOURCE} if transformers does not support this kind."
            ) from error

    return loading


def _is_own(error: Exception) -> bool:
    """Whether this project's code raised an error, whose message says what to do."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")).startswith("reclora_")


@refusing
def load_language_model(
    source: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    quantization: Quantization | None = None,
    *,
    outline: bool = False,
) -> LanguageModel:
    """Load a base LLM for fine-tuning: frozen, in eval mode, without running remote code.

    A GGUF file is dequantised once, see :func:`reclora_kedro.llm.pretrained.cached_gguf`.

    Args:
        source: hub id such as ``Qwen/Qwen3-0.6B``, local folder, or ``.gguf`` file.
        revision: branch, tag or commit of a hub id; pin it to keep runs reproducible.
        dtype, device, quantization: see `choose_dtype`, `choose_device` and `quantization_config`.
        outline: whether to load the tokenizer and, without weights, the layers alone, on the meta device, in a fraction
            of a second. In a local folder, the names of the weights are checked, and that all are finite; of a GGUF
            file, the weights are neither read nor dequantised.

    FileNotFoundError is raised for a source that does not exist, ImportError for ``quantization`` without bitsandbytes,
    ValueError for what is not supported, or what :func:`reclora_kedro.llm.pretrained.load_pretrained` refuses.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reclora_kedro.llm.pretrained import cached_gguf, load_pretrained, mark_chat_tokens, require_sound

    target = choose_device(device)
    weights_type = choose_dtype(dtype, target)
    quantized = quantization_config(quantization, weights_type, target)
    version: dict[str, Any] = {"revision": revision} if revision else {}
    folder = cached_gguf(Path(source), None if outline else weights_type) if source.endswith(".gguf") else source
    try:
        tokenizer = load_pretrained(AutoTokenizer, folder, **version)
        if outline:
            model = _without_weights(folder, weights_type, version, is_dequantised=folder != source)
        else:  # quantised weights are made where they will stay
            placement = {"quantization_config": quantized, "device_map": {"": target}} if quantized else {}
            model = load_pretrained(AutoModelForCausalLM, folder, dtype=weights_type, **version, **placement)
    except OSError as error:
        raise FileNotFoundError(
            f"The base LLM {source!r} could not be loaded: {error}\n"
            "Expected a hub id, a local folder with config.json, tokenizer files and *.safetensors weights, or a "
            ".gguf file. Change `source` of the catalog entry `base_llm`."
        ) from error
    require_sound(model, tokenizer, source)
    mark_chat_tokens(tokenizer)
    if outline:
        return LanguageModel(model, tokenizer, source, {})
    model = model.requires_grad_(False).eval()
    if target.type == "cpu":
        keep_freed_memory()
        if attends_to_all_before(model):
            use_causal_attention(model)
    dtype = str(weights_type).removeprefix("torch.")  # but the device as requested: other machines may have others
    arguments = {"source": source, "revision": revision, "dtype": dtype, "device": device, "quantization": quantization}
    llm = LanguageModel(model if quantized else model.to(target), tokenizer, source, arguments)
    require_own_logits(llm)
    return llm


outline_language_model = partial(load_language_model, outline=True)


def _without_weights(folder: str, dtype: torch.dtype, version: dict[str, Any], *, is_dequantised: bool) -> Any:
    """Load the layers of a base LLM on the meta device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from reclora_kedro.llm.pretrained import load_pretrained, require_safetensors

    config = load_pretrained(AutoConfig, folder, **version)
    if not is_dequantised:
        if Path(folder).is_dir() and not hasattr(config, "quantization_config"):
            return load_pretrained(AutoModelForCausalLM, folder, dtype=dtype, device_map="meta")
        require_safetensors(folder, **version)  # a hub's weights are not fetched yet
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)


@torch.inference_mode()
def require_own_logits(llm: LanguageModel) -> None:
    """Raise ValueError for a model whose own logits differ from `token_logits`, as when its head has further layers."""
    tokens = list(range(min(32, llm.model.get_output_embeddings().weight.shape[0])))
    prompt = torch.tensor([tokens[3:11]], device=llm.device)
    expected = llm.model(input_ids=prompt, use_cache=False).logits[:, -1, tokens].float()
    hidden = llm.last_hidden_states(functional.pad(prompt, (0, 5)))[:, prompt.shape[1] - 1]
    gap = (llm.token_logits(hidden, tokens) - expected).abs().max() / expected.abs().max()
    if not gap <= LOGITS_TOLERANCE:
        raise ValueError(
            f"The base LLM {llm.name!r} is a {llm.model.config.model_type}, whose logits differ by {gap:.0%} from "
            "those computed from its final hidden states and the rows of its head: its head or its attention is of an "
            "unsupported kind. Choose another `source` of the catalog entry `base_llm`."
        )


def quantization_config(quantization: str | None, dtype: torch.dtype, device: torch.device) -> Any:
    """Return the bitsandbytes settings of the frozen weights; the adapter stays in float32, the head in ``dtype``.

    ``8bit`` is LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339), as in the RecLoRA paper. ``4bit`` is QLoRA's
    (Dettmers et al. 2023, arXiv 2305.14314): NormalFloat-4 with double quantisation, which costs no accuracy there and
    saves another 0.4 bits per weight; products are computed in ``dtype``. ImportError is raised without bitsandbytes,
    ValueError without a GPU or for another setting.
    """
    if quantization is None:
        return None
    setting = f"quantization of the catalog entry `base_llm` is {quantization!r}"
    if quantization not in get_args(Quantization):
        raise ValueError(f"{setting}; expected 8bit, 4bit or null.")
    if device.type != "cuda":
        raise ValueError(
            f"{setting}, which needs an NVIDIA GPU, but the LLM would be on the device {device}: set quantization to "
            "null, or use a machine with a GPU."
        )
    if find_spec("bitsandbytes") is None:
        raise ImportError(f"{setting}, which needs bitsandbytes: `{install_line('gpu')}`, or set quantization to null.")
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
