"""llms.txt, a list of the site's pages for language models (https://llmstxt.org)."""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def write_llms(app: Sphinx, exception: Exception | None) -> None:
    """Write the pages of each section with their first sentences."""
    if exception is None and app.builder.name == "html":
        index = app.env.get_doctree("index")
        lines = [f"# {app.config.project}", "", f"> {_first_sentence(index)}"]
        for section in index.findall(addnodes.toctree):
            lines += ["", f"## {section['caption']}", ""]
            for page in section["includefiles"]:
                said = _first_sentence(app.env.get_doctree(page))
                lines.append(f"- [{app.env.titles[page].astext()}]({app.builder.get_target_uri(page)}): {said}")
        (Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _first_sentence(page: nodes.document) -> str:
    paragraph = next(text for text in page.findall(nodes.paragraph) if isinstance(text.parent, nodes.section))
    return " ".join(paragraph.astext().split()).partition(". ")[0].rstrip(".:") + "."


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the list at the end of a build."""
    app.connect("build-finished", write_llms)
    return {"parallel_read_safe": True}
