"""A step size for each element, moved by how signs agree."""

import torch

from weft.callback import mark, zeros

__all__ = ["resilient"]


@mark(place="update", bounds={"step_sizes": ">= 0"})
def resilient(grad, lr, step, etas=(0.5, 1.2), step_sizes=(1e-6, 50), prev=zeros, step_size=zeros):
    """Grow the step where the sign of the gradient stays, shrink it and pause where it turns.

        s <- clip(s * eta+ or eta- or 1);   g <- 0 where it turned;   u <- s * sign(g)

    Riedmiller and Braun, 1993, without backtracking, as in torch. s starts at lr.
    """
    agree = grad.sign() * prev.sign()
    size = torch.zeros_like(grad) + lr if step == 1 else step_size
    size = torch.where(agree > 0, size * etas[1], torch.where(agree < 0, size * etas[0], size))
    size = size.clamp(step_sizes[0], step_sizes[1])
    grad = torch.where(agree < 0, torch.zeros_like(grad), grad)
    return {"update": size * grad.sign(), "step_size": size, "prev": grad}
