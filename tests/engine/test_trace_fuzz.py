"""Random programs of views, aliases and writes: the trace says what eager does, or says no."""

import copy
import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_trace_corpus import Traces, difference

import weft
from weft.engine.eager import loop
from weft.engine.eager.infer_state import init_state
from weft.engine.trace import Untraceable
from weft.errors import StepError

SHAPES = [(), (1,), (0, 3), (5,), (4, 3), (4, 4), (2, 3, 2), (6, 2)]
UNARY = ["neg", "abs", "sqrt", "exp", "square", "sign", "tanh", "sigmoid", "reciprocal", "floor"]
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum", "pow", "copysign", "fmax", "atan2"]
KINDS = [
    "unary", "binary", "scalar", "unary_", "binary_", "addcmul_", "lerp_", "copy_", "zero_", "fill_",
    "clamp_", "out", "foreach_", "view", "reshape", "flatten", "t", "slice", "select", "unsqueeze",
    "expand", "diagonal", "chunk", "contiguous", "clone", "detach", "alias", "mask_set", "masked_fill_",
    "set", "where", "sum", "mean_keep", "norm", "branch", "item", "data_add", "grad_add", "double",
    "flatten_", "normalise", "addcdiv", "augmented", "index", "max_dim",
]  # fmt: skip

Op = tuple[str, int, int, int, float]
op = st.tuples(
    st.sampled_from(KINDS), st.integers(0, 40), st.integers(0, 40), st.integers(0, 9),
    st.sampled_from([0.5, -1.0, 2.0, 0.0, 1.0, 0.1]),
)  # fmt: skip
programs = st.lists(op, min_size=1, max_size=12)


def execute(ops: tuple[Op, ...], p: Any, regs: list[Any], lr: Any) -> list[Any]:
    """Run a program on its registers."""
    for kind, i, j, k, c in ops:
        x, y = regs[i % len(regs)], regs[j % len(regs)]
        made = one(kind, p, x, y, k, c, lr)
        if made is not None:
            regs.append(made)
    return regs


def one(kind: str, p: Any, x: Any, y: Any, k: int, c: float, lr: Any) -> Any:
    """One instruction; skipped where shapes do not fit."""
    same = x.shape == y.shape and x.dtype == y.dtype
    floating = x.is_floating_point()
    dim = k % x.ndim if x.ndim else 0
    match kind:
        case "unary" if floating:
            return getattr(torch, UNARY[k])(x)
        case "binary" if same:
            return getattr(torch, BINARY[k])(x, y)
        case "scalar":
            return [
                x + c,
                x * lr,
                c - x,
                1 / (x.abs() + 1),
                x**2,
                x / 3,
                2 * x,
                x - lr,
                lr / (2 + x.abs()),
                x % 2,
            ][k]
        case "unary_" if floating:
            getattr(x, UNARY[k] + "_")()
        case "binary_" if same:
            getattr(x, ["add_", "sub_", "mul_", "copy_", "add_"][k % 5])(y)
        case "addcmul_" if same:
            x.addcmul_(x, y, value=c)
        case "lerp_" if same and floating:
            x.lerp_(y, c)
        case "copy_" if x.ndim >= y.ndim and x.numel() and y.numel() == 1:
            x.copy_(y)
        case "zero_":
            x.zero_()
        case "fill_":
            x.fill_(c)
        case "clamp_":
            x.clamp_(-1 - k, 1)
        case "out" if same:
            torch.add(x, y, alpha=c, out=y)
        case "foreach_" if same:
            torch._foreach_mul_([x, y], [c, 0.5])
        case "view" if x.is_contiguous():
            return x.view(-1)
        case "reshape":
            return x.reshape(-1, 1) if x.numel() else x
        case "flatten":
            return x.flatten()
        case "t" if x.ndim >= 2:
            return x.transpose(dim, (dim + 1) % x.ndim)
        case "slice" if x.ndim:
            return [x[1:], x[::2], x[..., :1], x[:-1], x[None], x[1:3]][k % 6]
        case "select" if x.ndim and x.shape[dim]:
            return x.select(dim, k % x.shape[dim])
        case "unsqueeze":
            return x.unsqueeze(dim)
        case "expand" if x.ndim:
            return x.unsqueeze(0).expand(2, *x.shape)
        case "diagonal" if x.ndim == 2:
            return x.diagonal()
        case "chunk" if x.ndim:
            return x.chunk(2, dim)[-1]
        case "contiguous":
            return x.contiguous()
        case "clone":
            return x.clone()
        case "detach":
            return x.detach()
        case "alias":
            return x
        case "mask_set" if same:
            x[y > c] = c
        case "masked_fill_" if same:
            x.masked_fill_(y < c, lr)
        case "set" if x.ndim and x.shape[0]:
            x[k % x.shape[0]] = c
        case "where" if same:
            return torch.where(x > c, x, y)
        case "sum" if floating:
            return x.sum()
        case "mean_keep" if floating and x.numel() and x.ndim:
            return x.mean(dim, keepdim=True)
        case "norm" if floating:
            return x.norm()
        case "branch" if floating:
            if x.sum() > c:
                x.mul_(0.5)
            else:
                x.add_(c)
        case "item" if x.numel() and floating:
            return y * min(x.abs().sum().item(), 2.0)
        case "data_add":
            p.data.add_(c)
        case "grad_add":
            p.grad.data.add_(c)
        case "double":
            return x.double()
        case "flatten_" if x.ndim:
            x.flatten()[:1].mul_(c)
        case "normalise" if floating:
            x.div_(x.abs().sum() + 1)
        case "addcdiv" if same and floating:
            return x.addcdiv(y, y.abs() + 1, value=c)
        case "augmented" if same:
            x += y
            x *= c
        case "index" if x.ndim and x.shape[0]:
            return x[[0, k % x.shape[0]]]
        case "max_dim" if x.ndim and x.shape[dim]:
            return x.max(dim).values
    return None


def callbacks(
    first: tuple[Op, ...], second: tuple[Op, ...], picks: tuple[int, ...]
) -> tuple[Any, ...]:
    """Two callbacks of a chain around two programs."""

    def one_cb(p, grad, lr, a=weft.zeros):
        regs = execute(first, p, [p.data, grad, a], lr)
        fits = [r for r in regs if r.shape == p.shape and r.dtype == p.dtype]
        at = lambda k: fits[picks[k] % len(fits)]
        return (
            {"a": at(0), "update": at(1)}
            if picks[2] % 2
            else {"a": at(0), "update": at(1), "grad": at(2)}
        )

    def two_cb(p, grad, update, a, lr, b=weft.zeros):
        regs = execute(second, p, [p.data, grad, update, a, b], lr)
        fits = [r for r in regs if r.shape == p.shape and r.dtype == p.dtype]
        at = lambda k: fits[picks[k] % len(fits)]
        return {"b": at(3), "p": at(4)} if picks[4] % 2 else {"b": at(3)}

    def descend(p, update, grad, a, b, lr):
        return {"p": p - lr * (update + 0.1 * grad + 0.01 * a + 0.01 * b).clamp(-5, 5)}

    return one_cb, two_cb, descend


def laid_out(x: torch.Tensor, layout: int) -> torch.Tensor:
    """The same values in memory that is contiguous, transposed, or every second element."""
    if layout == 1 and x.ndim >= 2:
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == 2 and x.ndim:
        out = torch.zeros(*x.shape[:-1], x.shape[-1] * 2, dtype=x.dtype)[..., ::2]
        return out.copy_(x)
    return x


def check(shape, first, second, picks, layout, dtype=torch.float32) -> str:
    """ "equal", or "refused" where the tracer said so, or "raises" where eager fails too."""
    torch.manual_seed(7)
    p = torch.nn.Parameter(laid_out(torch.randn(shape, dtype=dtype), layout % 3))
    opt = weft.Optimizer(
        [p], callbacks(tuple(first), tuple(second), tuple(picks)), engine="eager", lr=0.1
    )
    bound = opt._current()[0]
    init_state([bound], opt.state)
    q = laid_out(p.detach().clone(), layout % 3)
    state = {k: laid_out(copy.deepcopy(v), layout % 3) for k, v in opt.state[p].items()}
    traces = Traces(opt, q)
    for k in range(3):
        bound.group["lr"] = 0.1 + 0.05 * k
        grad = torch.randn(shape, dtype=dtype)
        p.grad, q.grad = laid_out(grad.clone(), layout // 3), laid_out(grad.clone(), layout // 3)
        try:
            with torch.no_grad():
                loop.step([bound], opt.state, None)
        except (StepError, RuntimeError):
            return "raises"
        try:
            traces.step(q, state, None)
        except Untraceable:
            return "refused"
        pairs = [("p", p.data, q.data), ("grad", p.grad, q.grad)]
        for name, a, b in pairs + [(n, v, state[n]) for n, v in opt.state[p].items()]:
            difference(f"step {k + 1}: {name}", a, b, 1e-4)
        for _, a, b in pairs:  # keep rounding from growing
            b.copy_(a)
        state.update(
            {n: v.clone(memory_format=torch.preserve_format) for n, v in opt.state[p].items()}
        )
    return "equal"


case: dict = dict(  # noqa: C408
    shape=st.sampled_from(SHAPES), first=programs, second=programs,
    picks=st.tuples(*[st.integers(0, 40)] * 5), layout=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 8]),
)  # fmt: skip
quiet = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=250, **quiet)
@given(**case)
def test_random_programs(shape, first, second, picks, layout):
    check(shape, first, second, picks, layout)


@pytest.mark.parametrize("returned", ["p", "grad", "value"])
def test_a_transposed_result_is_no_contiguous_one(returned):
    """What is returned keeps its strides, copied or not: flatten() then gives a copy, not a view."""

    def turn(p, grad):
        held = {"p": p.data, "grad": grad, "value": p * 2}[returned]
        return {"update": held.transpose(0, 1)}

    def halve(update):
        update.flatten()[:1].mul_(0.5)
        return {"update": update}

    ends = []
    for engine in ("eager", "auto"):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(4, 4))
        p.grad = torch.randn(4, 4)
        opt = weft.Optimizer([p], [turn, halve, weft.callbacks.descend], lr=0.1, engine=engine)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            opt.step()
        ends.append(p.detach())
    assert "depending on strides" in str(said[0].message)
    assert torch.equal(*ends)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=5000, **{**quiet, "derandomize": False})
@given(**case)
def test_thousands_of_random_programs(shape, first, second, picks, layout):
    check(shape, first, second, picks, layout)
