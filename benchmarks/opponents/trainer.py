"""The ordinary recipe: PEFT's LoRA under transformers' Trainer, padded batches, the loss over the whole vocabulary."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

IGNORED = -100


def answered(token_ids: Sequence[int], label: int, answers: tuple[int, int]) -> dict[str, list[int]]:
    """A prompt with its answer behind it, which alone is learned."""
    ids = [*token_ids, answers[label]]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED] * len(token_ids) + ids[-1:]}


def ordinary_trainer(
    model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], batch_size: int, learning_rate: float, folder: Path
) -> Trainer:
    """A Trainer that runs one epoch of the rows; it draws its batches at random and pads each to its longest row."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    return Trainer(model, arguments, data_collator=collator, train_dataset=rows)
