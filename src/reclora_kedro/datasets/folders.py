"""Versioned folders of the log, models and adapters."""

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import polars as pl
from kedro.io import AbstractVersionedDataset, DatasetError, Version
from safetensors import SafetensorError, safe_open

from kedro_provenance.files.storage import is_remote
from reclora_kedro.datasets.previews import JSONPreview, TablePreview
from reclora_kedro.history.log import InteractionLog


class FolderDataset(AbstractVersionedDataset[Any, Any]):
    """A folder of files; versions become subfolders.

    Data are saved by their own ``save(folder)`` and loaded as the folder's path, unless a subclass overrides this. The
    catalog saves atomically, see :class:`kedro_provenance.catalog.AtomicCatalog`; a version with missing or truncated
    files does not exist, and loading it is refused, as is a folder in an object storage without versions.
    """

    FILES: ClassVar[tuple[str, ...]]
    """Files of a complete folder."""

    before: Path | None = None
    """Folder of the version before the one being saved, set by the catalog; None if there is none."""

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        if is_remote(filepath):
            raise DatasetError(
                f"{filepath} is in an object store, where folders need versions: set `versioned: true` in its catalog "
                "entry."
            )
        super().__init__(
            filepath=PurePosixPath(filepath), version=version, exists_function=lambda path: Path(path).is_dir()
        )
        self.metadata = metadata

    def write(self, data: Any, folder: Path) -> None:
        data.save(folder)

    def read(self, folder: Path) -> Any:
        return str(folder)

    def load(self) -> Any:
        """Load the data, or raise DatasetError if the folder is missing or incomplete."""
        folder = Path(self._get_load_path())
        if fault := self._fault(folder):
            raise DatasetError(
                f"{folder} is incomplete: {fault}. Remove that version and make it again, or name another version with "
                "--load-versions."
            )
        return self.read(folder)

    def save(self, data: Any) -> None:
        folder = Path(self._get_save_path())
        folder.mkdir(parents=True, exist_ok=True)
        self.write(data, folder)

    def _fault(self, folder: Path) -> str | None:
        """Describe what is missing or damaged in a folder; None if it is complete."""
        missing = [name for name in self.FILES if not (folder / name).is_file()]
        if missing:
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        for name in self.FILES:
            try:
                check_file(folder / name)
            except (ValueError, OSError, SafetensorError, pl.exceptions.ComputeError) as error:
                return f"{name} is cut short or damaged ({error})"
        return None

    def _exists(self) -> bool:
        try:
            return self._fault(Path(self._get_load_path())) is None
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def check_file(file: Path) -> None:
    if file.suffix == ".json":
        json.loads(file.read_text(encoding="utf-8"))
    elif file.suffix == ".safetensors":
        with safe_open(file, framework="numpy"):  # reads the header and compares it with the file's size
            pass
    elif file.suffix == ".parquet":
        pl.read_parquet_schema(file)
    elif file.suffix == ".arrow":
        pl.read_ipc_schema(file)


class InteractionLogDataset(FolderDataset):
    """Saves and loads :class:`reclora_kedro.history.log.InteractionLog` without item embeddings."""

    FILES: ClassVar[tuple[str, ...]] = (
        "items.parquet",
        "users.parquet",
        "samples.arrow",
        "sequences.safetensors",
    )

    def read(self, folder: Path) -> Any:
        return InteractionLog.load(folder)

    def preview(self, nrows: int = 5) -> TablePreview:
        samples = pl.read_ipc(Path(self._get_load_path()) / "samples.arrow", n_rows=nrows)
        return samples.to_pandas().to_dict(orient="split")


class EmbeddedLogDataset(InteractionLogDataset):
    """Saves and loads the log with item embeddings."""

    FILES: ClassVar = (*InteractionLogDataset.FILES, "item_embeddings.safetensors")


class JSONFolderDataset(FolderDataset):
    """A folder whose first file is JSON, which kedro-viz shows."""

    def preview(self) -> JSONPreview:
        return JSONPreview((Path(self._get_load_path()) / self.FILES[0]).read_text(encoding="utf-8"))


class LensDataset(JSONFolderDataset):
    """Saves and loads a frozen :class:`reclora_kedro.lens.base.Lens`: its settings, sizes and weights."""

    FILES: ClassVar = ("lens.json", "lens.safetensors")

    def read(self, folder: Path) -> Any:
        from reclora_kedro.lens.base import load_lens

        return load_lens(folder)


class RetrieverDataset(JSONFolderDataset):
    """Saves and loads settings, sizes and weights of :class:`reclora_kedro.candidates.next_item.base.Retriever`."""

    FILES: ClassVar = ("retriever.json", "retriever.safetensors")

    def read(self, folder: Path) -> Any:
        from reclora_kedro.candidates.next_item.base import load_retriever

        return load_retriever(folder)


class ItemEncoderDataset(JSONFolderDataset):
    """Saves and loads a :class:`reclora_kedro.llm.sentence_encoder.SentenceEncoder`, frozen and in eval mode."""

    FILES: ClassVar = ("config.json", "model.safetensors", "tokenizer.json", "modules.json", "1_Pooling/config.json")
    RESOURCES: ClassVar = ("device",)  # which changes no result

    def __init__(
        self,
        *,
        filepath: str,
        device: str = "auto",
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._device = device

    def read(self, folder: Path) -> Any:
        from reclora_kedro.llm.sentence_encoder import load_sentence_encoder

        return load_sentence_encoder(str(folder), device=self._device)


class BaseLLMDataset(JSONFolderDataset):
    """Saves a :class:`reclora_kedro.llm.language_model.LanguageModel` in transformers' layout; loads the folder.

    The folder may be the ``source`` of the catalog entry `base_llm`.
    """

    FILES: ClassVar = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


class PeftAdapterDataset(JSONFolderDataset):
    """Saves the active adapter of a PEFT model, or a copy of a saved adapter's folder.

    It loads the folder, for ``PeftModel.from_pretrained(llm, folder)``.
    """

    FILES: ClassVar = ("adapter_config.json", "adapter_model.safetensors")

    def write(self, data: Any, folder: Path) -> None:
        """Write the adapter without the base LLM."""
        if isinstance(data, str):
            shutil.copytree(data, folder, dirs_exist_ok=True)
            return
        data.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)


class UserAdaptersDataset(FolderDataset):
    """Saves the LoRAs of users, one subfolder each, and loads the folder.

    See :class:`reclora_kedro.adapters.lora.UserLoras`.

    LoRAs that have not changed since the previous version are hard links to it.
    """

    FILES: ClassVar = ("README.md",)

    def write(self, data: Any, folder: Path) -> None:
        data.save(folder, self.before)

    def preview(self) -> JSONPreview:
        configs = sorted(Path(self._get_load_path()).glob("*/adapter_config.json"))
        return JSONPreview(json.dumps({"adapters": len(configs), **json.loads(configs[0].read_text(encoding="utf-8"))}))
