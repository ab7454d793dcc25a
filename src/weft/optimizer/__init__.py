"""The `torch.optim.Optimizer` that runs chains."""

from weft.optimizer.optimizer import Optimizer as Optimizer
