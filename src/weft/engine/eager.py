"""The original loop: every callback, for every parameter, in order. The reference for the kernels."""

from collections.abc import Generator, MutableMapping
from typing import Any, NamedTuple

import torch

from weft.binding import Call
from weft.callback import State
from weft.errors import StepError
from weft.groups import BoundGroup

__all__ = ["Barrier", "Turn", "init_state", "step"]

LOW = (torch.bfloat16, torch.float16)


class Barrier(NamedTuple):
    """A turn that waits for a value over all parameters."""

    name: str
    op: str
    scope: int | None  # the group that it is combined over, None for all
    value: Any


def step(
    groups: list[BoundGroup], state: MutableMapping[torch.Tensor, dict[str, Any]], loss: Any
) -> None:
    """One step of every parameter that has a grad.

    Raises:
        StepError: where a callback raises; it says which, for which parameter, and how many
            parameters had been stepped before.
    """
    shared: dict[tuple[int, str], Any] = {}
    turns = [
        Turn(bound, i, p, state, loss, shared)
        for bound in groups
        for i, p in enumerate(bound.params)
        if p.grad is not None
    ]
    if any(bound.binding.over for bound in groups):
        _in_rounds(turns)
    else:
        for done, turn in enumerate(turns):
            _advance(turn, None, done, len(turns))
    for (index, name), value in shared.items():
        groups[index].group[name] = value


def _in_rounds(turns: list["Turn"]) -> None:
    """Run turns to their barriers, combine, and go on, until all are through."""
    waiting: list[tuple[Turn, Barrier]] = []
    done = 0

    def go_on(turn: Turn, value: Any) -> None:
        nonlocal done
        barrier = _advance(turn, value, done, len(turns))
        if barrier is None:
            done += 1
        else:
            waiting.append((turn, barrier))

    try:
        for turn in turns:
            go_on(turn, None)
        while waiting:
            name = _ready(waiting)
            now = [w for w in waiting if w[1].name == name]
            waiting = [w for w in waiting if w[1].name != name]
            for scope in dict.fromkeys(b.scope for _, b in now):
                members = [(t, b) for t, b in now if b.scope == scope]
                value = combine([b for _, b in members])
                for turn, _ in members:
                    go_on(turn, value)
    finally:
        for turn, _ in waiting:
            turn.close()


def _ready(waiting: list[tuple["Turn", Barrier]]) -> str:
    """A barrier that no waiting turn has still ahead of the one it is at."""
    for name in dict.fromkeys(b.name for _, b in waiting):
        if not any(b.name != name and name in t.ahead for t, b in waiting):
            return name
    names = sorted({b.name for _, b in waiting})
    raise StepError(f"chains of one optimizer combine {names} in opposite orders: make them agree")


def combine(barriers: list[Barrier]) -> torch.Tensor:
    """The values of all parameters as one 0-dim tensor, summed in double."""
    values = [torch.as_tensor(b.value) for b in barriers]
    dtype = torch.float64 if any(v.dtype == torch.float64 for v in values) else torch.float32
    both = torch.stack([v.detach().to(values[0].device, torch.float64).reshape(()) for v in values])
    op = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}[barriers[0].op]
    return op(both).to(dtype)


def _advance(turn: "Turn", value: Any, done: int, total: int) -> Barrier | None:
    """Run a turn to its next barrier; None when it is through."""
    try:
        return turn.advance(value)
    except StepError:
        raise
    except Exception as e:
        spec = turn.at.spec
        raise StepError(
            f"callback {spec.where} raised {type(e).__name__} for parameter {turn.name}: {e}. "
            f"{done} of {total} parameters had already stepped; this one may be half-written"
        ) from e


# ---------------------------------------------------------------- state


def init_state(
    groups: list[BoundGroup], state: MutableMapping[torch.Tensor, dict[str, Any]]
) -> None:
    """Make the declared state of every parameter that requires a grad or has one."""
    for bound in groups:
        states, counted = bound.binding.states, bound.binding.keeps_step
        if not states and not counted:
            continue
        for p in bound.params:
            if not (p.requires_grad or p.grad is not None):
                continue
            own = state[p]
            if counted and "step" not in own:
                own["step"] = torch.zeros((), dtype=torch.float32)
            for name, declared in states.items():
                if name not in own:
                    own[name] = declared.make(p)


def _readable(value: Any) -> Any:
    """What a callback works on: 16-bit tensors as float32, complex ones as pairs of reals."""
    if isinstance(value, torch.Tensor):
        if value.dtype in LOW:
            return value.detach().float()
        if value.is_complex():
            return torch.view_as_real(value.detach())
    return value


def _scalar(value: Any) -> Any:
    """A hyper as callbacks read it: a tensor of one element has no dimensions."""
    return value.reshape(()) if isinstance(value, torch.Tensor) and value.ndim else value


def _memory(t: torch.Tensor) -> Any:
    try:
        return t.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # a tensor without storage aliases nothing we hold
        return id(t)


class Turn:
    """One parameter's way through its chain in one step."""

    __slots__ = (
        "ahead", "at", "binding", "bound", "grad", "grad32", "grad_before", "group", "loss", "name",
        "own", "p", "path", "shared", "step", "update", "user_grad", "values", "work",
    )  # fmt: skip

    def __init__(self, bound: BoundGroup, i: int, p, state, loss, shared):
        self.bound, self.group, self.binding = bound, bound.group, bound.binding
        self.p, self.loss, self.shared = p, loss, shared
        keeps = bound.binding.state_names or p in state
        self.own: dict[str, Any] = state[p] if keeps else {}
        self.name = bound.name_of(i)
        self.values: dict[str, Any] = {}
        self.update: torch.Tensor | None = None
        self.step = 0
        self.at: Call = bound.binding.calls[0]
        self.ahead: list[str] = list(bound.binding.over)
        self.path = self._path()

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
                out = self._call(self.at)
                over = self.at.over
                if over is not None:
                    scope = self.bound.index if over.scope == "group" else None
                    combined = yield Barrier(over.name, over.op, scope, out)
                    self.ahead.remove(over.name)
                    self.values[over.name] = combined.to(self.work.device)
                elif isinstance(out, dict):
                    self._take(out)
            self._store()
        finally:
            if self.work is self.p:
                self.p.grad = self.user_grad

    def _open(self) -> None:
        p = self.p
        self.user_grad = p.grad
        self.work = _readable(p)
        if self.work is not p:
            self.work.grad = _readable(p.grad)
        self.grad_before = self.work.grad.clone() if p.dtype in LOW else None
        self.grad32 = self.work.grad
        if self.binding.keeps_step:
            self.own["step"] += 1
            self.step = int(self.own["step"])

    # ------------------------------------------------------------ a call

    def _call(self, call: Call) -> Any:
        kwargs: dict[str, Any] = {}
        if call.spec.var_kw:
            kwargs.update(self._everything())
        copies: dict[str, torch.Tensor] = {}
        for arg, name in call.reads:
            found, value = self._look(name, call, copies)
            if found:
                kwargs[arg] = value
            elif name in call.spec.required:
                raise LookupError(f"it reads {name!r}, which nothing has provided yet")
        if call.takes_param:
            first = str(call.spec.first)
            kwargs.pop(first, None)
            out = (
                call.spec.fn(self.work, **kwargs)
                if call.spec.positional
                else call.spec.fn(**{first: self.work}, **kwargs)
            )
        else:
            out = call.spec.fn(**kwargs)
        self._notice(copies)
        if isinstance(out, dict):
            return {call.spec.produces.get(k, k): v for k, v in out.items()}
        return out

    def _look(self, name: str, call: Call, copies: dict[str, torch.Tensor]) -> tuple[bool, Any]:
        """The value of a name of the chain, and whether there is one."""
        if name == "p":
            return True, self.work
        if name in ("grad", "update"):
            return True, self._vector(name, copies)
        if name == "loss":
            if self.loss is None:
                raise LookupError("it reads 'loss': give step() a closure, or step(loss=...)")
            return True, self.loss
        if name == "step" and self.binding.keeps_step:
            return True, self.step
        if name in self.values:
            return True, self.values[name]
        held = name in self.own
        if name in self.group and name not in self.binding.states:
            shared = name in self.binding.shared
            if shared or not held or self.bound.is_set(name):
                return True, _scalar(self.group[name])
        if held:
            return True, self._state(name)
        if name in call.local:
            return True, call.local[name]
        return False, None

    def _vector(self, name: str, copies: dict[str, torch.Tensor]) -> torch.Tensor:
        """`update` or `grad` as a tensor of our own, so that the user's grad stays as it is."""
        if name == "update" and self.update is not None:
            return self.update
        grad = self.work.grad
        if name == "grad" and grad is not self.grad32:
            return grad
        copies[name] = copy = grad.detach().clone(memory_format=torch.preserve_format)
        return copy

    def _notice(self, copies: dict[str, torch.Tensor]) -> None:
        """A copy that was worked on in place is what the following callbacks see."""
        for name, copy in copies.items():
            if copy._version:
                if name == "update":
                    self.update = copy
                else:
                    self._set_grad(copy)

    def _everything(self) -> dict[str, Any]:
        """All names, for a callback with **kwargs: state, then what was set, as in the original."""
        out: dict[str, Any] = {
            k: v for k, v in self.group.items() if k not in ("params", "param_names")
        }
        for name in self.own:
            if name not in out or name in self.binding.states or not self.bound.is_set(name):
                out[name] = self._state(name)
        out.update(self.values)
        out["grad"] = self.work.grad.detach().clone()
        out["update"] = self.update if self.update is not None else out["grad"].clone()
        if self.binding.keeps_step:
            out["step"] = self.step
        if self.loss is not None:
            out["loss"] = self.loss
        return out

    def _state(self, name: str) -> Any:
        value = self.own[name]
        if isinstance(value, torch.Tensor) and value.ndim and value.device != self.work.device:
            raise LookupError(
                f"its state {name!r} is on {value.device} and the parameter on {self.work.device}: "
                "move the model first, then make the optimizer or load its state"
            )
        readable = _readable(value)
        if readable is not value:
            self.values[name] = readable
        return readable

    # ------------------------------------------------------------ a result

    def _take(self, out: dict[str, Any]) -> None:
        """Bind what a callback returned: every value a value, aliasing nothing that is kept."""
        kept = self._kept()
        mine = {k: self._private(k, v, kept) for k, v in out.items()}
        for name, value in mine.items():
            if name == "p":
                self._set_p(value)
            elif name == "grad":
                self._set_grad(value)
            elif name == "update":
                self.update = value
            elif name in self.binding.shared:
                self._set_shared(name, value)
            else:
                self._set_state(name, value)

    def _kept(self) -> dict[Any, str]:
        """The memory that outlives this call, and whose it is."""
        kept = {
            _memory(v): k
            for k, v in (*self.own.items(), *self.values.items())
            if isinstance(v, torch.Tensor)
        }
        kept[_memory(self.work)] = "p"
        kept[_memory(self.user_grad)] = kept[_memory(self.work.grad)] = "grad"
        if self.update is not None:
            kept[_memory(self.update)] = "update"
        return kept

    @staticmethod
    def _private(name: str, value: Any, kept: dict[Any, str]) -> Any:
        """The value itself, or a copy where it shares memory with something else that is kept."""
        if not isinstance(value, torch.Tensor):
            return value
        value = value.detach()
        memory = _memory(value)
        if kept.get(memory, name) != name:
            return value.clone()
        kept[memory] = name
        return value

    def _set_p(self, value: Any) -> None:
        if not isinstance(value, torch.Tensor) or value.shape != self.work.shape:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else repr(value)
            raise ValueError(
                f"it returned 'p' as {shape}, and the parameter is {tuple(self.work.shape)}"
            )
        if value is not self.work:
            self.work.copy_(value)

    def _set_grad(self, value: torch.Tensor) -> None:
        if value.shape != self.work.shape:
            raise ValueError(
                f"it returned 'grad' as {tuple(value.shape)}, and the parameter is "
                f"{tuple(self.work.shape)}"
            )
        self.work.grad = value.detach().to(self.work.dtype)

    def _set_shared(self, name: str, value: Any) -> None:
        """The first parameter decides a shared value; all see the decided one from here on."""
        value = value.item() if isinstance(value, torch.Tensor) else value
        self.values[name] = self.shared.setdefault((self.bound.index, name), value)

    def _set_state(self, name: str, value: Any) -> None:
        held = self.own.get(name)
        if isinstance(value, torch.Tensor) and isinstance(held, torch.Tensor):
            if held.dtype in LOW or held.is_complex():
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
        if isinstance(value, torch.Tensor) and self.work is not self.p:
            self.values[name] = value
        else:
            self.own[name] = self._stored(name, value)

    def _stored(self, name: str, value: Any) -> Any:
        """A new state value in the dtype that it is kept in."""
        if not isinstance(value, torch.Tensor):
            return value
        declared: State | None = self.binding.states.get(name)
        if declared is not None and declared.dtype is not None:
            return value.to(declared.dtype)
        if self.p.is_complex() and value.shape == self.work.shape:
            return torch.view_as_complex(value.contiguous())
        return (
            value.to(self.p.dtype)
            if value.is_floating_point() and not self.p.is_complex()
            else value
        )

    def _store(self) -> None:
        """The end of a turn: what was read as float32 is rounded once and put back."""
        for name, value in self.values.items():
            if name in self.binding.over or name in self.binding.shared:
                continue
            held = self.own.get(name)
            if isinstance(held, torch.Tensor) and held.shape == _stored_shape(held, value):
                (torch.view_as_real(held) if held.is_complex() else held).copy_(value)
            else:
                self.own[name] = self._stored(name, value)
        if self.work is self.p:
            return
        if self.p.dtype in LOW:
            self.p.copy_(self.work)
            before = self.grad_before
            if before is not None and not torch.equal(self.grad32, before):
                self.user_grad.copy_(self.grad32)  # a callback wrote p.grad.data


def _stored_shape(held: torch.Tensor, value: Any) -> Any:
    """The shape that `value` has once it is stored like `held`, complex pairs joined."""
    if not isinstance(value, torch.Tensor):
        return None
    return value.shape[:-1] if held.is_complex() else value.shape
