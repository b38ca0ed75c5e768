"""Load-only datasets of a black box: the API of an LLM, and the answers that it gave before."""

from typing import Any, ClassVar

from reclora_kedro.datasets.checkpoint_store import CheckpointStoreDataset
from reclora_kedro.datasets.load_only import LoadOnlyDataset


class ChatApiDataset(LoadOnlyDataset):
    """Gives the model of an OpenAI-compatible API; the entry in conf/base says what each argument means.

    Args:
        base_url: of the API.
        model: the model's name there.
        arguments: what each request says besides.
        concurrency: calls at once.
        timeout_seconds: of a call.
        max_retries: of a call.
        credentials: ``api_key``, where the API asks for one.
        metadata: anything for plugins such as kedro-viz.
    """

    RESOURCES: ClassVar = ("concurrency", "timeout_seconds", "max_retries")
    """Arguments that say how it is called, but change no results."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        arguments: dict[str, Any],
        concurrency: int,
        timeout_seconds: float,
        max_retries: int,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "base_url": base_url,
            "model": model,
            "arguments": arguments,
            "concurrency": concurrency,
            "timeout_seconds": timeout_seconds,
            "max_retries": max_retries,
        }
        self._api_key = (credentials or {}).get("api_key")
        self.metadata = metadata

    def load(self) -> Any:
        """The API as :class:`reclora_extras.black_box.chat_api.ChatApi`."""
        from reclora_extras.black_box.chat_api import ChatApi

        return ChatApi(**self._arguments, api_key=self._api_key)

    def _describe(self) -> dict[str, Any]:
        return self._arguments


class KeptAnswersDataset(CheckpointStoreDataset):
    """Gives a folder of answers by their content, which stay when a node is done: each call is paid for once."""

    def load(self) -> Any:
        """The folder as :class:`reclora_kedro.distributed.finished.FinishedShards`."""
        from reclora_kedro.distributed.finished import FinishedShards

        return FinishedShards(self._filepath, "answers", self._credentials)

    def clear(self) -> None:
        """Keep all answers."""
