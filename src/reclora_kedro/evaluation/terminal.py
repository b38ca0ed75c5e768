"""What people read on the terminal."""

from rich.console import Console, RenderableType


def show(results: RenderableType) -> None:
    """Print results, every text in them as it is: titles and names hold square brackets and colons of their own.

    Examples:
        >>> show("[bold]Heat[/] [/] :smile:")
        [bold]Heat[/] [/] :smile:
    """
    Console(markup=False, emoji=False).print(results)
