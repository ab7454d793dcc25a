"""What every model and optimizer may or may not have: a graph, a mode."""

from typing import Any

from torch import Tensor

__all__ = ["detached", "switch"]


def detached(pred: Any) -> Any:
    """Without its graph, which would keep every activation of the batch."""
    return pred.detach() if isinstance(pred, Tensor) else pred


def switch(opt: Any, mode: str) -> None:
    """Call `opt.train()` or `opt.eval()`, where there is such a thing."""
    if callable(method := getattr(opt, mode, None)):
        method()
