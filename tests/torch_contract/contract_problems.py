"""Small problems that the tests of torch's contract share."""

import copy

import torch

import weft

# every option that torch.optim has for the optimizers of both
OPTIONS = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "maximize": True},
    ],
    "Adam": [{}, {"amsgrad": True, "weight_decay": 0.1}, {"maximize": True}],
    "AdamW": [{}, {"amsgrad": True}, {"maximize": True, "weight_decay": 0.3}],
    "RAdam": [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True}, {"betas": (0.9, 0.95)}],
    "NAdam": [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True}, {"maximize": True}],
    "Adamax": [{"weight_decay": 0.1}],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2}],
    "Adadelta": [{"weight_decay": 0.1}],
    "ASGD": [{"lambd": 0.1, "t0": 2.0, "weight_decay": 0.1}],
    "Rprop": [{}],
    "RMSprop": [{}, {"momentum": 0.9, "weight_decay": 0.1}, {"centered": True, "momentum": 0.5}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]
IDS = [f"{name}-{'-'.join(options) or 'default'}" for name, options in CASES]


def parameters(*shapes, dtype=torch.float64, seed=0):
    """Random parameters of the shapes, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    shapes = shapes or ((4, 3), (5,), (), (0,))
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def give_grads(params, t):
    """The grads of step t: those of a random quadratic, the same for equal parameters."""
    generator = torch.Generator().manual_seed(1000 + t)
    for p in params:
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.grad = (p.detach() * 0.5 + noise).to(p.dtype)


def advance(opt, params, steps, start=0):
    """Take steps on the grads of steps start, start + 1, ..."""
    for t in range(start, start + steps):
        give_grads(params, t)
        opt.step()


def same(ours, theirs, tolerance=1e-10):
    """Hold two lists of tensors to each other."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def equal_states(a, b):
    """Hold the state dicts of two optimizers to each other, bit for bit."""
    a, b = a.state_dict(), b.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for key, state in a["state"].items():
        assert state.keys() == b["state"][key].keys()
        for name, value in state.items():
            other = b["state"][key][name]
            if isinstance(value, torch.Tensor):
                assert value.dtype == other.dtype
                assert torch.equal(value, other)
            else:
                assert value == other


def snapshot(opt):
    """A state dict of its own memory."""
    return copy.deepcopy(opt.state_dict())


def mixed(**hypers):
    """Two algorithms in one optimizer: momentum for a matrix, AdamW for the rest."""
    params = parameters((4, 3), (5,))
    sgd = weft.SGD.chain(momentum=0.9)
    groups = [{"params": params[:1], "cbs": sgd, "lr": 0.05}, {"params": params[1:]}]
    return params, weft.Optimizer(groups, weft.AdamW.chain(**hypers))
