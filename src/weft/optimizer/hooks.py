"""torch's hooks and profiler around a step, at no price where nobody listens."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.optim.optimizer as base
from torch._C._dynamo.eval_frame import set_eval_frame
from torch.compiler import is_compiling

__all__ = ["hooked"]


def hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """`step` as torch wraps it, but called straight where no hook and no profiler is there.

    torch's wrapper takes 10 to 25 us, as much as a small step. A compiled training step breaks its
    graph here.
    """
    listened = torch.optim.Optimizer.profile_hook_step(step)
    uncompiled = torch._disable_dynamo(listened)

    @functools.wraps(step)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return uncompiled(self, *args, **kwargs)
        ours = type(self).step is wrapper  # torch wraps the step of a subclass that overrides it
        run = listened if ours and _listens(self) else step
        compiling = set_eval_frame(None)  # within a compiled function that called this uncompiled
        try:
            return run(self, *args, **kwargs)
        finally:
            set_eval_frame(compiling)

    wrapper.hooked = True  # type: ignore[attr-defined]  # torch looks for it
    return wrapper


def _listens(opt: Any) -> bool:
    """Whether anybody wants to know of a step."""
    return bool(
        opt._optimizer_step_pre_hooks
        or opt._optimizer_step_post_hooks
        or base._global_optimizer_pre_hooks
        or base._global_optimizer_post_hooks
        or torch.autograd._profiler_enabled()
    )
