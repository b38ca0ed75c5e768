"""The architecture in dark colours: `python docs/_extensions/pictures.py` makes it of the light picture."""

from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"
LIGHT, DARK = IMAGES / "architecture.svg", IMAGES / "architecture-dark.svg"
COLOURS = {
    "#fff": "#0d1117",
    "#eef3fb": "#14263f",
    "#3b6fb6": "#6ea0e6",
    "#fdf1e3": "#38290f",
    "#c9761d": "#e39a4a",
    "#e9f6ec": "#12301b",
    "#2e8b4f": "#5cbf7f",
    "#f4f4f4": "#21262d",
    "#777": "#8b949e",
    "#1b1b1b": "#e6edf3",
    "#444": "#b1bac4",
    "#555": "#9aa4af",
}
"""Dark colours by the light ones."""


def darkened(svg: str) -> str:
    """Return a picture in dark colours.

    Examples:
        >>> darkened(".bg{fill:#fff}.t{fill:#1b1b1b}")
        '.bg{fill:#0d1117}.t{fill:#e6edf3}'
    """
    for light, dark in COLOURS.items():
        for end in ("}", ";", '"'):
            svg = svg.replace(light + end, dark + end)
    return svg


if __name__ == "__main__":
    DARK.write_text(darkened(LIGHT.read_text(encoding="utf-8")), encoding="utf-8")
