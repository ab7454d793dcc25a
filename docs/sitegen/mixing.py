"""Tables that written pages ask for: what goes with what, and how much state there is."""

import warnings
from typing import Any

import torch

import weft
from sitegen.elements import inner
from sitegen.facts import facts
from weft import callbacks
from weft.optimizers import algorithms

__all__ = ["mixing", "states"]

BASES = (
    "SGD",
    "AdamW",
    "Lion",
    "LAMB",
    "Adafactor",
    "Muon",
    "SOAP",
    "Prodigy",
    "ScheduleFreeAdamW",
)
SHORT = {"ScheduleFreeAdamW": "Sched.-free"}
INSIDE = (
    "clip_global_norm", "clip_norm", "clip_unit", "centralize", "grokfast", "orthograd",
    "cautious_weight_decay", "nesterov", "cautious", "stabilize", "trust_ratio", "clip_update_rms",
    "optimistic",
)  # fmt: skip
AROUND = (
    "Lookahead",
    "SAM",
    "LookSAM",
    "WeightEMA",
    "SWA",
    "GPA",
    "TRAC",
    "Mechanic",
    "OuterNesterov",
)


def mixing() -> str:
    """A row for each modifier, a column for each optimizer, by trying."""
    head = ["", *(f"[{SHORT.get(b, b)}](optimizers/{b.lower()}.md)" for b in BASES)]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in (*INSIDE, *AROUND):
        thing = getattr(callbacks, name, None) or getattr(weft, name)
        block = inner(thing) if name in INSIDE else thing
        link = f"[`{name}`][{block.__module__}.{block.__qualname__}]"
        rows.append(
            "| "
            + " | ".join([link, *(verdict(b, thing if name in INSIDE else thing()) for b in BASES)])
            + " |"
        )
    return "\n".join(rows)


def verdict(base: str, modifier: Any) -> str:
    """Whether a modifier joins the chain of an optimizer, found by building and stepping it."""
    p = torch.nn.Parameter(torch.eye(4))
    p.grad = torch.ones(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            chain = getattr(weft, base).chain() + modifier
            chain([p], engine="eager")
        except weft.ChainError:
            return "**no**"
    return "instead" if chain.replaced else "✓"


def states() -> str:
    """Optimizers by the bytes of state for one float32 element."""
    found: dict[str, list[str]] = {}
    for name, cls in algorithms().items():
        found.setdefault(band(facts(name).state_bytes), []).append(
            f"[{cls.__name__}](optimizers/{name}.md)"
        )
    lines = ["| state, bytes an element | optimizers |", "|---|---|"]
    lines += [f"| {b} | {', '.join(found[b])} |" for b in BANDS if b in found]
    return "\n".join(lines)


BANDS = ("none", "below 1", "4", "8", "12", "16", "20 and more")


def band(size: float) -> str:
    """The line of the table for a number of bytes, whatever stands beside it for a whole tensor."""
    if size < 1:
        return "none" if size == 0 else "below 1"
    whole = min((4, 8, 12, 16, 20), key=lambda n: abs(n - size))
    return BANDS[-1] if whole >= 20 else str(whole)
