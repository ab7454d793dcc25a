"""Sharpness-aware minimisation: the gradient where the loss is worst nearby."""

from typing import Any, ClassVar

import torch

from weft.callbacks.units import quotient, wide
from weft.errors import StepError
from weft.wrapper import Wrapper

__all__ = ["ASAM", "SAM"]


class SAM(Wrapper):
    r"""Sharpness-aware minimisation: step with the gradient at the worst point nearby.

        e = rho * g / |g|        (the norm over all parameters)
        g <- gradient at p + e;  the optimizer's step from p

    Args:
        rho: how far to climb.

    Raises:
        StepError: from `step()` without a closure: the gradient is evaluated twice.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> opt = weft.SAM(weft.SGD([p], lr=0.1), rho=0.05)
    >>> def closure():
    ...     opt.zero_grad(); loss = (p**2).sum() / 2; loss.backward(); return loss
    >>> loss = opt.step(closure); p.data
    tensor([0.8965, 0.8965])

    Foret et al., 2020, arXiv:2010.01412. It takes two evaluations and a copy of the weights. Batch
    norm sees both points.
    """

    needs_closure: ClassVar = True
    hypers: ClassVar = {"rho": 0.05}
    role: ClassVar = "a gradient of another point"

    def around_step(self, opt: Any, closure: Any) -> Any:
        """Climb, evaluate there, come back and step."""
        if closure is None:
            raise StepError(
                f"{type(self).__name__} evaluates the gradient twice: call step(closure), with a "
                "closure that zeroes the grads, computes the loss, calls backward and returns it; "
                "see docs/limits.md#closures"
            )
        with torch.enable_grad():
            loss = closure()
        params = [p for p in self.params(opt) if p.grad is not None]
        if params:
            self.replace_gradient(opt, params, closure)
        opt.step(loss=loss)
        return loss

    def replace_gradient(self, opt: Any, params: list[torch.Tensor], closure: Any) -> None:
        """Put the gradient that the step takes in the place of the one at the parameters."""
        self.evaluate_at(params, self.ascent(opt, params), closure)

    def evaluate_at(self, params: list, offsets: list, closure: Any) -> None:
        """Evaluate the closure at the parameters plus their offsets, and come back."""
        kept = [p.detach().clone() for p in params]
        try:
            for p, e in zip(params, offsets, strict=True):
                p.add_(e)
            with torch.enable_grad():
                closure()
        finally:
            for p, before in zip(params, kept, strict=True):
                p.copy_(before)

    def ascent(self, opt: Any, params: list[torch.Tensor]) -> list[torch.Tensor]:
        """How far each parameter climbs."""
        grads = [gradient(p) for p in params]
        return scaled(grads, norm(grads), self.get(opt, "rho"))


class ASAM(SAM):
    r"""Adaptive SAM: a neighbourhood that scales with the weights.

        T = |p| + eta;   e = rho * T^2 g / |T g|
        g <- gradient at p + e;  the optimizer's step from p

    Args:
        rho: how far to climb.
        eta: keeps the neighbourhood of small weights open.

    >>> import torch, weft
    >>> p = torch.nn.Parameter(torch.ones(2))
    >>> opt = weft.ASAM(weft.SGD([p], lr=0.1), rho=0.5)
    >>> def closure():
    ...     opt.zero_grad(); loss = (p**2).sum() / 2; loss.backward(); return loss
    >>> loss = opt.step(closure); p.data
    tensor([0.8643, 0.8643])

    Kwon et al., 2021, arXiv:2102.11600. The paper leaves biases unscaled; here all scale alike.
    """

    hypers: ClassVar = {"rho": 0.5, "eta": 0.01}

    def ascent(self, opt: Any, params: list[torch.Tensor]) -> list[torch.Tensor]:
        sizes = [readable(p.detach()).abs() + self.get(opt, "eta") for p in params]
        stretched = [t * gradient(p) for t, p in zip(sizes, params, strict=True)]
        climb = scaled(stretched, norm(stretched), self.get(opt, "rho"))
        return [t * e for t, e in zip(sizes, climb, strict=True)]


def norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The norm over all tensors, as one, in double."""
    norms = [torch.linalg.vector_norm(t, dtype=wide(t)) for t in tensors]
    return torch.stack([n.to(norms[0].device) for n in norms]).norm()


def scaled(tensors: list[torch.Tensor], size: torch.Tensor, length: float) -> list[torch.Tensor]:
    """Tensors whose norm is `size`, made `length` long; what is zero stays."""
    return [(quotient(t, size.to(t.device)) * length).to(t.dtype) for t in tensors]


def readable(x: torch.Tensor) -> torch.Tensor:
    """A tensor in no less than float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def gradient(p: torch.Tensor) -> torch.Tensor:
    """A copy of the parameter's gradient, in no less than float32; zero where it has none."""
    return readable(torch.zeros_like(p) if p.grad is None else p.grad.detach().clone())


def set_gradient(p: torch.Tensor, g: torch.Tensor) -> None:
    """Put a gradient in the place of the parameter's, as that was kept."""
    p.grad = g.to(p.dtype if p.grad is None else p.grad.dtype)
