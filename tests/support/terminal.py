"""What a renderable looks like on a terminal."""

import io

from rich.console import Console, RenderableType


def printed(renderable: RenderableType, width: int = 80, **options) -> str:
    """The text of a terminal of this width."""
    stream = io.StringIO()
    Console(file=stream, width=width, **options).print(renderable)
    return stream.getvalue()
