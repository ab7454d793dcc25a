"""Running a chain on proxies, by the rules of the eager loop: `ParamStep`, in symbols."""

from typing import Any

import torch

from weft.contract.bind import Binding, Call
from weft.contract.names import MISSING, Names
from weft.contract.slips import check_result
from weft.engine.ir.graph import Node
from weft.engine.ir.traced import Example, TensorSpec, Traced, Untraceable
from weft.engine.rng import undrawn
from weft.engine.storage import LOW, computed_in
from weft.engine.trace.branches import explore
from weft.engine.trace.dispatch import Mode, dispatch
from weft.engine.trace.factories import item
from weft.engine.trace.outside import Outside
from weft.engine.trace.parameter import Owner
from weft.engine.trace.rebind import Rebinder
from weft.engine.trace.results import Results
from weft.engine.trace.scalar import Scalar
from weft.engine.trace.shims import of_numpy
from weft.engine.trace.tensor import Storage, TensorProxy
from weft.engine.trace.tracer import Calls, Tracer

__all__ = ["trace"]


def trace(binding: Binding, example: Example) -> Traced:
    """The graph of a bound chain for one parameter.

    Args:
        binding: the chain.
        example: the parameter, its state, and the values that branches are decided on.

    Raises:
        Untraceable: with the callback, its file and line, and the reason.
    """
    if example.dtype.is_complex or not example.dtype.is_floating_point:
        raise Untraceable(f"the parameter is {example.dtype}", binding.calls[0].name)
    with torch.no_grad(), undrawn():
        return ChainTrace(binding, example).run()


class ChainTrace(Names):
    """One trace of a chain: the values of its names, as `ParamStep` holds them."""

    def __init__(self, binding: Binding, example: Example):
        self.binding, self.example, self.hypers = binding, example, example.hypers
        self.t = t = Tracer(example.device, Calls(dispatch, of_numpy))
        self.rebinder = Rebinder()
        self.mode = Mode(t)
        dtype, shape, contig = (
            computed_in(example.dtype),
            tuple(example.shape),
            example.contiguous,
        )
        slot = lambda name: Storage(t.graph.load(name, shape, dtype), lasting=True)
        self.work = TensorProxy.make(t, slot("p"), (), contig, owner=Owner(self, example))
        self.user_grad = self.grad = TensorProxy.make(t, slot("grad"), (), contig)
        self.update: TensorProxy | None = None
        self.grad_is_update = False  # a way through a branch left the update to be the grad
        self.own: dict[str, Any] = dict(example.state)  # values as callbacks read them, once read
        self.read: set[str] = set()
        self.outside = Outside(t, binding, example, self.rebinder)
        self.values: dict[str, Any] = {}
        self.known: dict[str, Any] = {}  # each look-up leaves its mark in the graph
        self.out = Results(t, binding, example)

    def run(self) -> Traced:
        """Call every callback once."""
        for call in self.binding.calls:
            self.t.graph.source = call.name
            try:
                self._one(call)
            except Untraceable as e:
                s = call.spec
                raise Untraceable(e.reason, e.callback or call.name, s.file, s.line) from e
            except Exception as e:
                s = call.spec
                reason = f"on the tracer's stand-ins it raised {type(e).__name__}: {str(e).strip()}"
                raise Untraceable(reason, call.name, s.file, s.line) from e
        if self.binding.keeps_step and not self.example.counted:
            self.own["step"] = TensorProxy.make(self.t, Storage(self.outside.count()), (), True)
            self.out.dirty.add("step")
        return self._finish()

    def _one(self, call: Call) -> None:
        result, copies = self._call(call)
        self._notice(copies)
        over = call.over
        if over is not None:
            self.values[over.name] = self.out.over(over.name, result, call.name)
        elif isinstance(result, dict):
            for name, value in self._named(result, call).items():  # type: ignore[arg-type]
                self._bind(name, value)
        else:
            check_result(call, result)
        self.out.note_in_place(self, call.name)

    # ------------------------------------------------------------ a call

    def _call(self, call: Call) -> tuple[Any, dict[str, TensorProxy]]:
        copies: dict[str, TensorProxy] = {}
        args, kwargs = self._arguments(call, copies)
        fn = self.rebinder.rebind(call.spec.fn, call.name, None)
        grad, version = self.grad, self.grad.storage_.version

        def run() -> Any:
            self.grad = grad
            with self.mode:
                out = fn(*args, **kwargs)
            if self.grad is not grad and self.t.path.order:
                raise Untraceable("it assigns to .grad and branches on a tensor")
            changed = self.rebinder.changed()
            if changed:
                raise Untraceable(changed)
            return out

        result = explore(self.t, self._memory(copies, kwargs), run, self._current(call, copies))
        written = self.grad is not grad or grad.storage_.version != version
        if self.grad_is_update and written:
            raise Untraceable("it changes the grad after a branch left the update to be the grad")
        return result, copies

    def _memory(self, copies: dict[str, Any], kwargs: dict[str, Any]) -> list[Storage]:
        """Every storage that the call can write and that outlives it."""
        tensors = [self.work, self.user_grad, self.grad, *copies.values(), *kwargs.values()]
        tensors += [self.update, *self.own.values(), *self.values.values()]
        self.t.given = [x for x in tensors if isinstance(x, TensorProxy)]
        found = {id(x.storage_): x.storage_ for x in self.t.given}
        return list(found.values())

    def _current(self, call: Call, copies: dict[str, TensorProxy]) -> Any:
        """What a name is worth on a way through the callback that does not return it."""

        def current(name: str) -> Any:
            name = call.spec.produces.get(name, name)
            if name == "p":
                return self.work
            if name == "grad":
                return copies.get("grad", self.grad)
            if name == "update":
                if self.update is None:
                    self.grad_is_update = True
                    return copies.get("update", self.grad)
                return self.update
            if name in self.values:
                return self.values[name]
            return self._state(name) if name in self.own else MISSING

        return current

    def _vector(self, name: str, call: Call, copies: dict[str, TensorProxy]) -> TensorProxy:
        if name == "update" and self.update is not None:
            return self.update
        if name == "grad" and self.grad is not self.user_grad:
            return self.grad
        if name not in copies:
            copy = TensorProxy.fresh(self.t, self.grad.read(), self.grad.contig)
            copy.storage_.lasting, copies[name] = True, copy
        return copies[name]

    def _value(self, name: str) -> Any:
        if name in self.binding.shared:
            self.out.agreed(name, self.values[name].node)
        return self.values[name]

    def _notice(self, copies: dict[str, TensorProxy]) -> None:
        for name, copy in copies.items():
            if copy.storage_.version:
                if name == "update":
                    self.update = copy
                else:
                    self._set_grad(copy)

    # ------------------------------------------------------------ values from outside

    def _loss(self) -> Any:
        return MISSING if self.example.loss is None else self.outside.loss()

    def _step(self) -> Any:
        return self.outside.step()

    def _is_set(self, name: str) -> bool:
        return name in self.example.given

    def _hyper(self, name: str) -> Any:
        return self.outside.hyper(name)

    def _state(self, name: str) -> Any:
        """One state; its proxy is made when it is first read."""
        if name in self.read:
            return self.own[name]
        held = self.own[name]
        if isinstance(held, TensorSpec):
            if held.dtype.is_complex:
                raise Untraceable(f"the state {name!r} is complex")
            node = self.t.graph.load(name, tuple(held.shape), computed_in(held.dtype))
            if self.binding.chooses(name) and node.dtype.is_floating_point:
                node = self.t.cast(node, self.work.dtype)
            value: Any = TensorProxy.make(
                self.t, Storage(node, lasting=True), (), self.example.contiguous
            )
        else:
            value = self.outside.number("number", name, held, ())
        self.read.add(name)
        self.own[name] = value
        return value

    # ------------------------------------------------------------ a result

    def _bind(self, name: str, value: Any) -> None:
        self.out.wrote_by(name, self.t.graph.source)
        super()._bind(name, value)

    def _set_update(self, value: Any) -> None:
        if not isinstance(value, Node | torch.Tensor):
            raise ValueError(f"it returned 'update' as {value!r}")
        node = self.t.tensor(value)
        wide = node.dtype.is_floating_point and node.dtype is not self.work.dtype
        self.update = self._fresh(self.t.cast(node, self.work.dtype) if wide else value)

    def _fresh(self, value: Any) -> Any:
        """A returned value with memory of its own."""
        if isinstance(value, Node | torch.Tensor):
            node = self.t.tensor(value)
            return TensorProxy.fresh(self.t, node, self._contig(node))
        return value

    def _contig(self, node: Node) -> bool:
        """Whether what a callback returned is certain to be C-contiguous: a copy keeps its strides."""
        return self.example.contiguous and node.index not in self.t.strided

    def _set_p(self, value: Any) -> None:
        if (
            not isinstance(value, Node | torch.Tensor)
            or self.t.tensor(value).shape != self.work.shape
        ):
            raise ValueError(f"it returned 'p' as something else than {tuple(self.work.shape)}")
        self.work.write(self.t.tensor(value))

    def _set_grad(self, value: Any) -> None:
        node = self.t.tensor(value)
        if node.shape != self.work.shape:
            raise ValueError(f"it returned 'grad' as {node.shape}, not {tuple(self.work.shape)}")
        if self.grad_is_update:
            raise Untraceable("it changes the grad after a branch left the update to be the grad")
        contig = self._contig(node)
        self.grad = TensorProxy.fresh(self.t, self.t.cast(node, self.work.dtype), contig)

    def _set_shared(self, name: str, value: Any) -> None:
        t = self.t
        if isinstance(value, Node | torch.Tensor):
            value = item(t, value)
        if not isinstance(value, float | int):
            raise Untraceable(f"the shared value {name!r} becomes {value!r}")
        if isinstance(value, Scalar):
            value.stored_as()
        node = self.out.shared(name, value)
        if name not in self.values:
            self.values[name] = Scalar(t, node)

    def _set_state(self, name: str, value: Any) -> None:
        spec = self.example.state.get(name)
        self.out.dirty.add(name)
        if isinstance(value, Node | torch.Tensor):
            node = self.t.tensor(value)
            held = self._state(name) if name in self.own else None
            if isinstance(held, TensorProxy) and node.shape == tuple(held.shape):
                if isinstance(spec, TensorSpec) and (
                    spec.dtype in LOW or (spec.dtype != held.dtype and self.binding.chooses(name))
                ):
                    self.own[name] = self._fresh(node)
                    self._last(name)
                    return
                both_float = node.dtype.is_floating_point and held.dtype.is_floating_point
                if node.dtype is held.dtype or both_float:
                    held.write(node)
                    return
            stored = self.out.stored(name, node)
            self.own[name] = TensorProxy.fresh(self.t, stored, self._contig(node))
        elif isinstance(value, int | float) and isinstance(spec, TensorSpec) and not spec.shape:
            held = self._state(name)  # a number that is kept as a tensor
            held.write(self.t.full(value, (), held.dtype))
        else:
            self.own[name] = value
        self._last(name)

    def _last(self, name: str) -> None:
        """A state as it is from here on, in memory of its own."""
        self.read.add(name)
        value = self.own[name]
        if isinstance(value, TensorProxy):
            value.storage_.lasting = True

    def _finish(self) -> Traced:
        return self.out.finish(self)
