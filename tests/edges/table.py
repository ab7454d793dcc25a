"""The table of edges: a row is where users go, and what must hold there."""

from contextlib import contextmanager

import torch

from edges.properties import (
    GOES_ON,
    as_far_as_float64,
    as_plain,
    engines_agree,
    finite,
    first_disturbs_none,
    follows_float64,
    from_file,
    from_pickle,
    groups_apart,
    last_disturbs_none,
    mirrored,
    moves,
    no_grad_no_move,
    state_is_made,
    still,
    while_evaluating,
    without_first,
)
from edges.runs import Edge, gradients, normal, weights
from edges.subjects import subjects

SOUND = (finite, engines_agree)
RIGHT = (finite, engines_agree, follows_float64, as_far_as_float64)


# ---------------------------------------------------------------- parameters and grads


def scaled(by):
    return lambda t, i, p: by * gradients(t, i, p)


def zero(t, i, p):
    return torch.zeros_like(p)


def during(steps, then):
    """Ordinary grads but in some steps."""
    return lambda t, i, p: then(t, i, p) if t in steps else gradients(t, i, p)


def first(then):
    """Ordinary grads but for the first parameter."""
    return lambda t, i, p: then(t, i, p) if i == 0 else gradients(t, i, p)


def none(t, i, p):
    return None


def now_and_then(t, i, p):
    """Each parameter in other steps."""
    return gradients(t, i, p) if t % (i + 1) == 0 else None


def at_random(t, i, p):
    return gradients(t, i, p) if (7 * t + 3 * i) % 5 > 1 else None


def low_rank(t, i, p):
    """Of rank 3 at the most, in float32 too: of few digits."""
    if p.ndim < 2:
        return gradients(t, i, p)
    rows, columns = p.shape[0], p.numel() // p.shape[0]
    left, right = normal((rows, 3), 50 + t), normal((3, columns), 60 + t)
    return ((512 * left).round() @ (512 * right).round()).reshape(p.shape) / 512**2


def sparse_rows(t, i, p):
    g = gradients(t, i, p)
    if p.ndim:
        g[t % 2 :: 2] = 0
    return g


def one_row(t, i, p):
    g = gradients(t, i, p)
    if p.ndim:
        g[1:] = 0
    return g


def one_spike(t, i, p):
    g = 1e-3 * gradients(t, i, p)
    if p.numel():
        g.view(-1)[0] = 1e3
    return g


def definite(t, i, p):
    """Minus a product with itself."""
    a = gradients(t, i, p)
    return -(a @ a.T) if p.ndim == 2 else -a.abs()


def identity(t, i, p):
    """Equal singular values."""
    return torch.eye(*p.shape, dtype=p.dtype) if p.ndim == 2 else torch.ones_like(p)


def zeros(i, shape):
    return torch.zeros(shape, dtype=torch.float64)


def times(by):
    return lambda i, shape: by * weights(i, shape)


# ---------------------------------------------------------------- hypers


def no_decay(own):
    return {k: 0.0 for k in ("weight_decay", "lambd") if k in own}


def having(**hypers):
    """Some hypers, for those that have them all."""
    return lambda own: hypers if set(hypers) <= set(own) else None


def betas(value):
    def hypers(own):
        if not isinstance(own.get("betas"), tuple):
            return None
        return {"betas": (value,) * len(own["betas"])}

    return hypers


def one_of_betas(i, value):
    def hypers(own):
        given = own.get("betas")
        if not isinstance(given, tuple) or i >= len(given):
            return None
        return {"betas": (*given[:i], value, *given[i + 1 :])}

    return hypers


def number(name, value):
    return lambda own: {name: value} if type(own.get(name)) in (int, float) else None


def numbers():
    """Every hyper that is a number, of any subject."""
    found = {n for s in subjects() for n, v in s.hypers.items() if type(v) in (int, float)}
    return sorted(found - {"lr"})


def each(value):
    """The group's lr as another kind of number."""
    return lambda own: {"lr": value(own["lr"])} if "lr" in own else None


def lr_0_in(*steps):
    def at(t, run):
        for i, g in enumerate(run.opt.param_groups):
            g["lr"], run.kept[i] = (
                0.0 if t in steps else run.kept.get(i, g["lr"]),
                run.kept.get(i, g["lr"]),
            )

    return at


def halved(t, run):
    for g in run.opt.param_groups:
        g["lr"] *= 0.5


# ---------------------------------------------------------------- around


def thaw(t, run):
    """The first parameter is frozen for two steps."""
    run.params[0].requires_grad_(t >= 2)


@contextmanager
def default_float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def transposed(x):
    """Rows and columns in the other order of memory."""
    return x.transpose(0, 1).contiguous().transpose(0, 1) if x.ndim > 1 else x


def strided(x):
    """Every second element of a larger tensor."""
    return torch.stack([x, x], dim=-1)[..., 0]


SKEWED = ((10, 24), (24, 10), (16, 16), (5, 1), (1, 5), (1, 1))
THIN = ((300, 1), (1, 300), (10, 64), (64, 10), (32, 32))
SHAPES = (
    *((), (1,), (0,), (0, 3), (3, 0), (1, 5), (5, 1), (1, 30), (30, 1)),
    *((3, 4, 1, 1), (2, 3, 4), (0, 2, 2), (2, 0, 3, 3)),
)

EDGES = (
    Edge("ordinary", (*RIGHT, moves)),
    Edge("going on", GOES_ON),
    # grads of zero
    Edge("grads zero", (*SOUND, still), grad=zero, hypers=no_decay, fast=True),
    Edge("grads zero, decay", RIGHT, grad=zero, hypers=having(weight_decay=0.1)),
    Edge("first grad zero", (*RIGHT, moves), grad=during({0}, zero), steps=6, fast=True),
    Edge("grads zero for a while", (*RIGHT, moves), grad=during({0, 1, 2}, zero), steps=6),
    Edge("grads zero later", RIGHT, grad=during({2, 3, 4, 5}, zero), steps=6),
    Edge("grads zero in between", RIGHT, grad=during({2, 3}, zero), steps=6),
    Edge("first parameter's grads zero", (*SOUND,), grad=first(zero), hypers=no_decay),
    Edge("parameters zero", (*RIGHT, moves), start=zeros, steps=6, fast=True),
    Edge("parameters and grads zero", (*SOUND, still), start=zeros, grad=zero),
    Edge("parameters zero, first grad too", RIGHT, start=zeros, grad=during({0}, zero)),
    # sizes
    *(
        Edge(f"grads of {s}", RIGHT, grad=scaled(float(s)))
        for s in ("1e-30", "1e-20", "1e-10", "1e-6", "1e-3", "1e3", "1e6", "1e10", "1e18")
    ),
    Edge("grads of 1e-42", SOUND, grad=scaled(1e-42)),
    Edge("grads of 1e25", (engines_agree,), grad=scaled(1e25)),
    Edge(
        "a first parameter of 1e25", (engines_agree, first_disturbs_none), grad=first(scaled(1e25))
    ),
    Edge(
        "a first parameter of NaN",
        (engines_agree, first_disturbs_none),
        grad=first(scaled(float("nan"))),
    ),
    Edge("one large among small", RIGHT, grad=one_spike),
    Edge("parameters of 1e6", RIGHT, start=times(1e6)),
    Edge("parameters of 1e-6", RIGHT, start=times(1e-6)),
    Edge("parameters of 1e-20", RIGHT, start=times(1e-20)),
    # shapes
    Edge("all shapes", (*RIGHT, state_is_made), shapes=SHAPES, steps=3, fast=True),
    Edge("empty parameters alone", (*SOUND, state_is_made), shapes=((0,), (0, 3), (3, 0))),
    Edge("one number", RIGHT, shapes=((),)),
    Edge("a single parameter", RIGHT, shapes=((4, 3),)),
    Edge("a single vector", RIGHT, shapes=((7,),)),
    Edge("rank-deficient", RIGHT, shapes=SKEWED, grad=low_rank, steps=3, close=1e-2, fast=True),
    Edge("skewed", RIGHT, shapes=THIN),
    Edge("skewed and rank-deficient", RIGHT, shapes=THIN, grad=low_rank, steps=3, close=1e-2),
    Edge(
        "equal values",
        RIGHT,
        shapes=((40, 50), (2000,)),
        start=lambda i, s: zeros(i, s) + 0.5,
        grad=lambda t, i, p: torch.full_like(p, 0.25),
    ),
    # kinds of grads
    Edge("sparse rows", RIGHT, grad=sparse_rows),
    Edge("one row", RIGHT, grad=one_row),
    Edge("a constant gradient", RIGHT, grad=lambda t, i, p: gradients(0, i, p), steps=30),
    Edge("alternating grads", RIGHT, grad=lambda t, i, p: (-1) ** t * gradients(0, i, p), steps=6),
    Edge("grad equal to the parameter", RIGHT, grad=lambda t, i, p: p),
    Edge("grad opposite to the parameter", RIGHT, grad=lambda t, i, p: -p),
    Edge("negative-definite", RIGHT, grad=definite, shapes=((6, 6), (5,))),
    Edge("identity", RIGHT, grad=identity, shapes=((6, 6), (4, 4))),
    # lr, loss, decay
    Edge("lr 0", SOUND, at=lr_0_in(0, 1, 2, 3)),
    Edge("lr 0 at first", RIGHT, at=lr_0_in(0)),
    Edge("lr 0 in the middle", RIGHT, at=lr_0_in(1, 2)),
    Edge("lr 0 at the end", RIGHT, at=lr_0_in(3)),
    Edge("lr halved in each step", RIGHT, at=halved),
    Edge("loss 0", RIGHT, loss=lambda t: 0.0),
    Edge("loss 0 and grads zero", (*SOUND, still), grad=zero, loss=lambda t: 0.0, hypers=no_decay),
    Edge("loss 0, then not", RIGHT, loss=lambda t: float(t > 1)),
    Edge("negative loss", RIGHT, loss=lambda t: -1.0 - t),
    Edge("decay", RIGHT, hypers=having(weight_decay=0.1)),
    Edge("large decay", RIGHT, hypers=having(weight_decay=10.0)),
    Edge("betas 0", RIGHT, hypers=betas(0.0)),
    Edge("eps 0", RIGHT, hypers=number("eps", 0.0)),
    Edge("momentum 0", RIGHT, hypers=number("momentum", 0.0)),
    Edge("maximize", (*SOUND, mirrored), hypers=having(maximize=True)),
    Edge("lr as a tensor", (*SOUND, as_plain), hypers=each(torch.tensor)),
    Edge("lr as a tensor of one", (*SOUND, as_plain), hypers=each(lambda lr: torch.tensor([lr]))),
    Edge(
        "lr as a double tensor",
        (*SOUND, as_plain),
        hypers=each(lambda lr: torch.tensor(lr, dtype=torch.float64)),
    ),
    *(
        Edge(f"{name} = {value}", SOUND, hypers=number(name, value), refusable=True)
        for name in numbers()
        for value in (0, 1)
    ),
    *(
        Edge(f"betas[{i}] = {value}", SOUND, hypers=one_of_betas(i, value), refusable=True)
        for i in range(3)
        for value in (0.0, 1.0)
    ),
    # groups
    Edge("groups with other hypers", (*SOUND, groups_apart), grouped=True),
    Edge("a group that joins", (*SOUND, last_disturbs_none), late=True),
    # no grads
    Edge("no grad in the second step", (*SOUND, no_grad_no_move), grad=during({1}, none)),
    Edge("no grad in the first steps", (*SOUND, no_grad_no_move), grad=during({0, 1}, none)),
    Edge("grads in other steps", (*SOUND, no_grad_no_move), grad=now_and_then, steps=6),
    Edge(
        "grads at random",
        (*SOUND, no_grad_no_move, from_file, from_pickle, while_evaluating),
        grad=at_random,
        steps=6,
        fast=True,
    ),
    Edge(
        "no grad for the first parameter",
        (*SOUND, no_grad_no_move, without_first),
        grad=first(none),
        steps=6,
        fast=True,
    ),
    Edge(
        "a first parameter that comes late",
        (*SOUND, no_grad_no_move, first_disturbs_none),
        grad=first(during({0, 1, 2}, none)),
        steps=6,
    ),
    Edge(
        "a first parameter that leaves",
        (*SOUND, no_grad_no_move, first_disturbs_none),
        grad=first(during({3, 4, 5}, none)),
        steps=6,
    ),
    Edge(
        "a first parameter that thaws",
        (*SOUND, no_grad_no_move, first_disturbs_none),
        at=thaw,
        grad=first(during({0, 1}, none)),
        steps=6,
    ),
    # memory and dtypes
    Edge("transposed", (*SOUND, as_plain), laid=transposed),
    Edge("strided", (*SOUND, as_plain), laid=strided),
    Edge("default dtype float64", (*SOUND, as_plain), around=default_float64),
    Edge("float64", SOUND, dtype=torch.float64),
    Edge("bfloat16", (*RIGHT, *GOES_ON), dtype=torch.bfloat16, start=times(1 / 64), close=0.1),
    Edge("float16", (*RIGHT, *GOES_ON), dtype=torch.float16, start=times(1 / 64), close=0.1),
    Edge("float16, grads zero", (*SOUND, still), dtype=torch.float16, grad=zero, hypers=no_decay),
    Edge(
        "bfloat16, first grad zero",
        (finite,),
        dtype=torch.bfloat16,
        grad=during({0}, zero),
        steps=6,
        start=times(1 / 64),
    ),
)
