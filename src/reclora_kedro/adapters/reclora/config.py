"""Configuration of the personalized LoRA, saved by PEFT as ``adapter_config.json``."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from peft import PeftConfig

Composition = Literal["product_of_sums", "sum_of_products"]
GateInput = Literal["target", "user", "fields", "feedback"]
StateNorm = Literal["standard", "layer"]
GateScope = Literal["per_projection", "shared"]
Routing = Literal["soft", "top_k"]
CHOICES = {
    "composition": get_args(Composition),
    "gate_input": get_args(GateInput),
    "state_norm": get_args(StateNorm),
    "gate_scope": get_args(GateScope),
    "routing": get_args(Routing),
}


@dataclass
class RecLoraConfig(PeftConfig):
    """Sizes and routing of a personalized LoRA (RecLoRA, arXiv 2408.03533, section 3.3).

    Every adapted projection holds ``num_meta_loras`` pairs ``A_k`` (r × in), ``B_k`` (out × r); a gate turns a
    sample's frozen lens state into weights over them. With one meta-LoRA there is nothing to route: there is no gate,
    and the adapter is a plain LoRA.

    Args:
        r: rank of each meta-LoRA.
        lora_alpha: the update is scaled by ``lora_alpha / r``.
        target_modules: names (or a regular expression) of the linear layers to adapt.
        exclude_modules: names (or a regular expression) of layers to leave as they are.
        layers_to_transform: numbers of the transformer layers to adapt, from 0; None adapts all.
        num_meta_loras: number N of meta-LoRAs.
        lens_dim: width of the lens states that the gates read; needed when ``num_meta_loras`` > 1.
        gate_hidden_dim: width of each gate's hidden layer.
        gate_dropout: dropout rate inside the gates, in training only.
        state_norm: how a gate normalises lens states: ``standard`` centres and scales them as a whole, by
            :meth:`RecLoraModel.standardize_states`; ``layer`` is a LayerNorm of each state, as in the authors' code.
        gate_scope: ``per_projection`` gives every adapted projection a gate of its own, ``shared`` one gate to all.
        temperature: softmax temperature of the gates; large values approach a plain average.
        routing: ``soft`` mixes all meta-LoRAs; ``top_k`` keeps a sample's ``top_k`` greatest weights, which then sum
            to one.
        top_k: how many meta-LoRAs a sample uses, at most ``num_meta_loras``; for ``routing: top_k`` only.
        lens_prior: whether the answer's logit is the LLM's plus ``w`` times the lens's, ``w`` learned from 1 on.
        answer_temperature: what the LLM's logit of the answer is divided by. An untrained LLM says Yes to some prompts
            more readily than to others; above 1, less of that is left in what the adapter learns to say.
        lens_average: whether scores are those of the mean of the LLM's logit and the lens's; in training the LLM
            answers alone.
        gate_input: what the gates were trained on: a lens state (``target``, ``user`` or ``fields``) or ``feedback``,
            statistics of the log; kept with the adapter so that scoring reads the same.
        composition: ``product_of_sums`` is (Σ α_k B_k)(Σ α_k A_k), rank r, as in the authors' code;
            ``sum_of_products`` is Σ α_k B_k A_k, rank N·r, as in the paper's formula.
        base_llm: ``name`` and ``fingerprint`` of the base LLM that the adapter was trained on, for whoever loads it.

    Raises:
        ValueError: a size, rate or name is outside its range; the message names it.

    Examples:
        >>> RecLoraConfig(num_meta_loras=8, lens_dim=128).composition
        'product_of_sums'
        >>> RecLoraConfig(num_meta_loras=8)
        Traceback (most recent call last):
        ...
        ValueError: lens_dim is None, but 8 meta-LoRAs are routed by lens states: give the width of the states.
    """

    r: int = field(default=8, metadata={"help": "rank of each meta-LoRA"})
    lora_alpha: float = field(default=16, metadata={"help": "the update is scaled by lora_alpha / r"})
    target_modules: list[str] | set[str] | str | None = field(
        default_factory=lambda: ["q_proj", "v_proj"],
        metadata={"help": "names or regex of the layers to adapt"},
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "names or regex of the layers to leave as they are"}
    )
    layers_to_transform: list[int] | None = field(
        default=None, metadata={"help": "numbers of the transformer layers to adapt"}
    )
    num_meta_loras: int = field(default=8, metadata={"help": "number of meta-LoRAs; 1 is a plain LoRA"})
    lens_dim: int | None = field(default=None, metadata={"help": "width of the lens states that gates read"})
    gate_hidden_dim: int = field(default=60, metadata={"help": "width of each gate's hidden layer"})
    gate_dropout: float = field(default=0.1, metadata={"help": "dropout rate inside the gates"})
    gate_input: GateInput = field(default="target", metadata={"help": "lens state that the gates read"})
    state_norm: StateNorm = field(
        default="standard", metadata={"help": "standard (centred and scaled as a whole) or layer (LayerNorm)"}
    )
    gate_scope: GateScope = field(
        default="per_projection", metadata={"help": "per_projection (a gate each) or shared (one gate for all)"}
    )
    temperature: float = field(default=1.0, metadata={"help": "softmax temperature of the gates"})
    routing: Routing = field(default="soft", metadata={"help": "soft (all meta-LoRAs) or top_k (the greatest weights)"})
    top_k: int | None = field(default=None, metadata={"help": "meta-LoRAs that a sample uses, for routing top_k"})
    lens_prior: bool = field(default=False, metadata={"help": "add the lens's logit, times a learned weight"})
    answer_temperature: float = field(default=1.0, metadata={"help": "the LLM's logit of the answer is divided by it"})
    lens_average: bool = field(default=False, metadata={"help": "score by the mean of the LLM's and the lens's logit"})
    composition: Composition = field(
        default="product_of_sums", metadata={"help": "product_of_sums (rank r) or sum_of_products (rank N·r)"}
    )
    base_llm: dict[str, Any] | None = field(default=None, metadata={"help": "name and fingerprint of the base LLM"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "RECLORA"
        for name in ("target_modules", "exclude_modules"):
            if isinstance(getattr(self, name), list):
                setattr(self, name, set(getattr(self, name)))
        for name in ("r", "num_meta_loras", "gate_hidden_dim", "temperature", "answer_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be greater than 0.")
        if not 0 <= self.gate_dropout < 1:
            raise ValueError(f"gate_dropout is {self.gate_dropout}; it must be at least 0 and below 1.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {' or '.join(choices)}.")
        check_routing(self.routing, self.top_k, self.num_meta_loras)
        check_lens_part(self.lens_prior, self.lens_average)
        if self.num_meta_loras > 1 and self.lens_dim is None:
            raise ValueError(
                f"lens_dim is None, but {self.num_meta_loras} meta-LoRAs are routed by lens states: "
                "give the width of the states."
            )


def check_routing(routing: str, top_k: int | None, num_meta_loras: int) -> None:
    """Refuse a ``top_k`` that does not belong to the routing, or that exceeds the number of meta-LoRAs."""
    if (top_k is not None) != (routing == "top_k"):
        raise ValueError(f"top_k is {top_k} with routing {routing!r}: give top_k with routing 'top_k', and only then.")
    if top_k is not None and not 0 < top_k <= num_meta_loras:
        raise ValueError(f"top_k is {top_k}; it must be at least 1 and at most num_meta_loras, {num_meta_loras}.")


def check_lens_part(lens_prior: bool, lens_average: bool) -> None:
    """Refuse two ways at once for the lens's logit to join the LLM's."""
    if lens_prior and lens_average:
        raise ValueError(
            "lens_prior and lens_average are both true: the lens's logit joins the LLM's one way or other."
        )
