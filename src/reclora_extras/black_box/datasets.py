"""Load-only datasets of a black box: the API of an LLM, and its earlier answers."""

from typing import Any, ClassVar

from reclora_extras.black_box.chat_api import ChatApi
from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.datasets.load_only import LoadOnlyDataset


class ChatApiDataset(LoadOnlyDataset):
    """Load a model of an OpenAI-compatible API; for arguments see :class:`reclora_extras.black_box.chat_api.ChatApi`.

    The credentials have an ``api_key``, if the API needs one.
    """

    RESOURCES: ClassVar = ("concurrency", "timeout_seconds", "max_retries")
    """Arguments that say how it is called, but change no results."""

    def __init__(
        self, *, credentials: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        self._arguments = arguments
        self._api_key = (credentials or {}).get("api_key")
        self.metadata = metadata

    def load(self) -> Any:
        """Return the API as :class:`reclora_extras.black_box.chat_api.ChatApi`."""
        return ChatApi(**self._arguments, api_key=self._api_key)

    def _describe(self) -> dict[str, Any]:
        return self._arguments


class KeptAnswersDataset(CheckpointStoreDataset):
    """Load a folder of answers by content, which stay after the node: each call is paid once."""

    def load(self) -> Any:
        """Return the folder as :class:`reclora_kedro.distributed.checkpoints.FinishedShards`."""
        from reclora_kedro.distributed.checkpoints import FinishedShards

        return FinishedShards(self._filepath, "answers", self._credentials)

    def clear(self) -> None:
        """Keep all answers."""
