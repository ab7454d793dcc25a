"""Hypers at which a step would divide by zero are refused before there is one."""

import pytest
import torch

import weft

REFUSED = [
    ("accsgd", {"kappa": 0.0}),
    ("accsgd", {"constant": 0.0}),
    ("adabound", {"gamma": 0.0}),
    ("adahessian", {"update_period": 0}),
    ("apollo", {"update_proj_gap": 0}),
    ("dadaptadagrad", {"d0": 0.0}),
    ("dadaptadam", {"d0": 0.0}),
    ("dadaptadan", {"d0": 0.0}),
    ("dadaptlion", {"d0": 0.0}),
    ("dadaptsgd", {"d0": 0.0}),
    ("distributedshampoo", {"graft_beta2": 1.0}),
    ("galoreadamw", {"update_proj_gap": 0}),
    ("galoreadamw", {"rank": 0}),
    ("klshampoo", {"init_factor": 0.0}),
    ("msvag", {"beta": 1.0}),
    ("nero", {"beta": 1.0}),
    ("prodigy", {"d0": 0.0}),
    ("qhadam", {"nus": (1.2, 1.0)}),
    ("qhadam", {"nus": (0.7, -0.1)}),
    ("racs", {"iterations": 0}),
    ("ranger", {"k": 0}),
    ("sgdp", {"momentum": 1.0}),
    ("shampoo", {"precondition_frequency": 0}),
    ("soap", {"precondition_frequency": 0}),
    ("sophia", {"update_period": 0}),
    ("splus", {"ema_rate": 1.0}),
    ("splus", {"inverse_steps": 0}),
    ("srmm", {"memory_length": 0}),
    ("stablespam", {"gammas": (1.0, 0.9)}),
    ("stablespam", {"reset_interval": 0}),
    ("vsgd", {"ps": 0.0}),
]


@pytest.mark.parametrize(("name", "hypers"), REFUSED, ids=str)
def test_an_optimizer_refuses_them(name, hypers):
    with pytest.raises(ValueError, match=r"Invalid \w+ value: .* takes [<>]"):
        weft.create(name, [torch.nn.Parameter(torch.ones(4, 3))], **hypers)


@pytest.mark.parametrize(
    ("wrapper", "hypers"),
    [
        (weft.Lookahead, {"k": 0}),
        (weft.LookSAM, {"k": 0}),
        (weft.LAWA, {"window": 0}),
        (weft.SWA, {"every": 0}),
        (weft.Mechanic, {"num_betas": 0}),
    ],
)
def test_a_wrapper_refuses_them(wrapper, hypers):
    with pytest.raises(ValueError, match=rf"Invalid {next(iter(hypers))} value: 0; .* takes >= 1"):
        wrapper(**hypers)


def test_a_callback_says_its_own_and_a_group_is_held_to_them():
    @weft.mark(bounds={"k": ">= 1, < 10"})
    def every(update, step, k=2):
        return {"update": update * (step % k == 0)}

    chain = weft.chain(every, weft.callbacks.descend, lr=0.1)
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = chain([p], k=9)
    for wrong in (0, 10, torch.tensor(0)):
        with pytest.raises(ValueError, match=r"Invalid k value: \d+; every .* takes >= 1, < 10"):
            opt.add_param_group({"params": [q], "k": wrong})
    assert len(opt.param_groups) == 1
    renamed = weft.chain(weft.rename(every, k="period"), weft.callbacks.descend, lr=0.1)
    with pytest.raises(ValueError, match="Invalid period value: 0"):
        renamed([p], period=0)
