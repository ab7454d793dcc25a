"""Numbers that are kept as tensors, counts of steps above all, have the dtype that torch gives them."""

import io

import pytest
import torch
from contract_problems import CASES, IDS, advance, parameters, same

import weft


@pytest.fixture(params=[torch.float32, torch.float64, torch.bfloat16], ids=str)
def default(request):
    """torch's default dtype."""
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def dtypes(opt, p):
    return {k: v.dtype for k, v in opt.state[p].items() if isinstance(v, torch.Tensor)}


def both(name, options, dtype):
    """weft's and torch's, each with a parameter of its own."""
    out = []
    for module in (weft, torch.optim):
        (p,) = parameters((4, 3), dtype=dtype)
        out.append((getattr(module, name)([p], **options), p))
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_numbers_have_torchs_dtypes(default, name, options, dtype):
    (ours, p), (theirs, q) = both(name, options, dtype)
    for opt, x in ((ours, p), (theirs, q)):
        advance(opt, [x], 3)
    assert dtypes(ours, p) == dtypes(theirs, q)
    if default is not torch.bfloat16:  # torch's ASGD then computes its rate in it
        same([p], [q], 1e-10 if dtype is torch.float64 else 1e-5)


@pytest.mark.parametrize("name", ["Adam", "NAdam", "ASGD"])
def test_what_was_saved_under_another_default_is_not_rounded(name):
    torch.set_default_dtype(torch.float64)
    try:
        (p,), (q,) = parameters((4, 3)), parameters((4, 3))
        one, whole = (getattr(weft, name)([x]) for x in (p, q))
        advance(one, [p], 2)
        advance(whole, [q], 4)
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        torch.set_default_dtype(torch.float32)
        other = getattr(weft, name)([p])
        other.load_state_dict(torch.load(io.BytesIO(file.getvalue())))
        assert dtypes(other, p) == dtypes(one, p)
        assert dtypes(other, p)["step"] is torch.float64
        advance(other, [p], 2, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(p, q)


def test_counts_of_both_kinds_step_together():
    params = parameters((3,), (2, 2), (4,))
    opt = weft.AdamW(params)
    advance(opt, params, 1)
    opt.state[params[1]]["step"] = torch.tensor(5.0, dtype=torch.float64)
    advance(opt, params, 4, 1)
    assert [float(opt.state[p]["step"]) for p in params] == [5, 9, 5]
    assert [opt.state[p]["step"].dtype for p in params] == [
        torch.float32,
        torch.float64,
        torch.float32,
    ]


def test_a_count_beyond_what_single_precision_holds_goes_on():
    (p,) = parameters((3,))
    torch.set_default_dtype(torch.float64)
    try:
        opt = weft.Adam([p])
        advance(opt, [p], 1)
    finally:
        torch.set_default_dtype(torch.float32)
    opt.state[p]["step"].fill_(2.0**24)
    advance(opt, [p], 3, 1)
    assert opt.state[p]["step"] == 2**24 + 3


def test_a_default_that_changes_between_steps_is_seen():
    def cb(p, lr, update):
        return {"p": p - lr * update * torch.tensor(1 / 3)}

    results = []
    for engine in ("eager", "auto"):
        (p,) = parameters((3,))
        opt = weft.Optimizer([p], [cb], lr=0.1, engine=engine)
        advance(opt, [p], 2)
        torch.set_default_dtype(torch.float64)
        try:
            advance(opt, [p], 2, 2)
        finally:
            torch.set_default_dtype(torch.float32)
        results.append(p.detach())
    torch.testing.assert_close(*results, rtol=1e-14, atol=0)
