"""One parameter's way through its chain in one step: what each callback is given and gives back."""

from collections.abc import Generator, MutableMapping
from typing import Any, NamedTuple

import torch

from weft.callback import State
from weft.contract.bind import Call
from weft.contract.groups import NOT_HYPERS, BoundGroup
from weft.contract.hyperparameters import as_read, is_one
from weft.contract.slips import check_result, check_shape
from weft.engine.storage import LOW, GivenGrad, memory_of, one_number, stored_shape, widened
from weft.errors import StepError

__all__ = ["Barrier", "ParamStep"]

USERS = "the user's grad"


class Barrier(NamedTuple):
    """A turn that waits for a value over all parameters."""

    name: str
    op: str
    scope: int | None  # the group that it is combined over, None for all
    value: torch.Tensor


class ParamStep:
    """One parameter's way through its chain in one step.

    `work` is what callbacks see as the parameter: itself, or its values as float32 where it or its
    grad has 16 bits, or as pairs of reals where it is complex. `values` holds what is read and
    written as float32 until the end of the turn, and the values over all parameters. What a turn
    writes outside of the parameter and existing state is written at its end.
    """

    __slots__ = (
        "ahead",
        "at",
        "binding",
        "bound",
        "grad_before",
        "group",
        "loss",
        "name",
        "own",
        "p",
        "path",
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
        self.bound, self.group, self.binding = bound, bound.group, bound.binding
        self.p, self.state, self.loss, self.shared = p, state, widened(loss), shared
        self.own: dict[str, Any] = state.get(p, {})
        self.name = bound.name_of(i)
        self.values: dict[str, Any] = {}
        self.update: torch.Tensor | None = None
        self.step = 0
        self.wrote = False  # to the parameter or its state, as far as that can be told
        self.at: Call = bound.binding.calls[0]
        self.ahead: list[str] = list(bound.binding.over)
        self.path = self._path()

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
                self.at = call
                out = self._call(call)
                over = call.over
                if over is not None:
                    scope = self.bound.index if over.scope == "group" else None
                    combined = yield Barrier(
                        over.name, over.op, scope, self._plain(one_number(out))
                    )
                    self.ahead.remove(over.name)
                    self.values[over.name] = combined.to(self.work.device, copy=True)
                elif isinstance(out, dict):
                    self._take(out, call.spec.produces)
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
        return t.detach()

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
        kwargs = self._everything(call, copies) if spec.var_kw else {}
        for arg, name in call.reads:
            found, value = self._look(name, call, copies)
            if found:
                kwargs[arg] = value
            elif name in spec.required:
                raise LookupError(f"it reads {name!r}, which nothing has provided yet")
        if self.update is not None:
            check_shape(call, self.update.shape, self.work.shape)
        self.wrote |= spec.works_in_place
        if not call.takes_param:
            out = spec.fn(**kwargs)
        elif spec.positional:
            out = spec.fn(self.work, **kwargs)
        else:
            out = spec.fn(**{**kwargs, str(spec.first): self.work})
        for name, copy in copies.items():
            if copy.written:  # the callbacks that follow see what was done to it in place
                self._bind(name, copy.value)
        return out

    def _everything(self, call: Call, copies: dict[str, GivenGrad]) -> dict[str, Any]:
        """All names, for a callback with **kwargs, under what it calls them itself."""
        names = {k: None for k in self.group if k not in NOT_HYPERS}
        names |= dict.fromkeys((*self.own, *self.values, "grad", "update"))
        if self.binding.keeps_step:
            names["step"] = None
        if self.loss is not None:
            names["loss"] = None
        if not call.takes_param:
            names["p"] = None
        produces = call.spec.produces
        its = {chain: own for own, chain in produces.items()}
        out: dict[str, Any] = {}
        for name in names:
            if name in its or produces.get(name, name) == name:  # else it is renamed away
                found, value = self._look(name, call, copies)
                if found:
                    out[its.get(name, name)] = value
        return out

    def _look(self, name: str, call: Call, copies: dict[str, GivenGrad]) -> tuple[bool, Any]:
        """The value of a name of the chain, and whether there is one."""
        if name == "p":
            return True, self.work
        if name in ("grad", "update"):
            return True, self._vector(name, call, copies)
        if name == "loss":
            return self.loss is not None, self.loss
        if name == "step" and self.binding.keeps_step:
            return True, self.step
        if name in self.values:
            return True, self.values[name]
        held, binding = name in self.own, self.binding
        a_hyper = name in self.group and name not in binding.state_names
        if a_hyper and (not held or name in binding.shared or self.bound.is_set(name)):
            value = self.group[name]
            number = name in binding.shared and is_one(value) and not value.requires_grad
            return True, value.item() if number else self._hyper(value)
        if held:
            return True, self._state(name)
        if name in call.local:
            return True, call.local[name]
        return False, None

    def _hyper(self, value: Any) -> Any:
        return as_read(value, self.work.dtype)

    def _vector(self, name: str, call: Call, copies: dict[str, GivenGrad]) -> torch.Tensor:
        """`update` or `grad` as a tensor of our own, so that the user's grad stays as it is."""
        if name == "update" and self.update is not None:
            return self.update
        grad = self.work.grad
        assert grad is not None
        if name == "grad" and grad is not self.work_grad:
            return grad
        if name not in copies:
            copies[name] = GivenGrad(self._plain(grad).clone(), call)
        return copies[name].value

    def _state(self, name: str) -> Any:
        value = self.own[name]
        readable = self._readable(value)
        if self._converted(name, value):
            readable = readable.to(self.work.dtype)
        if readable is not value:
            self.values[name] = readable
        return readable

    def _rounds(self, name: str, value: torch.Tensor) -> bool:
        """Whether a new state is kept in another dtype than it has, as the group chose."""
        return self.binding.chooses(name) and self._dtype_of(name, value) != value.dtype

    def _converted(self, name: str, held: Any) -> bool:
        """Whether a state is read in another dtype than its own: that which is computed in."""
        return (
            isinstance(held, torch.Tensor)
            and self.binding.chooses(name)
            and held.is_floating_point()
            and held.dtype != self.work.dtype
        )

    # ------------------------------------------------------------ a result

    def _take(self, out: dict[str, Any], produces: dict[str, str]) -> None:
        """Bind what a callback returned: every value a value, aliasing nothing that is kept."""
        out = {produces.get(k, k): v for k, v in out.items()}
        for name in out:
            if name == "loss" or name in self.binding.hyper_names:
                raise ValueError(f"it returned {name!r}, which callbacks do not write")
        kept = self._kept()
        for name, value in {k: self._private(k, v, kept) for k, v in out.items()}.items():
            self._bind(name, value)

    def _private(self, name: str, value: Any, kept: dict[Any, tuple[str, torch.Tensor]]) -> Any:
        """The value itself, or a copy where it shares memory with something else that is kept."""
        if not isinstance(value, torch.Tensor):
            return value
        value = self._plain(value)
        owner, whole = kept.setdefault(memory_of(value), (name, value))
        same = (
            owner == name
            and value.data_ptr() == whole.data_ptr()
            and (value.shape, value.stride()) == (whole.shape, whole.stride())
        )
        return value if same else value.clone()

    def _kept(self) -> dict[Any, tuple[str, torch.Tensor]]:
        """The memory that outlives this call, and whose it is."""
        tensors: list[tuple[str, Any]] = [*self.own.items(), *self.values.items()]
        tensors += [("p", self.work), ("grad", self.work.grad), ("update", self.update)]
        tensors += [(USERS, self.user_grad), (USERS, self.work_grad)]
        return {memory_of(t): (name, t) for name, t in tensors if isinstance(t, torch.Tensor)}

    def _bind(self, name: str, value: Any) -> None:
        if name in ("p", "grad", "update"):
            self._check_vector(name, value)
        self.wrote |= self.work is self.p and name not in ("grad", "update")
        if name == "p":
            if value is not self.work:
                self.work.copy_(value)
        elif name == "grad":
            self.work.grad = value.to(self.work.dtype)
        elif name == "update":  # state in double would make double of what has no dimensions
            self.update = value.to(self.work.dtype) if value.is_floating_point() else value
        elif name in self.binding.shared:
            self._set_shared(name, value)
        else:
            self._set_state(name, value)

    def _check_vector(self, name: str, value: Any) -> None:
        """Refuse what cannot be a vector; an update may be in a basis of its own for a while."""
        fits = isinstance(value, torch.Tensor) and (
            name == "update" or value.shape == self.work.shape
        )
        if not fits:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else repr(value)
            raise ValueError(
                f"it returned {name!r} as {shape}, and the parameter is {tuple(self.work.shape)}"
            )

    def _set_shared(self, name: str, value: Any) -> None:
        """The first parameter decides a shared value; all see the decided one from here on."""
        value = value.item() if isinstance(value, torch.Tensor) else value
        self.values[name] = self.shared.setdefault((self.bound.index, name), value)

    def _set_state(self, name: str, value: Any) -> None:
        held = self.own.get(name)
        if isinstance(value, int | float) and isinstance(held, torch.Tensor) and not held.ndim:
            self.values.pop(name, None)
            held.fill_(value)  # a number that is kept as a tensor, in torch's format
            return
        if isinstance(value, torch.Tensor) and isinstance(held, torch.Tensor):
            if held.dtype in LOW or held.is_complex() or self._converted(name, held):
                self.values[name] = value  # rounded once, when the chain is through
                return
            same_kind = held.dtype == value.dtype or (
                held.is_floating_point() and value.is_floating_point()
            )
            if held.shape == value.shape and same_kind:
                if value is not held:
                    held.copy_(value)
                return
        self.values.pop(name, None)
        if isinstance(value, torch.Tensor) and (
            self.work is not self.p or self._rounds(name, value)
        ):
            self.values[name] = value
        else:
            self.own[name] = self._stored(name, value)

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
        """The end of a turn: what was read as float32 is rounded once and put back."""
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
