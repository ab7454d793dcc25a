"""Trace, interpret, compare with the eager loop: over the corpus, every hyper moving."""

import copy
from typing import Any

import pytest
import torch
from corpus import Chain, all_chains

import weft
from weft.engine.eager import loop
from weft.engine.eager.infer_state import init_state
from weft.engine.eager.loop import Barrier, combine
from weft.engine.host.python_scalars import host_function
from weft.engine.ir.interpret import interpret
from weft.engine.trace import Example, Kept, TensorSpec, Traced, trace

STEPS = 9


def make(chain: Chain, shape: tuple[int, ...], dtype: torch.dtype = torch.float32):
    """An eager optimizer of one parameter."""
    torch.manual_seed(hash_of(chain.name))
    p = torch.nn.Parameter((torch.randn(shape, dtype=torch.float64) * 0.7).to(dtype))
    return p, weft.Optimizer([p], chain.elements, engine="eager", **chain.hypers)


def hash_of(text: str) -> int:
    """A seed that is the same in every process."""
    return sum(ord(c) * (i + 1) for i, c in enumerate(text))


def one(value: Any) -> torch.Tensor:
    """A parameter's part of a value over all, as eager takes it."""
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float32)


class Traces:
    """The fewest lines that run a traced chain on one parameter: the reference for `run.py`."""

    def __init__(self, opt: weft.Optimizer, p: torch.Tensor):
        self.bound, self.p = opt._current()[0], p
        self.cache: dict[Any, list[Traced]] = {}
        self.count = 0

    def example(self, state: dict[str, Any], step: int, loss: Any) -> Example:
        bound = self.bound
        hypers = {k: v for k, v in bound.group.items() if k not in ("params", "param_names")}
        spec = lambda v: TensorSpec(tuple(v.shape), v.dtype) if isinstance(v, torch.Tensor) else v
        tensors = [self.p, self.grad, *(v for v in state.values() if isinstance(v, torch.Tensor))]
        return Example(
            tuple(self.p.shape), self.p.dtype, {k: spec(v) for k, v in state.items()}, hypers,
            frozenset(k for k in hypers if bound.is_set(k)), step, loss,
            contiguous=all(t.is_contiguous() for t in tensors),
        )  # fmt: skip

    def step(self, p: torch.Tensor, state: dict[str, Any], loss: Any) -> None:
        """One step of parameter `p` with grad `p.grad`."""
        self.grad = p.grad
        if self.bound.binding.keeps_step:
            state["step"] += 1
        step = int(state["step"]) if self.bound.binding.keeps_step else 0
        example = self.example(state, step, loss)

        def leaf(n):
            match n.op:
                case "hyper" | "shared":
                    value = example.hypers[n.attr("name")]
                    value = value[n.attr("index")[0]] if n.attr("index") else value
                case "step":
                    value = step
                case "loss":
                    value = loss
                case "number":
                    value = state[n.attr("name")]
            return value.item() if isinstance(value, torch.Tensor) else value

        traced = self.find(example, leaf)
        slots = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        over = lambda name, own: combine([Barrier(name, "sum", None, one(own))])
        out = interpret(traced.graph, {"p": p.data, "grad": p.grad, **slots}, leaf, over)
        for o, value in out:
            if o.kind == "p":
                p.data.copy_(value)
            elif o.kind == "grad":
                p.grad.copy_(value)
            elif o.kind == "shared":
                self.bound.group[o.name] = (
                    value.item() if isinstance(value, torch.Tensor) else value
                )
            elif o.kind == "state":
                store = traced.stores[o.name]
                if isinstance(store, TensorSpec):
                    assert tuple(value.shape) == store.shape
                    state[o.name] = value.to(store.dtype).clone(memory_format=torch.preserve_format)
                else:
                    state[o.name] = value.item() if isinstance(value, torch.Tensor) else value
                    assert type(state[o.name]) is store
        state.update({k: s.value for k, s in traced.stores.items() if isinstance(s, Kept)})

    def find(self, example: Example, leaf) -> Traced:
        """A trace whose guards hold, or a new one."""
        held = self.cache.setdefault(example.key(), [])
        for traced in held:
            host = host_function(traced, [])
            if traced.captures_hold() and host(*map(leaf, host.leaves)) is not None:
                return traced
        held.append(trace(self.bound.binding, example))
        self.count += 1
        return held[-1]


def run(chain: Chain, shape: tuple[int, ...], dtype: torch.dtype = torch.float32):
    """9 steps of eager and of the trace, side by side; gives the largest difference and the count."""
    p, opt = make(chain, shape, dtype)
    bound = opt._current()[0]
    init_state([bound], opt.state)
    q = p.detach().clone()
    state = copy.deepcopy(dict(opt.state[p]))
    traces = Traces(opt, q)
    worst = 0.0
    for k in range(STEPS):
        for name, value in chain.hypers.items():
            bound.group[name] = chain.schedule(k, name, value)
        torch.manual_seed(k)
        grad = torch.randn(shape, dtype=torch.float64).to(dtype) * 0.8
        p.grad, q.grad = grad.clone(), grad.clone()
        loss = 1.0 / (k + 1) if chain.loss else None
        group = dict(bound.group)
        torch.manual_seed(100 + k)
        with torch.no_grad():
            loop.step([bound], opt.state, loss)
        after = {k: v for k, v in bound.group.items() if group.get(k) is not v}
        bound.group.update(group)
        torch.manual_seed(100 + k)
        traces.step(q, state, loss)
        pairs = [("p", p.data, q.data), ("grad", p.grad, q.grad)]
        assert opt.state[p].keys() == state.keys()
        pairs += [(n, v, state[n]) for n, v in opt.state[p].items()]
        pairs += [(n, v, bound.group[n]) for n, v in after.items()]
        for name, a, b in pairs:
            worst = max(worst, difference(f"step {k + 1}: {name}", a, b, chain.tolerance))
    return worst, traces.count


def difference(name: str, a: Any, b: Any, tolerance: float) -> float:
    """How far two values are apart; an error beyond the tolerance."""
    if not isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        a = torch.tensor(a, dtype=b.dtype)  # min(lr, tensor): eager keeps whichever it is
    if not isinstance(a, torch.Tensor):
        if not isinstance(a, float):
            assert a == b, name
            assert type(a) is type(b), name
            return 0.0
        a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    assert a.shape == b.shape, name
    assert a.dtype == b.dtype, name
    torch.testing.assert_close(
        b, a, rtol=tolerance, atol=tolerance, equal_nan=True, msg=lambda m: f"{name}: {m}"
    )
    gap = (a.double() - b.double()).abs() / (1 + a.double().abs())
    return float(gap.nan_to_num(0).max()) if gap.numel() else 0.0


CASES = [pytest.param(c, s, id=f"{c.name} {s}") for c in all_chains() for s in c.shapes]


@pytest.mark.filterwarnings("ignore::weft.WeftWarning")
@pytest.mark.parametrize(("chain", "shape"), CASES)
def test_a_traced_chain_is_the_eager_chain(chain: Chain, shape: tuple[int, ...]):
    _, count = run(chain, shape)
    assert count <= chain.traces


def test_the_corpus_is_large_enough():
    assert len(all_chains()) >= 60
