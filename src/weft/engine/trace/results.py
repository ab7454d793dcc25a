"""What a trace leaves behind: outputs, how state is kept, and who wrote what."""

import enum
from typing import TYPE_CHECKING, Any

import torch

from weft.contract.bind import Binding
from weft.contract.declare import scalar_dtype
from weft.engine.eager.norms import Norms
from weft.engine.ir.graph import Node, OutputKind
from weft.engine.ir.traced import Example, Kept, TensorSpec, Traced, Untraceable
from weft.engine.storage import LOW, computed_in
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.tensor import Storage, TensorProxy
from weft.engine.trace.tracer import Tracer

if TYPE_CHECKING:
    from weft.engine.trace.chain import ChainTrace

__all__ = ["Results"]

CONSTANT = (str, bytes, type(None), bool, enum.Enum, torch.dtype, torch.device)


class Results:
    """Collects the outputs of one trace."""

    def __init__(self, tracer: Tracer, binding: Binding, example: Example):
        self.t, self.binding, self.example = tracer, binding, example
        self.dirty: set[str] = set()  # states that were returned
        self.wrote: dict[tuple[str, str], list[str]] = {}
        self.same_step = self.asked = False
        self._seen: dict[tuple[str, str], Node] = {}

    # ------------------------------------------------------------ on the way

    def wrote_by(self, name: str, callback: str) -> None:
        """Note who wrote a name."""
        kind = "p" if name == "p" else "shared" if name in self.binding.shared else "state"
        if name in ("grad", "update"):
            return
        names = self.wrote.setdefault((kind, name), [])
        if callback not in names:
            names.append(callback)

    def note_in_place(self, chain: "ChainTrace", callback: str) -> None:
        """Note what a callback changed in place."""
        held = [("p", "p", chain.work), ("grad", "grad", chain.user_grad)]
        held += [("state", n, v) for n, v in chain.own.items() if isinstance(v, TensorProxy)]
        for kind, name, x in held:
            node = x.storage_.value
            before = self._seen.get((kind, name))
            if node is not before and (before is not None or node.op != "load"):
                names = self.wrote.setdefault((kind, name), [])
                if callback not in names:
                    names.append(callback)
            self._seen[kind, name] = node

    def over(self, name: str, value: Any, callback: str) -> TensorProxy:
        """This parameter's part of a value over all parameters; gives the combined one."""
        if not isinstance(value, Node | torch.Tensor | float | int):
            raise Untraceable(f"over_params got {type(value).__name__}, not a number or a tensor")
        t = self.t
        node = t.tensor(value) if isinstance(value, Node | torch.Tensor) else t.lift(value)
        if not isinstance(node, Node):
            node = node.node
        if not node.is_host:
            if node.numel != 1:
                raise Untraceable(f"over_params got a tensor of {node.shape}")
            node = t.reshape(node, ())
        if node.is_host and scalar_dtype() is torch.float64:
            node = t.full(node, (), torch.float64)
        wide = not node.is_host and node.dtype is torch.float64
        t.graph.output(OutputKind.OVER, name, node)
        self.wrote["over", name] = [callback]
        dtype = torch.float64 if wide else torch.float32
        combined = t.graph.add("over", shape=(), dtype=dtype, name=name)
        return TensorProxy.make(t, Storage(combined), (), True)

    def shared(self, name: str, value: Any) -> Node:
        """A new value for the group; gives its node."""
        node = self.t.lift(value)
        node = node if isinstance(node, Node) else node.node
        if not any(o.kind is OutputKind.SHARED and o.name == name for o in self.t.graph.outputs):
            self.t.graph.output(OutputKind.SHARED, name, node)
        return node

    def agreed(self, name: str, node: Node) -> None:
        """See that all parameters of a group come to the same value as the one that decides it."""
        todo, seen = [node], {node.index}
        while todo:
            n = todo.pop()
            if n.op == "load" and n.attr("slot") == "step":
                self.same_step = True
            elif n.op in ("load", "number", "call"):
                raise Untraceable(
                    f"the shared value {name!r} is decided from what belongs to one parameter: "
                    "combine it with over_params first"
                )
            if n.op == "step":
                self.same_step = True
            todo += [a for a in n.args if a.index not in seen]
            seen |= {a.index for a in n.args}

    def stored(self, name: str, node: Node) -> Node:
        """New state in the dtype that it is computed in from the next step on."""
        spec = self._spec(name, node)
        chosen = self.binding.chooses(name)
        if spec.dtype in LOW or self.example.dtype in LOW or chosen:
            return node  # rounded once, when the chain is through
        return self.t.cast(node, spec.dtype)

    def _spec(self, name: str, node: Node) -> TensorSpec:
        """How a state is kept that is new, or no longer what it was."""
        shape = node.shape or ()
        p = self.example
        kept = self.binding.dtype_of(name, node.dtype, len(shape), p.dtype, len(p.shape))
        return TensorSpec(shape, kept)

    # ------------------------------------------------------------ at the end

    def finish(self, chain: "ChainTrace") -> Traced:
        """The outputs and guards of the whole chain."""
        t, graph = self.t, self.t.graph
        p, grad = chain.work.storage_, chain.user_grad.storage_
        if p.value.op != "load":
            graph.output(OutputKind.P, "p", p.value)
        if grad.value.op != "load":
            graph.output(OutputKind.GRAD, "grad", grad.value)
        stores = {n: s for n in chain.own if (s := self._state(chain, n)) is not None}
        if self.example.norms:
            self._norms()
        live = {n.index for n in graph.live()}
        for n in t.random:
            if n.index not in live:
                spec = next(c.spec for c in chain.binding.calls if c.name == n.source)
                reason = "it draws random numbers that it does not use"
                raise Untraceable(reason, n.source, spec.file, spec.line)
        graph.verify()
        return Traced(
            graph, t.decisions, t.pins, _once(chain.rebinder.captures), stores, self.wrote,
            bool(t.random), self.same_step, self.asked,
        )  # fmt: skip

    def _norms(self) -> None:
        """Sums of squares, in double, of the parameter after the step, of its grad, of the change."""
        t, example = self.t, self.example
        t.graph.source = "stats()"
        dtype = computed_in(example.dtype)
        shape = tuple(example.shape)
        before, grad = (t.graph.load(slot, shape, dtype) for slot in ("p", "grad"))
        after = next((o.node for o in t.graph.outputs if o.kind is OutputKind.P), before)
        if example.dtype in LOW and after is not before:  # what will be kept of it
            after = t.graph.add("cast", (after,), shape=shape, dtype=dtype, through=example.dtype)
        wide = {n: t.cast(n, torch.float64) for n in (before, after, grad)}
        change = t.graph.add("sub", (wide[after], wide[before]), shape=shape, dtype=torch.float64)
        for name, x in zip(Norms._fields, (wide[after], wide[grad], change), strict=True):
            square = t.graph.add("mul", (x, x), shape=shape, dtype=torch.float64)
            axes = tuple(range(len(shape)))
            total = t.graph.add(
                "sum", (square,), shape=(), dtype=torch.float64, dims=axes, keepdim=False
            )
            t.graph.output(OutputKind.NORM, name, total)

    def _state(self, chain: "ChainTrace", name: str) -> Any:
        """The output of one state, if it was written, and how it is kept."""
        graph, value = self.t.graph, chain.own[name]
        spec = self.example.state.get(name)
        if isinstance(value, TensorProxy):
            node = value.read()
            untouched = node.op == "load" and node.attr("slot") == name
            if untouched or (name not in self.dirty and value.storage_.frozen):
                return None
            if not (isinstance(spec, TensorSpec) and self._fits(spec, node)):
                spec = self._spec(name, node)
            dtype = computed_in(spec.dtype)
            graph.output(OutputKind.STATE, name, self.t.cast(node, dtype))
            return spec
        if name not in self.dirty:
            return None
        if isinstance(value, Scalar):
            graph.output(OutputKind.STATE, name, value.node)
            return value.stored_as()
        if type(value) in (float, int, bool):
            graph.output(OutputKind.STATE, name, graph.const(value))
            return type(value)
        if not isinstance(value, CONSTANT):  # one object, for all parameters and steps
            raise Untraceable(f"the state {name!r} is a {type(value).__name__}")
        return Kept(value)

    def _fits(self, spec: TensorSpec, node: Node) -> bool:
        """Whether a value can be copied into the state that is there."""
        if spec.shape != node.shape:
            return False
        both_float = spec.dtype.is_floating_point and node.dtype.is_floating_point
        return both_float or spec.dtype is node.dtype


def _once(captures: list[Any]) -> list[Any]:
    """Each captured name once."""
    seen: dict[tuple[str, int], Any] = {}
    for c in captures:
        seen.setdefault((c.name, id(c.value)), c)
    return list(seen.values())
