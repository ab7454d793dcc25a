"""Callbacks that return `update` in a dict, each packed in another way."""

import functools

import torch

KEY = "update"


def pack(u):
    return {"update": u}


def pack_under(key, value=None, **more):
    return {key: value, **more}


def pack_as(key, value):
    return {key: value}


def fill(out, u):
    out["update"] = u


def spread(**named):
    return named


def a_variable(update):
    r = {"update": update}
    return r  # noqa: RET504


def by_item(update):
    out = {}
    out["update"] = update
    return out


def by_method(update):
    out = dict()  # noqa: C408
    out.update(update=update)
    return out.copy()


def by_setdefault(update):
    out = {}
    out.setdefault("update", update)
    return out


def by_call(update):
    return dict(update=update)  # noqa: C408


def by_union(update):
    out = {}
    out |= {"update": update}
    return out


def by_helper(update):
    return pack(update)


def by_keywords(update):
    return spread(update=update)


def by_filling(update):
    out = {}
    fill(out, update)
    return out


def by_helpers_key(update):
    return pack_under("update", update)


def by_global_key(update):
    return {KEY: update}


def by_local_key(update):
    key = "update"
    return {key: update}


def by_loop(update):
    return {k: update for k in ("update",)}  # noqa: C420


def by_star(update, **kwargs):
    return {**pack(update)}


def by_inner(update):
    def packed():
        return {"update": update}

    return packed()


def by_lambda(update):
    return (lambda u: dict(update=u))(update)  # noqa: C408


def within_with(update):
    with torch.no_grad():
        return {"update": update}


def within_try(update):
    try:
        halved = update / 2
    except ValueError:
        return None
    else:
        return {"update": halved}
    finally:
        print()


def by_match(update):
    match update.ndim:
        case 0:
            return {"update": update}
        case _:
            return {"update": update * 2}


def in_a_loop(update):
    out = None
    for i in range(3):
        out = {"update": update} if i else None
    return out


def decorate(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapper


def negated(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        return {"update": -fn(*args, **kwargs)["direction"]}

    return wrapper


def keyed(key):
    def cb(update):
        return {key: update}

    return cb


class Packer:
    kind = "update"

    def __init__(self):
        self.name = "update"

    def __call__(self, update):
        return self.wrapped({self.name: update})

    def wrapped(self, out):
        return out

    def method(self, update):
        return {self.kind: update}

    @staticmethod
    def static(update):
        return {"update": update}

    @classmethod
    def of_class(cls, update):
        return {cls.kind: update}


WAYS = [
    a_variable, by_item, by_method, by_setdefault, by_call, by_union, by_helper, by_keywords,
    by_filling, by_helpers_key, by_global_key, by_local_key, by_loop, by_star, by_inner, by_lambda,
    within_with, within_try, by_match, in_a_loop, decorate(by_item),
    negated(lambda update: {"direction": update}), keyed("update"), keyed(KEY), Packer(),
    Packer().method, Packer.static, Packer.of_class, functools.partial(pack_as, "update"),
    functools.partial(pack_as, key="update"), lambda update: {"update": update},
    lambda update: pack(update) if update.ndim else None,
]  # fmt: skip


# ---------------------------------------------------------------- and that work on it in place


def method(update):
    update.mul_(2)


def augmented(update):
    update *= 2


def item(update):
    update[0] = 2


def into_out(update):
    torch.mul(update, 2, out=update)


def view(update):
    flat = update.view(-1)
    flat.mul_(2)


def foreach(update):
    torch._foreach_mul_([update], 2)


def from_kwargs(p, **kwargs):
    kwargs["update"].mul_(2)


def got_from_kwargs(p, **kwargs):
    kwargs.get("update").data.mul_(2)


def through_a_helper(update):
    method(update)


def in_a_for(update):
    for u in (update,):
        u.data.mul_(2)


IN_PLACE = [
    method, augmented, item, into_out, view, foreach, from_kwargs, got_from_kwargs,
    through_a_helper, in_a_for,
]  # fmt: skip
