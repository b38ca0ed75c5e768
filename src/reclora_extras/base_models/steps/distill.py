"""Distilling of a teacher into the first layers, see `distilling.distill`; the teacher is measured, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reclora_extras.base_models.config import BaseModelConfig
from reclora_extras.base_models.steps import Account, Material, Step

if TYPE_CHECKING:
    from reclora_kedro.llm.language_model import LanguageModel


class Distill(Step):
    """Distilling of the LLM with a trained adapter."""

    has_teacher = True

    @staticmethod
    def remaining_layers(model: Any, layers: int, config: BaseModelConfig) -> int:
        from reclora_extras.base_models import distilling, pruning

        pruning.require_prunable(model)
        distilling.require_layers(layers, config.distill)
        return config.distill.layers

    @staticmethod
    def take(llm: LanguageModel, material: Material, config: BaseModelConfig) -> tuple[LanguageModel, Account]:
        from sklearn.metrics import roc_auc_score

        from reclora_extras.base_models import distilling, pruning
        from reclora_extras.base_models.tuning import answering

        assert material.teacher is not None
        # Before the teacher's adapter is put on its weights.
        student = pruning.with_layers(llm, range(config.distill.layers))
        teacher = material.teacher()
        tokens = config.tokens_per_batch
        student, account = distilling.distill(student, teacher, material.few_shot, config.distill, tokens, config.seed)
        logits, milliseconds = answering(teacher, material.validation, tokens)
        auc = float(roc_auc_score(material.validation.labels, logits))
        return student, account | {"teacher_auc": auc, "teacher_milliseconds_per_row": milliseconds}
