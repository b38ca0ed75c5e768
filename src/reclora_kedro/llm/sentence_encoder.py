"""Sentence encoders: transformers trained so that similar texts have similar vectors."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reclora_kedro.devices import choose_device, choose_dtype
from reclora_kedro.distributed.engine import LOCAL, EngineConfig, OncePerWorker, map_shards
from reclora_kedro.llm.batching import TokenBudget, mean_of_tokens, pad_right
from reclora_kedro.llm.language_model import LanguageModel, context_of, refusing
from reclora_kedro.progress import Progress

POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
"""Supported settings of ``1_Pooling/config.json`` and the pooling that each selects."""

POOLING, PROMPTS = "1_Pooling", "config_sentence_transformers.json"
MODULES = {"": "Transformer", POOLING: "Pooling", "2_Normalize": "Normalize"}
"""Modules of a sentence-transformers model in order, by folder."""


@dataclass(frozen=True)
class SentenceEncoder:
    """A frozen encoder and its tokenizer; ``pooling`` is the ``mean`` over tokens, or the ``first`` token."""

    model: Any
    tokenizer: Any
    name: str
    pooling: str
    requested_device: str = "auto"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def context_tokens(self) -> int:
        """Maximum length of a text; RoBERTa and its kin have two positions more than that."""
        return min(context_of(self.model), self.tokenizer.model_max_length)

    def to(self, device: str) -> "SentenceEncoder":
        return replace(self, model=self.model.to(choose_device(device)))

    def loader(self, on_gpu: bool) -> "Callable[[], SentenceEncoder]":
        """Return a function that puts a copy, sent to another process, on its GPU unless ``cpu`` was requested."""
        device = "auto" if on_gpu and self.requested_device != "cpu" else "cpu"
        return partial(replace(self, model=copy.deepcopy(self.model).cpu()).to, device)

    def tokenize(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Return token ids with the encoder's special tokens; special tokens in a text are plain characters."""
        longest = min(max_tokens, self.context_tokens)
        return self.tokenizer(texts, truncation=True, max_length=longest, split_special_tokens=True)["input_ids"]

    def encode(self, token_ids: Tensor, last: Tensor) -> Tensor:
        """Encode right-padded texts as vectors of unit length: float32, shape (batch, width)."""
        real = torch.arange(token_ids.shape[1], device=token_ids.device) <= last[:, None]
        states = self.model(input_ids=token_ids, attention_mask=real.long()).last_hidden_state
        pooled = mean_of_tokens(states, last) if self.pooling == "mean" else states[:, 0].float()
        return functional.normalize(pooled, dim=-1)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        modules = [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(MODULES.items())
        ]
        pooling = {name: how == self.pooling for name, how in POOLINGS.items()}
        files = {
            "modules.json": modules,
            "sentence_bert_config.json": {"max_seq_length": self.context_tokens},
            f"{POOLING}/config.json": {"word_embedding_dimension": self.width, **pooling},
        }
        (folder / POOLING).mkdir()
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def lower_layers(encoder: SentenceEncoder | LanguageModel, layers: int | None) -> SentenceEncoder:
    """Return a float32 copy with the first layers (None: all); ValueError for fewer layers, or unfit weights."""
    from transformers import AutoModel

    if getattr(encoder.model, "is_quantized", False):
        raise ValueError(
            f"{encoder.name!r} has quantised weights, which cannot be tuned as an encoder: set `quantization` of its "
            "catalog entry to null, or choose another item_encoder.base."
        )
    config = copy.deepcopy(encoder.model.config.get_text_config())
    if layers is not None:
        if layers > config.num_hidden_layers:
            raise ValueError(
                f"item_encoder.layers is {layers}, but {encoder.name!r} has {config.num_hidden_layers}: lower it, or "
                "set it to null for all."
            )
        config.num_hidden_layers = layers
        if len(getattr(config, "layer_types", None) or ()) > layers:  # unless they follow from the number of layers
            config.layer_types = config.layer_types[:layers]
    model = AutoModel.from_config(config, dtype=torch.float32)
    if isinstance(encoder, SentenceEncoder):
        own, copied, pooling = encoder.model, model, encoder.pooling
    else:  # of an LLM that also sees, the part that reads text
        own, copied, pooling = encoder.model.get_decoder(), model.get_decoder(), "mean"
    missing, _ = copied.load_state_dict(own.state_dict(), strict=False)  # which has further layers
    if missing:
        raise ValueError(
            f"{encoder.name!r} lacks {len(missing)} weights of a {type(model).__name__}, which would be random numbers "
            f"in the item encoder, for example {missing[0]}: choose another item_encoder.base."
        )
    return SentenceEncoder(model.to(encoder.device), encoder.tokenizer, encoder.name, pooling)


@refusing
def load_sentence_encoder(source: str, revision: str | None = None, device: str = "auto") -> SentenceEncoder:
    """Load a sentence encoder in the layout of sentence-transformers, from safetensors, without running remote code.

    `source` is a hub id such as ``sentence-transformers/all-MiniLM-L6-v2``, or a local folder. FileNotFoundError is
    raised if it does not exist or lacks a file, ValueError for a pooling that is not supported, or where
    :func:`reclora_kedro.llm.pretrained.load_pretrained` refuses it.
    """
    from transformers import AutoModel, AutoTokenizer

    from reclora_kedro.llm.pretrained import load_pretrained, require_sound

    version: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        if Path(source).is_file():
            raise FileNotFoundError(f"it is a file: name its folder, {Path(source).parent}.")
        pooling = read_pooling(source, **version)
        tokenizer = load_pretrained(AutoTokenizer, source, **version)
        model = load_pretrained(AutoModel, source, dtype=torch.float32, **version)
    except OSError as error:
        raise FileNotFoundError(
            f"The sentence encoder {source!r} could not be loaded: {error}\n"
            "Expected a hub id, or a local folder with config.json, tokenizer files and *.safetensors weights. Change "
            "`source` of its catalog entry, or history.item_embedding.encoders."
        ) from error
    require_sound(model, tokenizer, source)
    return SentenceEncoder(model.requires_grad_(False).eval(), tokenizer, source, pooling, device).to(device)


def read_pooling(source: str, **version: str) -> str:
    """Return the pooling of an encoder, ``mean`` or ``first``; ``mean`` if no file names one.

    ValueError is raised for other modules or poolings, or a prompt before each text.
    """
    from reclora_kedro.llm.pretrained import read_json

    modules = {
        str(module.get("path", "")): str(module.get("type")).rpartition(".")[2]
        for module in read_json(source, "modules.json", list, **version)
    }
    kinds = [*modules.values()]
    prompts = read_json(source, PROMPTS, **version)
    prompt = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"))
    folder = next((path for path, kind in modules.items() if kind == "Pooling"), POOLING)
    settings = read_json(source, f"{folder}/config.json", **version)
    chosen = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value]
    fault = ""
    if modules and (kinds not in ([*MODULES.values()], [*MODULES.values()][:2]) or modules.get("") != "Transformer"):
        parts = ", ".join(f"{kind} in {path or 'its folder'}" for path, kind in modules.items())
        fault = (
            f"is made of {parts} (modules.json). Expected a Transformer in its folder, Pooling and optionally "
            "Normalize: other parts would be left out."
        )
    elif prompt:
        fault = f"reads each text after the prompt {prompt!r} ({PROMPTS}), which this project does not add."
    elif settings and (len(chosen) != 1 or chosen[0] not in POOLINGS):
        fault = f"pools by {', '.join(chosen) or 'nothing'}; expected one of {', '.join(POOLINGS)}."
    if fault:
        raise ValueError(f"The sentence encoder {source!r} {fault} Choose another `source` of its catalog entry.")
    return POOLINGS[chosen[0]] if chosen else "mean"


TextEncoder = LanguageModel | SentenceEncoder
"""Encoder of token ids as one vector per text: the mean hidden states of an LLM, or pooled ones."""


@torch.inference_mode()
def embed_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    max_tokens: int,
    tokens_per_batch: int,
    engine: EngineConfig = LOCAL,
) -> np.ndarray:
    """Embed the first `max_tokens` tokens of texts, float32, shape (texts, hidden); an empty text gets a zero vector.

    Equal texts, such as those of products of one kind, are embedded once. A sentence encoder multiplies in bfloat16
    where the device does so fast, in half the time.
    """
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    if len(distinct) < len(texts):
        embedded = embed_texts(encoder, [*distinct], max_tokens, tokens_per_batch, engine)
        return embedded[[distinct[text] for text in texts]]
    if engine.spreads:
        shards = [[texts[place] for place in part] for part in engine.shards(len(texts))]
        embed_shard = OncePerWorker(partial(_embedding, encoder.loader(engine.uses_gpus), max_tokens, tokens_per_batch))
        return np.concatenate(list(map_shards(embed_shard, shards, engine, "embed items")))
    tokenized = encoder.tokenize(list(texts), max_tokens)
    token_ids = [ids if text else [] for ids, text in zip(tokenized, texts, strict=True)]
    embeddings = np.zeros((len(texts), encoder.width), dtype=np.float32)
    lengths = np.array([len(ids) for ids in token_ids])

    def embed(rows: np.ndarray) -> np.ndarray:
        return encoder.encode(*pad_right([token_ids[row] for row in rows], encoder.device)).cpu().numpy()

    nonempty, fast = np.flatnonzero(lengths), choose_dtype("auto", encoder.device)
    # An LLM has a type of its own. Cosines of an encoder's vectors with those in float32 are 0.9999.
    is_cast = fast == torch.bfloat16 and not isinstance(encoder, LanguageModel)
    products = torch.autocast(encoder.device.type, fast, enabled=is_cast)
    with products, Progress("embed items", len(nonempty), "texts") as progress:
        for rows, vectors in TokenBudget(tokens_per_batch).run(nonempty, lengths, embed):
            embeddings[rows] = vectors
            progress.update(len(rows))
    return embeddings


def _embedding(
    load: Callable[[], TextEncoder], max_tokens: int, tokens_per_batch: int
) -> Callable[[Sequence[str]], np.ndarray]:
    return partial(embed_texts, load(), max_tokens=max_tokens, tokens_per_batch=tokens_per_batch)
