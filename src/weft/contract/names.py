"""What the names of a chain stand for while one parameter goes through it: one meaning for all engines."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from weft.contract.bind import Binding, Call
from weft.contract.hyperparameters import NOT_HYPERS
from weft.contract.slips import check_shape
from weft.contract.spec import BUILTIN

__all__ = ["MISSING", "Names", "for_all_alike"]

MISSING = object()  # nothing has this name
PLAIN = frozenset((float, int, bool, str, type(None)))  # values that are read as they are


def for_all_alike(binding: Binding, hypers: Mapping[str, Any]) -> dict[str, Any]:
    """What names stand for, or that it is nothing, for each parameter whose state has no such name."""
    but = binding.state_names.union(NOT_HYPERS, BUILTIN)
    nowhere = {name: MISSING for name in binding.only_in_state if name not in hypers}
    return nowhere | {
        name: value
        for name, value in hypers.items()
        if name not in but
        and (type(value) in PLAIN or (type(value) is tuple and PLAIN.issuperset(map(type, value))))
    }


class Names(ABC):
    """One parameter's way through its chain, as far as it is a matter of names.

    An engine says what each kind of value is: tensors and numbers as a callback runs on them, or
    their stand-ins in a trace.

    Attributes:
        work: what callbacks see as the parameter.
        update: None until somebody sets one; the grad is read in its place.
        hypers: the group's keys.
        own: the parameter's state.
        values: what was made on the way: values over all parameters, shared ones as they were
            decided, states that are put back at the end.
        known: what names stand for that need no look-up, until they stand for something else.
    """

    __slots__ = ()
    binding: Binding
    work: Any
    update: Any
    hypers: Mapping[str, Any]
    own: dict[str, Any]
    values: dict[str, Any]
    known: dict[str, Any]

    # ------------------------------------------------------------ what an engine says

    @abstractmethod
    def _vector(self, name: str, call: Call, copies: dict[str, Any]) -> Any:
        """`grad` or `update`, never the user's own grad: a copy of it is left in `copies`."""

    @abstractmethod
    def _loss(self) -> Any:
        """The loss, or `MISSING`."""

    @abstractmethod
    def _step(self) -> Any:
        """The built-in count of steps."""

    @abstractmethod
    def _is_set(self, name: str) -> bool:
        """Whether somebody set a hyper, so that it beats a state of its name."""

    @abstractmethod
    def _hyper(self, name: str) -> Any:
        """A hyper, or a value that the group shares."""

    @abstractmethod
    def _state(self, name: str) -> Any:
        """A state of the parameter."""

    @abstractmethod
    def _set_p(self, value: Any) -> None: ...

    @abstractmethod
    def _set_grad(self, value: Any) -> None: ...

    @abstractmethod
    def _set_update(self, value: Any) -> None: ...

    @abstractmethod
    def _set_shared(self, name: str, value: Any) -> None:
        """The first parameter of the group decides; the others read what it decided."""

    @abstractmethod
    def _set_state(self, name: str, value: Any) -> None: ...

    def _value(self, name: str) -> Any:
        return self.values[name]

    # ------------------------------------------------------------ what a callback is given

    def _arguments(self, call: Call, copies: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """What a callback is called with."""
        spec, known = call.spec, self.known
        kwargs = self._everything(call, copies) if spec.var_kw else {}
        for arg, name in call.reads:
            value = known[name] if name in known else self._look_up(name, call, copies)
            if value is not MISSING:
                kwargs[arg] = value
            elif name in spec.required:
                raise LookupError(f"it reads {name!r}, which nothing has provided yet")
        if spec.applies and self.update is not None:
            check_shape(call, self.update.shape, self.work.shape)
        if not call.takes_param:
            return (), kwargs
        first = spec.first or "p"
        if not spec.positional:
            kwargs[first] = self.work
            return (), kwargs
        kwargs.pop(first, None)
        return (self.work,), kwargs

    def _look_up(self, name: str, call: Call, copies: dict[str, Any]) -> Any:
        """The value of a name of the chain, or `MISSING`."""
        if name == "p":
            return self.work
        if name in ("grad", "update"):
            return self._vector(name, call, copies)
        if name == "loss":
            return self._loss()
        binding = self.binding
        if name == "step" and binding.keeps_step:
            return self._step()
        if name in self.values:
            return self._value(name)
        held = name in self.own
        a_hyper = name in self.hypers and name not in binding.state_names
        if a_hyper and (not held or name in binding.shared or self._is_set(name)):
            return self._hyper(name)
        if held:
            return self._state(name)
        return call.local.get(name, MISSING)

    def _everything(self, call: Call, copies: dict[str, Any]) -> dict[str, Any]:
        """All names, for a callback with **kwargs, under what it calls them itself."""
        names = dict.fromkeys(k for k in self.hypers if k not in NOT_HYPERS)
        names |= dict.fromkeys((*self.own, *self.values, "grad", "update"))
        if self.binding.keeps_step:
            names["step"] = None
        names["loss"] = None
        if not call.takes_param:
            names["p"] = None
        produces = call.spec.produces
        its = {chain: own for own, chain in produces.items()}
        out: dict[str, Any] = {}
        for name in names:
            if name in its or produces.get(name, name) == name:  # else it is renamed away
                value = self._look_up(name, call, copies)
                if value is not MISSING:
                    out[its.get(name, name)] = value
        return out

    # ------------------------------------------------------------ what it gives back

    def _named(self, out: dict[str, Any], call: Call) -> dict[str, Any]:
        """What a callback returned, under the chain's names.

        Raises:
            ValueError: for what callbacks do not write.
        """
        produces = call.spec.produces
        named = {produces.get(k, k): v for k, v in out.items()} if produces else out
        if not call.spec.returns.issuperset(named):  # those were checked when the chain was bound
            for name in named:
                if name == "loss" or name in self.binding.hyper_names:
                    raise ValueError(f"it returned {name!r}, which callbacks do not write")
        return named

    def _bind(self, name: str, value: Any) -> None:
        """A name of the chain stands for this value from here on."""
        if name == "p":
            self._set_p(value)
        elif name == "grad":
            self._set_grad(value)
        elif name == "update":
            self._set_update(value)
        elif name in self.binding.shared:
            self._set_shared(name, value)
        else:
            self._set_state(name, value)
