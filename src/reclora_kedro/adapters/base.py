"""The interface of an adapter method: a PEFT tuner, and what the project needs to know of it."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from peft import PeftConfig, PeftModel
from torch import Tensor


class AdapterSettings(Protocol):
    """What may be set of a method's adapters under ``adapter`` of a variant: a dataclass that pydantic checks."""

    method: str
    """Name of the method."""


@dataclass
class TrainedOn:
    """What an adapter was made for; PEFT keeps it in ``adapter_config.json``, of which it is a part."""

    base_llm: dict[str, Any] | None = field(
        default=None, metadata={"help": "name and digests of the base LLM that the adapter was trained on"}
    )
    gate_input: str | None = field(
        default=None, metadata={"help": "name of what the gates were trained to read, for whoever scores or exports"}
    )
    gate_dim: int | None = field(
        default=None, metadata={"help": "width of the gates' inputs; needed where there are several meta-LoRAs"}
    )


class UserLoras(Protocol):
    """LoRAs of single users, ready to be written."""

    def save(self, folder: Path, before: Path | None = None) -> None:
        """Write a folder per user, each a PEFT checkpoint of its own; files that are as they were before are linked."""

    def table(self) -> list[dict[str, Any]]:
        """One record per user: user_id, folder, and whatever the method has to say of them."""


class AdapterMethod:
    """A method of adapting a base LLM; as it stands here, one without gates, of which nothing is known.

    A method is a module with an instance of a subclass as ``METHOD``. PEFT creates, saves and loads its adapters, so
    the module registers its configuration and tuner in PEFT's mappings. The configuration is a
    `TrainedOn` with the field ``method``.
    """

    name: ClassVar[str]
    """What ``adapter.method`` calls it."""
    settings: ClassVar[type]
    """Its `AdapterSettings`."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Names of what it measures at each validation, columns of the training log, see :meth:`measure`."""
    gate_input: ClassVar[str] = ""
    """What the name of the gate input that its adapters read begins with."""
    exports_loras: ClassVar[bool] = False
    """Whether its adapters give a user a LoRA of their own, see :meth:`user_loras`."""

    def require(self, model: Any, settings: Any) -> None:
        """Refuse settings that do not fit a base LLM; its weights are not looked at, the meta device will do.

        Raises:
            ValueError: the LLM has no such layers.
        """

    def peft_config(self, model: Any, settings: Any, trained_on: TrainedOn) -> PeftConfig:
        """What PEFT makes a fresh adapter of, which must leave the base LLM's outputs as they are."""
        raise NotImplementedError

    def prepare(self, adapted: PeftModel, gate_inputs: Tensor) -> None:
        """Let a fresh adapter see the gate inputs of the samples to learn from, shape (samples, gate_dim)."""

    def keeps_statistics(self, settings: Any) -> bool:
        """Whether `prepare` leaves statistics of the samples in an adapter with these settings."""
        return False

    def has_gates(self, config: Any) -> bool:
        """Whether an adapter of this PEFT configuration reads gate inputs."""
        return False

    def context(self, adapted: PeftModel, gate_inputs: Tensor | None) -> AbstractContextManager[None]:
        """Forward passes, and their backward passes, inside are personalized by gate inputs, shape (batch, gate_dim).

        None leaves them as they are.
        """
        return nullcontext()

    def measure(self, adapted: PeftModel, gate_inputs: Tensor) -> dict[str, float]:
        """What is to be logged of an adapter at a validation, of samples with gate inputs (samples, gate_dim)."""
        return {}

    def gate_weights(self, adapted: PeftModel, gate_inputs: Tensor) -> Tensor | None:
        """How gates mix what is personalized, as the mean over all gates: (batch, parts); None without gates.

        Args:
            adapted: a base LLM with an adapter of this method.
            gate_inputs: shape (batch, gate_dim).
        """
        return None

    def user_loras(self, adapted: PeftModel, user_states: Tensor, user_ids: list[Any], note: str) -> UserLoras:
        """The LoRA of each user under an adapter.

        Args:
            adapted: a base LLM with an adapter of this method.
            user_states: what the gates read of the users, the lens states ``user``, shape (users, gate_dim).
            user_ids: whose states they are, which also names the folders.
            note: what a server has to do beyond loading the LoRAs; empty where that is all.
        """
        raise NotImplementedError
