"""Texts for `kedro run --env stages --pipelines base_model`, one file per source in data/01_raw/texts.

    python benchmarks/texts.py movietweetings amazon-beauty

A file per environment has the descriptions and told histories of its stored log's training split, manual.txt the manual
that comes with Python, and packages.txt the descriptions of the installed packages.
"""

import sys
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics

from running import ROOT, open_project

from reclora_extras.base_models.corpus import tell_corpus

FOLDER = ROOT / "data/01_raw/texts"
MIN_WORDS = 20
"""Words of a paragraph that is no heading and no example."""


def paragraphs(documents: list[str]) -> list[str]:
    """Return paragraphs of some length, each once."""
    distinct = dict.fromkeys(part.strip() for text in documents for part in text.split("\n\n"))
    return [text for text in distinct if len(text.split()) >= MIN_WORDS]


def told(environment: str) -> list[str]:
    """Return the texts of an environment's log."""
    project = open_project(environment)
    config = project.parameters["base_model"]
    return tell_corpus(
        project.load("log_without_embeddings"), config.corpus, project.parameters["prompt"], config.seed
    ).texts


def main(environments: list[str], folder: Path = FOLDER) -> None:
    """Write the files, and print their sizes."""
    packages = sorted(str(package.metadata.json.get("description", "")) for package in distributions())
    sources = {"manual": paragraphs(list(topics.values())), "packages": paragraphs(packages)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in ({name: told(name) for name in environments} | sources).items():
        (folder / f"{name}.txt").write_text("\n\n".join(texts), encoding="utf-8")
        print(f"{name}: {len(texts):,} texts, {sum(map(len, texts)) / 1e6:.1f} million characters")


if __name__ == "__main__":
    main(sys.argv[1:])
