"""One parameter's way through its chain in one step: what each callback is given and gives back."""

from collections.abc import Generator, MutableMapping
from typing import Any, NamedTuple

import torch

from weft.callback import State
from weft.contract.bind import Call
from weft.contract.groups import BoundGroup
from weft.contract.hyperparameters import as_read, is_one
from weft.contract.names import MISSING, Names
from weft.contract.slips import check_result
from weft.engine.eager.owners import Owners
from weft.engine.storage import LOW, GivenGrad, one_number, stored_shape, widened
from weft.errors import StepError

__all__ = ["Barrier", "ParamStep"]

USERS = "the user's grad"


class Barrier(NamedTuple):
    """A step that waits for a value over all parameters."""

    name: str
    op: str
    scope: int | None  # the group that it is combined over, None for all
    value: torch.Tensor


class ParamStep(Names):
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
        "grad_before",
        "hypers",
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
    ):
        self.bound, self.hypers, self.binding = bound, bound.group, bound.binding
        self.p, self.state, self.loss, self.shared = p, state, widened(loss), shared
        self.own: dict[str, Any] = state.get(p, {})
        self.place = i
        self.owners: Owners | None = None  # known once it matters
        self.values: dict[str, Any] = {}
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
        for name, value in self.own.items():
            if (
                isinstance(value, torch.Tensor)
                and value.ndim
                and value.device != self.p.device
                and name in self.binding.state_names
            ):
                raise StepError(
                    f"state {name!r} of parameter {self.name} is on {value.device} and the "
                    f"parameter on {self.p.device}: move the model first, then make the optimizer "
                    "or load its state. No parameter has been stepped"
                )

    def advance(self, value: Any) -> Barrier | None:
        """Go on with the combined value; None when the chain is through."""
        try:
            return self.path.send(value)
        except StopIteration:
            return None

    def close(self) -> None:
        """Give up: the user's grad is put back."""
        self.path.close()

    def _path(self) -> Generator[Barrier, Any, None]:
        self._open()
        try:
            for call in self.binding.calls:
                self.call = call
                out = self._call(call)
                over = call.over
                if over is not None:
                    scope = self.bound.index if over.scope == "group" else None
                    combined = yield Barrier(
                        over.name, over.op, scope, self._plain(one_number(out))
                    )
                    self.ahead.remove(over.name)
                    self._read_as(over.name, combined.to(self.work.device, copy=True))
                elif isinstance(out, dict):
                    self._take(out, call)
                else:
                    check_result(call, out)
            self._store()
        finally:
            if self.work is self.p:
                self.p.grad = self.user_grad

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

    def _plain(self, t: torch.Tensor) -> torch.Tensor:
        """A tensor without a history in autograd."""
        return t.detach() if t.requires_grad else t

    def _readable(self, value: Any) -> Any:
        """What a callback works on: 16-bit tensors as float32, complex ones as pairs of reals."""
        if isinstance(value, torch.Tensor):
            if value.dtype in LOW:
                return self._plain(value).float()
            if value.is_complex():
                return torch.view_as_real(self._plain(value))
        return value

    # ------------------------------------------------------------ a call

    def _call(self, call: Call) -> Any:
        spec = call.spec
        copies: dict[str, GivenGrad] = {}
        args, kwargs = self._arguments(call, copies)
        self.wrote |= spec.works_in_place
        out = spec.fn(*args, **kwargs)
        for name, copy in copies.items():
            if copy.written:  # the callbacks that follow see what was done to it in place
                self._bind(name, copy.value)
        return out

    def _vector(self, name: str, call: Call, copies: dict[str, GivenGrad]) -> torch.Tensor:
        if name == "update" and self.update is not None:
            return self.update
        grad = self.work.grad
        assert grad is not None
        if name == "grad" and grad is not self.work_grad:
            return grad
        if name not in copies:
            copies[name] = GivenGrad(self._plain(grad).clone(), call)
        return copies[name].value

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

    def _state(self, name: str) -> Any:
        value = self.own[name]
        readable = self._readable(value)
        if self._converted(name, value):
            readable = readable.to(self.work.dtype)
        if readable is not value:
            self._read_as(name, readable)
        return readable

    def _rounds(self, name: str, value: torch.Tensor) -> bool:
        """Whether a new state is kept in another dtype than it has, as the group chose."""
        return self.binding.chooses(name) and self._dtype_of(name, value) != value.dtype

    def _converted(self, name: str, held: Any) -> bool:
        """Whether a state is read in another dtype than its own: that which is computed in."""
        return (
            self.binding.chooses(name)
            and isinstance(held, torch.Tensor)
            and held.is_floating_point()
            and held.dtype != self.work.dtype
        )

    # ------------------------------------------------------------ a result

    def _take(self, out: dict[str, Any], call: Call) -> None:
        """Bind what a callback returned: every value a value, aliasing nothing that is kept."""
        owners = self.owners = self.owners or self._owners()
        if self.work.grad is not self.work_grad:  # a callback may have assigned it
            owners.hold("grad", self.work.grad)
        named = self._named(out, call)
        owned = {
            k: owners.private(k, self._plain(v)) if isinstance(v, torch.Tensor) else v
            for k, v in named.items()
        }
        for name, value in owned.items():
            self._bind(name, value)

    def _owners(self) -> Owners:
        owners = Owners()
        for name, value in self.own.items():
            owners.hold(name, value)
        for name, value in self.values.items():
            owners.hold(name, value, "read")
        owners.hold("p", self.work)
        owners.hold("grad", self.work.grad)
        owners.hold("update", self.update)
        owners.hold(USERS, self.user_grad)
        owners.hold(USERS, self.work_grad, "read")
        return owners

    def _bind(self, name: str, value: Any) -> None:
        self.wrote |= self.work is self.p and name not in ("grad", "update")
        super()._bind(name, value)

    def _hold(self, name: str, value: Any, role: str = "") -> None:
        if self.owners is not None:
            self.owners.hold(name, value, role)

    def _set_p(self, value: Any) -> None:
        self._check_shape("p", value)
        if value is not self.work:
            self.work.copy_(value)

    def _set_grad(self, value: Any) -> None:
        self._check_shape("grad", value)
        self.work.grad = value.to(self.work.dtype)
        self._hold("grad", self.work.grad)

    def _set_update(self, value: Any) -> None:
        """State in double would make a double of what has no dimensions."""
        if not isinstance(value, torch.Tensor):
            raise self._no_vector("update", value)
        wide = value.dtype is not self.work.dtype and value.is_floating_point()
        self.update = value.to(self.work.dtype) if wide else value
        self._hold("update", self.update)

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
        self.values[name] = self.shared.setdefault((self.bound.index, name), value)

    def _set_state(self, name: str, value: Any) -> None:
        held = self.own.get(name)
        if isinstance(value, int | float) and isinstance(held, torch.Tensor) and not held.ndim:
            self._forget_read(name)
            held.fill_(value)  # a number that is kept as a tensor, in torch's format
            return
        if isinstance(value, torch.Tensor) and isinstance(held, torch.Tensor):
            if held.dtype in LOW or held.is_complex() or self._converted(name, held):
                self._read_as(name, value)  # rounded once, when the chain is through
                return
            same_kind = held.dtype == value.dtype or (
                held.is_floating_point() and value.is_floating_point()
            )
            if held.shape == value.shape and same_kind:
                if value is not held:
                    held.copy_(value)
                return
        if isinstance(value, torch.Tensor) and (
            self.work is not self.p or self._rounds(name, value)
        ):
            self._read_as(name, value)
        else:
            self._forget_read(name)
            self.own[name] = self._stored(name, value)
            self._hold(name, self.own[name])

    def _read_as(self, name: str, value: torch.Tensor) -> None:
        """What a state is read as from here on, until it is put back."""
        self.values[name] = value
        self._hold(name, value, "read")

    def _forget_read(self, name: str) -> None:
        if self.values.pop(name, None) is not None:
            self._hold(name, None, "read")

    def _stored(self, name: str, value: Any) -> Any:
        """A new state value: a copy, in the dtype that it is kept in."""
        if not isinstance(value, torch.Tensor):
            return value
        declared: State | None = self.binding.kept.get(name)
        own = declared is not None and declared.dtype_beside(self.p.dtype) is not None
        if self.p.is_complex() and value.shape == self.work.shape and not own:
            return torch.view_as_complex(value.clone(memory_format=torch.contiguous_format))
        return value.to(self._dtype_of(name, value), copy=True)

    def _dtype_of(self, name: str, value: torch.Tensor) -> torch.dtype:
        """What a state is kept in."""
        return self.binding.dtype_of(name, value.dtype, value.ndim, self.p.dtype, self.p.ndim)

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
            self.own["step"] += 1
        if self.own and self.p not in self.state:
            self.state[self.p] = self.own
        if self.p.dtype in LOW:
            self.p.copy_(self.work)
        if self.grad_before is not None and not torch.equal(self.work_grad, self.grad_before):
            self.user_grad.copy_(self.work_grad)  # a callback wrote p.grad.data
