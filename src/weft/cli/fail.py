"""How a command ends that cannot go on."""

from typing import Any

import typer

__all__ = ["fail"]


def fail(message: str, code: int = 1) -> Any:
    """Say what is wrong on one line of stderr, and leave."""
    typer.echo(f"weft: {message}", err=True)
    raise typer.Exit(code)
