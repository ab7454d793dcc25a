"""One parameter's way through its chain in one step: what each callback is given and gives back."""

from collections.abc import Generator, Mapping, MutableMapping
from typing import Any, NamedTuple

import torch

from weft.contract.bind import Call
from weft.contract.groups import BoundGroup
from weft.contract.hyperparameters import as_read, is_one
from weft.contract.names import MISSING
from weft.contract.slips import check_result
from weft.contract.spec import BUILTIN
from weft.engine.eager.held_state import HeldState
from weft.engine.eager.owners import Owners
from weft.engine.storage import LOW, GivenGrad, memory_of, one_number, stored_shape
from weft.errors import StepError

__all__ = ["Barrier", "ParamStep"]

USERS = "the user's grad"


class Barrier(NamedTuple):
    """A step that waits for a value over all parameters."""

    name: str
    op: str
    scope: int | None  # the group that it is combined over, None for all
    value: torch.Tensor


class ParamStep(HeldState):
    """One parameter's way through its chain in one step.

    `work` is what callbacks see as the parameter: itself, or its values as float32 where it or its
    grad has 16 bits, or as pairs of reals where it is complex. `values` holds what is read and
    written as float32 until the end of the step, and the values over all parameters. What a step
    writes outside of the parameter and existing state is written at its end.
    """

    __slots__ = (
        "ahead",
        "binding",
        "bound",
        "call",
        "combined",
        "given",
        "grad_before",
        "hypers",
        "known",
        "loss",
        "own",
        "owners",
        "p",
        "path",
        "place",
        "shared",
        "state",
        "step",
        "update",
        "user_grad",
        "values",
        "work",
        "work_grad",
        "wrote",
    )  # fmt: skip

    def __init__(
        self,
        bound: BoundGroup,
        i: int,
        p: torch.Tensor,
        state: MutableMapping[torch.Tensor, dict[str, Any]],
        loss: Any,
        shared: dict[tuple[int, str], Any],
        known: Mapping[str, Any],
    ):
        """`known`: what is `for_all_alike` of the group."""
        self.bound, self.hypers, self.binding = bound, bound.group, bound.binding
        self.p, self.state, self.loss, self.shared = p, state, loss, shared
        self.own: dict[str, Any] = state.get(p, {})
        self.place = i
        self.owners = Owners()
        self.values: dict[str, Any] = {}
        self.known = dict(known)
        self.given: torch.Tensor | None = None  # the copy of the grad that is only read
        self.update: torch.Tensor | None = None
        self.step = 0
        self.wrote = False  # to the parameter or its state, as far as that can be told
        self.call: Call = bound.binding.calls[0]
        self.ahead: list[str] = list(bound.binding.over)
        self.path = self._path()

    @property
    def name(self) -> str:
        """What messages call the parameter."""
        return self.bound.name_of(self.place)

    def check(self) -> None:
        """Refuse state on another device than the parameter, before anything is written."""
        device = self.p.device
        for name, value in self.own.items():
            if (
                isinstance(value, torch.Tensor)
                and value.device != device
                and value.ndim
                and name in self.binding.state_names
            ):
                raise StepError(
                    f"state {name!r} of parameter {self.name} is on {value.device} and the "
                    f"parameter on {device}: move the model first, then make the optimizer "
                    "or load its state. No parameter has been stepped"
                )

    def advance(self, value: Any) -> Barrier | None:
        """Go on with the combined value; None when the chain is through."""
        self.combined = value
        return next(self.path, None)

    def close(self) -> None:
        """Give up: the user's grad is put back."""
        self.path.close()

    def _path(self) -> Generator[Barrier, None, None]:
        self._open()
        self._begin()
        try:
            for call in self.binding.calls:
                self.call = call
                out = self._call(call)
                over = call.over
                if over is not None:
                    scope = self.bound.index if over.scope == "group" else None
                    self._forget_given()  # waiting, it would be a copy for each parameter
                    yield Barrier(over.name, over.op, scope, self._plain(one_number(out)))
                    self.ahead.remove(over.name)
                    self._read_as(over.name, self.combined.to(self.work.device, copy=True))
                elif isinstance(out, dict):
                    self._take(out, call)
                elif out is not None:
                    check_result(call, out)
            self._store()
        finally:
            if self.p.grad is not self.user_grad and self.work is self.p:
                self.p.grad = self.user_grad
            self.update = self.given = None  # the next parameter's take this memory, still cached
            for held in (self.owners.of, self.known, self.values):
                held.clear()

    def _open(self) -> None:
        p, grad = self.p, self.p.grad
        assert grad is not None
        self.user_grad, self.work = grad, self._readable(p)
        if self.work is p and grad.dtype in LOW:
            self.work = p.detach()
        if self.work is not p:
            self.work.grad = self._readable(grad).to(self.work.dtype)
        assert self.work.grad is not None
        self.work_grad = self.work.grad
        self.grad_before = self.work_grad.clone() if grad.dtype in LOW else None
        if self.binding.keeps_step:
            self.step = int(self.own["step"]) + 1

    def _begin(self) -> None:
        """Take down whose memory is whose, and what names stand for as long as nobody binds them."""
        known, owners = self.known, self.owners
        for name, value in self.own.items():
            a_tensor = isinstance(value, torch.Tensor)
            if a_tensor:
                owners.add(name, value)
            if name in known:  # a hyper too: whether it was set decides
                del known[name]
            elif name not in BUILTIN and not (a_tensor and self._put_back(name, value)):
                known[name] = value
        if self.binding.keeps_step:
            known["step"] = self.step
        owners.add("p", self.work)
        owners.add(USERS, self.work_grad)
        if self.user_grad is not self.work_grad:
            owners.add(USERS, self.user_grad)

    # ------------------------------------------------------------ a call

    def _call(self, call: Call) -> Any:
        spec = call.spec
        if not spec.only_reads:
            self._forget_given()  # it may write to the grad
            self.wrote |= spec.works_in_place
        copies: dict[str, GivenGrad] = {}
        args, kwargs = self._arguments(call, copies)
        out = spec.fn(*args, **kwargs) if args else spec.fn(**kwargs)
        for name, copy in copies.items():
            if copy.written:  # the callbacks that follow see what was done to it in place
                self._bind(name, copy.value)
        if not spec.only_reads and self.work.grad is not self.work_grad:  # it may have assigned it
            self.owners.hold("grad", self.work.grad)
        if self.given is not None and self.given._version:
            self._written_unseen(call)
        return out

    def _vector(self, name: str, call: Call, copies: dict[str, GivenGrad]) -> torch.Tensor:
        """Callbacks in a row that only read the grad are given one copy."""
        if name == "update" and self.update is not None:
            return self.update
        grad = self.work.grad
        assert grad is not None
        if name == "grad" and grad is not self.work_grad:
            return grad
        if call.spec.only_reads:
            if self.given is None:
                self.given = self._plain(grad).clone()
                self.owners.add(USERS, self.given, "given")
            self.known[name] = self.given
            return self.given
        if name not in copies:
            copies[name] = GivenGrad(self._plain(grad).clone(), call)
        return copies[name].value

    def _written_unseen(self, call: Call) -> None:
        """A callback worked on the shared copy of the grad in place, which its code did not show."""
        given, read = self.given, [n for _, n in call.reads if self.known.get(n) is self.given]
        self._forget_given()
        for name in read:
            self._bind(name, given)

    def _forget_given(self) -> None:
        if self.given is not None:
            for name in ("grad", "update"):
                if self.known.get(name) is self.given:
                    del self.known[name]
            self.given = None
            self.owners.hold(USERS, None, "given")

    def _loss(self) -> Any:
        return MISSING if self.loss is None else self.loss

    def _step(self) -> int:
        return self.step

    def _is_set(self, name: str) -> bool:
        return self.bound.is_set(name)

    def _hyper(self, name: str) -> Any:
        value = self.hypers[name]
        if type(value) is float:
            return value
        number = name in self.binding.shared and is_one(value) and not value.requires_grad
        return value.item() if number else self._as_read(value)

    def _as_read(self, value: Any) -> Any:
        return as_read(value, self.work.dtype)

    # ------------------------------------------------------------ a result

    def _take(self, out: dict[str, Any], call: Call) -> None:
        """Bind what a callback returned: every value a value, aliasing nothing that is kept."""
        owners, writes = self.owners, []
        for name, value in self._named(out, call).items():
            if isinstance(value, torch.Tensor):
                value = self._plain(value) if value.requires_grad else value
                value = owners.private(name, value) if memory_of(value) in owners.of else value
            if name == "update":  # nothing is written by that
                self._set_update(value)
            else:
                writes.append((name, value))
        for name, value in writes:
            self._bind(name, value)

    def _set_p(self, value: Any) -> None:
        self._check_shape("p", value)
        if value is not self.work:
            self.wrote |= self.work is self.p
            self.work.copy_(value)

    def _set_grad(self, value: Any) -> None:
        self._check_shape("grad", value)
        self._forget_given()
        self.work.grad = self._kept("grad", value.to(self.work.dtype))

    def _set_update(self, value: Any) -> None:
        """State in double would make a double of what has no dimensions."""
        if not isinstance(value, torch.Tensor):
            raise self._no_vector("update", value)
        if value.dtype is not self.work.dtype and value.is_floating_point():
            value = value.to(self.work.dtype)
        self.update = self.known["update"] = value

    def _check_shape(self, name: str, value: Any) -> None:
        """Refuse what cannot be `p` or `grad`; an update may be in a basis of its own for a while."""
        if not isinstance(value, torch.Tensor) or value.shape != self.work.shape:
            raise self._no_vector(name, value)

    def _no_vector(self, name: str, value: Any) -> ValueError:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else repr(value)
        return ValueError(
            f"it returned {name!r} as {shape}, and the parameter is {tuple(self.work.shape)}"
        )

    def _set_shared(self, name: str, value: Any) -> None:
        value = value.item() if isinstance(value, torch.Tensor) else value
        value = self.shared.setdefault((self.bound.index, name), value)
        self.values[name] = self.known[name] = value

    def _store(self) -> None:
        """The end of a step: what was read as float32 is rounded once and put back."""
        for name, value in self.values.items():
            if name in self.binding.over or name in self.binding.shared:
                continue
            held = self.own.get(name)
            if isinstance(held, torch.Tensor) and held.shape == stored_shape(held, value):
                (torch.view_as_real(held) if held.is_complex() else held).copy_(value)
            else:
                self.own[name] = self._stored(name, value)
        if self.binding.keeps_step:
            self._set_state("step", self.step)
        if self.own and self.p not in self.state:
            self.state[self.p] = self.own
        if self.p.dtype in LOW:
            self.p.copy_(self.work)
        if self.grad_before is not None and not torch.equal(self.work_grad, self.grad_before):
            self.user_grad.copy_(self.work_grad)  # a callback wrote p.grad.data
