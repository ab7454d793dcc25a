"""An optimizer's path down two surfaces, as a drawing in its page, in the colours of the scheme."""

import json
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["drawn", "paths"]

MADE = Path(__file__).parents[1] / "paths.json"


@cache
def paths() -> dict[str, Any]:
    """What benchmarks/paths.py has made."""
    return json.loads(MADE.read_text(encoding="utf-8"))


def drawn(name: str) -> str:
    """Both surfaces with the path at its best rate; empty where there is none."""
    trails = paths()["trails"].get(name, {})
    panels = [_panel(name, surface, trails[surface]) for surface in sorted(trails)]
    return f'<div class="weft-paths">{"".join(panels)}</div>' if panels else ""


def _panel(name: str, surface: str, trail: dict[str, Any]) -> str:
    made = paths()
    ground, (width, height) = made["surfaces"][surface], made["size"]
    (x0, y0), (x1, y1) = ground["start"], ground["minimum"]
    arrived, most = trail["arrived"], made["steps"]
    steps = f"not there in {most} steps" if arrived is None else f"{arrived} steps"
    told = f"{surface}, lr {trail['lr']:g}: {steps}"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{name} on {told}">'
        f'<path class="weft-contour" d="{ground["contours"]}"/>'
        f'<path class="weft-trail" d="{trail["line"]}"/>'
        f'<circle cx="{x0}" cy="{y0}" r="4"/><circle class="weft-minimum" cx="{x1}" cy="{y1}" r="5"/>'
        f"</svg><figcaption>{told}</figcaption></figure>"
    )
