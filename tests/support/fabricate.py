"""A small fabricated log and a tiny randomly initialised LLM, for the environment `test`.

`python tests/support/fabricate.py` writes both to data/01_raw/fabricated; then `kedro run --env test` runs the whole
DAG.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

GENRES = ("Action", "Comedy", "Drama", "Horror")
FOLDER = Path("data/01_raw/fabricated")


def fabricate_tables(users: int = 60, items: int = 40, seed: int = 0) -> dict[str, pl.DataFrame]:
    """Raw tables in MovieLens-100K's columns: users like one genre, and some rows are dirty in every known way."""
    generator = np.random.default_rng(seed)
    genre_of = generator.integers(0, len(GENRES), items)
    taste_of = generator.integers(0, len(GENRES), users)
    rows = []
    for user in range(users):
        clock = 880_000_000 + int(generator.integers(0, 4_000_000))
        for item in generator.choice(items, size=int(generator.integers(15, 36)), replace=False):
            clock += int(generator.choice([0, 0, 20, 50_000]))  # many ties, as where a page of ratings is submitted
            likes = genre_of[item] == taste_of[user]
            rating = int(np.clip(round(generator.normal(4.6 if likes else 2.6, 0.8)), 1, 5))
            rows.append((user + 1, int(item) + 1, rating, clock))
    rows += [
        rows[0],
        (1, 2, 9, 880_000_000),
        (2, 3, 4, 0),
        (users + 1, 1, 4, 881_000_000),
        (3, items + 1, 2, 882_000_000),
    ]
    shuffled = [rows[i] for i in generator.permutation(len(rows))]
    return {
        "interactions": pl.DataFrame(
            shuffled, orient="row", schema=dict.fromkeys(("user_id", "movie_id", "rating", "timestamp"), pl.Int64)
        ),
        "items": pl.DataFrame(
            {
                "movie_id": range(1, items + 1),
                "movie_title": [f"{GENRES[g]} Film {i} (1990)" for i, g in enumerate(genre_of, start=1)],
                **{name: (genre_of == g).astype(int) for g, name in enumerate(GENRES)},
            }
        ),
        "users": pl.DataFrame(
            {
                "user_id": range(1, users + 1),
                "age": generator.integers(18, 60, users),
                "gender": generator.choice(["F", "M"], users),
                "occupation": generator.choice(["artist", "engineer", "student"], users),
                "zip_code": [f"{code:05d}" for code in generator.integers(0, 99_999, users)],
            }
        ),
    }


def fabricate_news(events: int = 150, seed: int = 1) -> dict[str, pl.DataFrame]:
    """Raw tables of an update: later events of known users and items and of a new one each, one of them repeated."""
    generator = np.random.default_rng(seed)
    rows = [
        (int(generator.integers(1, 63)), int(generator.integers(1, 43)), int(rating), 890_000_000 + 1_000 * place)
        for place, rating in enumerate(generator.integers(1, 6, events))
    ]
    return {
        "new_interactions": pl.DataFrame(
            [*rows, rows[0], (62, 42, 5, 890_000_001)],
            orient="row",
            schema=dict.fromkeys(("user_id", "movie_id", "rating", "timestamp"), pl.Int64),
        ),
        "new_items": pl.DataFrame(
            {"movie_id": [42], "movie_title": ["Drama Film 42 (1998)"]}
            | {name: int(name == "Drama") for name in GENRES}
        ),
    }


def fabricate_llm(folder: Path, words: tuple[str, ...] = ("Yes", "No")) -> None:
    """Save a two-layer random LLM, with a byte-level tokenizer that has single tokens for `words`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    text = [
        " ".join(("", *words)) * 4,
        *words,
        *GENRES,
        "A user, age gender occupation. Liked: Disliked: New item: Film Would the user like it? Answer Yes or No.",
    ]
    bpe.train_from_iterator(text * 50, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fabricate(folder: Path = FOLDER) -> None:
    """Write the raw tables as CSV files and the LLM as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (fabricate_tables() | fabricate_news()).items():
        table.write_csv(folder / f"{name}.csv")
    fabricate_llm(folder / "llm")


if __name__ == "__main__":
    fabricate(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
