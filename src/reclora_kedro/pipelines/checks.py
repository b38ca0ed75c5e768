"""Checks before a run: raw tables, the base LLM, prompts and devices.

They are the checks of the nodes themselves, without loading the weights of the base LLM. A run that needs none of this
imports no deep learning library either.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import DataCatalog
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline

from codeprint.files import files_in, paths_at
from kedro_provenance.files.storage import is_remote
from reclora_kedro.adapters.registry import adapter_method
from reclora_kedro.distributed.engine import connect
from reclora_kedro.extras import missing_extra, require_extra
from reclora_kedro.ingestion.config import IngestionConfig
from reclora_kedro.lens.config import require_field
from reclora_kedro.llm import prompts
from reclora_kedro.pipelines.registry import PIPELINES

if TYPE_CHECKING:
    from reclora_kedro.history.config import HistoryConfig

EXTRAS_OF_TYPES = {
    "reclora_kedro.datasets.causal_lm.": "llm",
    "reclora_kedro.datasets.sentence_encoder.": "llm",
    "reclora_kedro.datasets.folders.ItemEncoderDataset": "llm",
    "reclora_kedro.datasets.folders.LensDataset": "lens",
    "reclora_kedro.datasets.folders.RetrieverDataset": "lens",
    "pandas.": "arrow",
}
"""Extras whose packages catalog entries need to be read, by how their types begin."""
UNREAD_ADDRESSES = ("zip:", "tar:", "libarchive:", "simplecache:", "filecache:", "blockcache:")
"""How addresses begin that name a file within another one, or a cache of it."""
RAW_TABLES = ("raw_interactions", "raw_items", "raw_item_texts", "raw_users")
WITHOUT_MODELS = "To rank without lens and LLM: `--params ranking.variant=null,ranking.lens=false`. "


def checks(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield functions that raise an error if a node would."""
    inputs = pipeline.inputs()
    yield partial(require_addresses, pipeline, catalog)
    raw_tables = {name: catalog.config_resolver.resolve_pattern(name) for name in RAW_TABLES if name in inputs}
    if len(raw_tables) > 1:
        yield partial(require_one_data_set, raw_tables)
    otherwise = WITHOUT_MODELS if "params:ranking" in inputs else ""
    for name in sorted(name for name in inputs if not is_parameter(name)):
        entry = catalog.config_resolver.resolve_pattern(name)
        if entry.get("file_format") == "parquet" and not entry.get("versioned"):
            yield partial(require_whole_parts, name, entry["filepath"])
        kind = str(entry.get("type"))
        extra = next((extra for prefix, extra in EXTRAS_OF_TYPES.items() if kind.startswith(prefix)), "")
        if extra:
            yield partial(require_extra, extra, f"The catalog entry {name}", otherwise if extra != "arrow" else "")
    if {"params:ingestion", "params:history", "params:lens"} <= inputs:
        yield partial(require_negatives, catalog.load("params:ingestion"), catalog.load("params:history"))
    trained = [block for block in ("lens", "retriever") if f"params:{block}" in inputs]
    if trained and missing_extra("lens", ""):
        yield partial(require_extra, "lens", f"Training the {' and the '.join(trained)}")
        trained = []
    for block in trained:
        from reclora_kedro.devices import choose_device

        yield partial(choose_device, catalog.load(f"params:{block}").device)
    if "lens" in trained:
        from reclora_kedro.lens.base import require_lens

        yield partial(require_lens, catalog.load("params:lens"))
    if "retriever" in trained:
        from reclora_kedro.candidates.next_item.base import require_retriever

        yield partial(require_retriever, catalog.load("params:retriever"))
    if "params:engine" in inputs:
        engine = catalog.load("params:engine")
        yield engine.require_scratch
        if engine.spreads:
            yield partial(connect, engine)
        for block in trained:
            yield partial(engine.require_parts, catalog.load(f"params:{block}").batch_parts, block)
    for name in sorted({str(node.namespace).partition(".")[0] for node in pipeline.nodes} & PIPELINES.modules().keys()):
        if own := getattr(PIPELINES.load(name), "checks", None):
            yield from own(pipeline, catalog)
    for name in sorted(name for name in inputs if not is_parameter(name)):
        if check := getattr(catalog.get(name), "require_sound", None):
            yield check
    base_llm = catalog.get("base_llm") if "base_llm" in inputs else None
    if hasattr(base_llm, "outline") and missing_extra("llm", "") is None:
        yield from checks_of_base_llm(base_llm, pipeline, catalog)


def require_addresses(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Raise ValueError for entries that the run cannot save, and for addresses of a kind that nothing here reads."""
    names = sorted(name for name in pipeline.datasets() if not is_parameter(name))
    addresses = {name: str(catalog.config_resolver.resolve_pattern(name).get("filepath", "")) for name in names}
    faults = [
        f"{name}: addresses such as {address} are not read here. Unpack or copy it, and name the file itself"
        for name, address in addresses.items()
        if address.startswith(UNREAD_ADDRESSES)
    ]
    for name in sorted(pipeline.all_outputs() & {name for name, address in addresses.items() if address}):
        if is_remote(addresses[name]):
            continue
        place = Path(addresses[name]).absolute()
        folder = next(each for each in (place, *place.parents) if each.is_dir())
        if not os.access(folder, os.W_OK):
            faults.append(f"{name}: {folder} may not be written. Change its permissions, or `data` in globals.yml")
    if faults:
        raise ValueError("; ".join(faults) + ".")


def require_one_data_set(raw_tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError for raw tables of several data sets, such as a log and conf/base's users, with lines to add.

    `metadata.data_set` of a catalog entry names its data set.
    """
    tables = {name: entry for name, entry in raw_tables.items() if "data" not in entry or entry["data"] is not None}
    data_sets = {name: (entry.get("metadata") or {}).get("data_set") for name, entry in tables.items()}
    if len(set(data_sets.values())) > 1:
        named_tables = ", ".join(
            f"{name} of {data_set or 'one without a name'}" for name, data_set in data_sets.items()
        )
        raise ValueError(
            f"The raw tables are of different data sets: {named_tables}. Ids of one data set would be described by "
            "another, because an environment inherits each entry of conf/base that it does not define. Define all of "
            "them in the environment; if its data have no such table, `raw_users: {type: MemoryDataset, data: null}` "
            "and, in parameters.yml, `ingestion: {users: null}`. Tables that belong together have the same `metadata: "
            "{data_set: ...}`."
        )


def require_negatives(ingestion: IngestionConfig, history: "HistoryConfig") -> None:
    """Raise ValueError if every row of the log is a like and no negatives are drawn."""
    columns = ingestion.interactions
    if columns.rating is None and not columns.has_impressions and history.negatives.kind == "none":
        raise ValueError(
            "ingestion.interactions.rating is null, so that every row is a like, but lens, LLM and evaluation also "
            "need rows that users did not like. Recommendations do not need them: a plain `kedro run` makes lists. For "
            "the rest, add `history: {negatives: {kind: matched}}` to parameters.yml of the environment, and `prompt: "
            "{template: purchases}` for prompts that only list titles."
        )


def require_whole_parts(name: str, filepath: str) -> None:
    """Raise ValueError if one of a table's parquet files is empty, which polars would skip."""
    for path in paths_at(filepath):
        for part in files_in(path):
            if not part.stat().st_size and not part.name.startswith(("_", ".")):  # Spark leaves an empty _SUCCESS
                raise ValueError(f"{name}: {part} is empty: copy or download this part again.")


def checks_of_base_llm(base_llm: Any, pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Callable[[], object]]:
    """Yield the checks that need the base LLM, which follow only if it exists."""
    from reclora_kedro.finetuning.continuation import require_further_training

    inputs, outlined = pipeline.inputs(), []
    yield lambda: outlined.append(base_llm.outline())
    if not outlined:
        return
    [llm] = outlined
    if "params:prompt" in inputs:
        config = catalog.load("params:prompt")
        yield partial(prompts.prompt_format, llm.tokenizer, config)
        yield partial(prompts.require_context, config, llm.context_tokens)
        if (template := f"{config.template}.prompt_template") in inputs:
            yield lambda: prompts.require_template(catalog.load(template), config, configured_fields(catalog))
    declared = configured_fields(catalog)
    fields = [*declared.items, *declared.users]
    variants = (name.removesuffix(".adapter") for name in pipeline.all_outputs() if name.endswith(".adapter"))
    for name in sorted({f"params:finetuning.variants.{variant}" for variant in variants} & inputs):  # not merged ones
        variant = catalog.load(name)
        yield partial(adapter_method(variant.adapter.method).require, llm.model, variant.adapter)
        yield partial(require_field, variant.gate_input, fields)
        yield variant.training.privacy.require_ready
        if "params:update.adapter" in inputs:
            yield partial(require_further_training, variant.training)


def configured_fields(catalog: DataCatalog) -> prompts.ExampleFields:
    """Return the fields of items and users, and what prompts read of declared columns, each with an example."""
    ingestion = IngestionConfig.model_validate(catalog.load("params:ingestion"))
    tables = (ingestion.items, ingestion.item_texts), (ingestion.users,)
    items, users = (
        {field.name: field.example for table in group if table for field in table.fields} for group in tables
    )
    columns = {each.name: each.example for each in ingestion.interactions.events.read_by("prompt")}
    return prompts.ExampleFields(items, users, columns)
