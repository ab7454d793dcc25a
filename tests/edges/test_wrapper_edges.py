"""Every wrapper where grads come and go, and a state dict, a copy or a pickle in the midst of it."""

import copy
import io
import pickle

import pytest
import torch

import weft
from weft.wrappers import AtAverage

pytestmark = pytest.mark.usefixtures("engine")

WRAPPERS = [w for w in map(weft.wrappers.__dict__.get, weft.wrappers.__all__) if w is not AtAverage]
PATTERNS = {  # which of the parameters have a grad in step t
    "never": lambda t: (0, 0, 0),
    "not at first": lambda t: (t > 2,) * 3,
    "no longer": lambda t: (t < 3,) * 3,
    "the first late": lambda t: (t > 2, 1, 1),
    "now and then": lambda t: (t % 2, t % 3 == 0, 1),
}


def make(wrapper, params=None):
    g = torch.Generator().manual_seed(0)
    params = params or [torch.nn.Parameter(torch.randn(s, generator=g)) for s in [(3, 2), (4,), ()]]
    return (weft.SGD.chain(momentum=0.9) + wrapper())(params, lr=0.05)


def every(opt):
    return [p for g in opt.param_groups for p in g["params"]]


def step(opt, has):
    def closure():
        opt.zero_grad()
        some = [p for p, on in zip(every(opt), has, strict=True) if on and p.requires_grad]
        loss = sum((((p - 1) ** 2).sum() for p in some), torch.zeros(()))
        if some:
            loss.backward(create_graph="hutchinson_every" in opt.param_groups[0])
        return loss.detach()

    opt.step(closure)


def through_a_file(opt, wrapper):
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    fresh = make(wrapper, [p.detach().clone().requires_grad_() for p in every(opt)])
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


HOW = {
    "file": through_a_file,
    "deepcopy": lambda opt, wrapper: copy.deepcopy(opt),
    "pickle": lambda opt, wrapper: pickle.loads(pickle.dumps(opt)),
}


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda w: w.__name__)
def test_it_goes_on_where_grads_come_and_go(wrapper, pattern):
    opt = make(wrapper)
    for t in range(6):
        before = [p.detach().clone() for p in every(opt)]
        has = PATTERNS[pattern](t)
        step(opt, has)
        if not any(has) and wrapper not in (weft.Lookahead, weft.OuterNesterov):  # theirs are due
            assert all(map(torch.equal, every(opt), before))
    opt.eval()
    assert all(p.isfinite().all() for p in every(opt))
    opt.train()
    others = [how(opt, wrapper) for how in HOW.values()]
    for o in (opt, *others):
        torch.manual_seed(1)  # some draw
        for _ in range(3):
            step(o, (1, 1, 1))
    assert all(p.isfinite().all() for p in every(opt))
    for name, o in zip(HOW, others, strict=True):
        assert all(map(torch.equal, every(opt), every(o))), name


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda w: w.__name__)
def test_a_group_is_added_and_a_parameter_frozen_and_thawed(wrapper):
    opt = make(wrapper)
    every(opt)[0].requires_grad_(False)
    for change in (
        lambda: every(opt)[0].requires_grad_(True),
        lambda: opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]}),
        lambda: every(opt)[1].requires_grad_(False),
        lambda: every(opt)[1].requires_grad_(True),
    ):
        for _ in range(3):
            step(opt, [1] * len(every(opt)))
        opt.eval()
        opt.train()
        change()
    step(opt, [1] * 4)
    assert all(p.isfinite().all() for p in every(opt))
    assert len(opt.state_dict()["param_groups"]) == 2


@pytest.mark.parametrize("wrapper", [weft.SWA, weft.LAWA])
def test_what_is_thawed_late_has_been_where_it_was(wrapper):
    opt, never = make(wrapper), every(make(wrapper))
    first = every(opt)[0].requires_grad_(False)
    for _ in range(3):
        step(opt, (1, 1, 1))
    first.requires_grad_(True)
    step(opt, (1, 1, 1))
    moved = first.detach().clone()
    opt.eval()
    # of four weights in the mean the last alone has moved
    torch.testing.assert_close(first.detach(), never[0] + (moved - never[0]) / 4)
