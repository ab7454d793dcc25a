"""A case whose optimizer evaluates the loss itself: at several points, or twice differentiated."""

from dataclasses import dataclass

import torch

from parity.case import Case
from parity.references import REFERENCES


@dataclass(frozen=True)
class ClosureCase(Case):
    """The optimizer's `step(closure)` follows the reference's `step_fn(grad_fn)`."""

    def problem(self, t: int):
        """A loss of the parameters: not quadratic, with a Hessian that is not diagonal."""
        targets = self.grads(t)

        def loss_of(ps):
            apart = [p - g for p, g in zip(ps, targets, strict=True)]
            return (
                sum((x**2 + 0.1 * x**4).sum() for x in apart)
                + 0.1 * sum(x.sum() for x in apart) ** 2
            )

        return loss_of

    def follow(self, engine: str) -> None:
        params = self.start()
        ref = REFERENCES[self.reference](params, **(self.hypers if self.ref is None else self.ref))
        opt = self.make(params, engine=engine)
        if self.prepare:
            self.prepare(opt, ref)
        for t in range(self.steps):
            changed, loss_of = self.hypers_at(t), self.problem(t)

            def closure(loss_of=loss_of):
                opt.zero_grad()
                loss = loss_of(params)
                for p, g in zip(
                    params, torch.autograd.grad(loss, params, create_graph=True), strict=True
                ):
                    p.grad = g
                return loss

            def grad_fn(ps, loss_of=loss_of):
                ps = [p if p.requires_grad else p.detach().clone().requires_grad_() for p in ps]
                loss = loss_of(ps)
                return loss.item(), torch.autograd.grad(loss, ps, create_graph=True)

            opt.set_hypers(**changed)
            opt.step(closure)
            ref.step_fn(grad_fn, **self.translate(changed))
            self._compare(params, ref.params, f"step {t + 1}")
