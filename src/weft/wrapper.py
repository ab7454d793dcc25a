"""What acts around a step: evaluates the gradient again, or acts every k steps on the whole."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

import torch

from weft.contract.hyperparameters import check_bounds, check_kind, refuse_nan
from weft.errors import StepError, did_you_mean, refuse_unknown

__all__ = ["TRAIN_MODE", "Wrapper", "around", "in_words"]

TRAIN_MODE = "train_mode"  # in the groups: whether the weights in place are those to train with


Around = TypeVar("Around", bound=torch.optim.Optimizer)  # comes back with the wrapper around it


class Wrapper:
    """Base of what runs around an optimizer's step: Lookahead, SAM, weight averaging.

    A subclass overrides `around_step(opt, closure)`, and `train()` and `eval()` where training and
    evaluation want different weights. `opt` there is the optimizer with `opt.step(closure)` meaning
    the step inside this wrapper. Numbers that must survive a checkpoint are declared in `numbers`
    and kept in the parameter groups (`get`, `set`); tensors are kept in `opt.state[p]`. The groups
    hold the mode as well (`train_mode`): no step is taken between `eval()` and `train()`.

    `Name(**hypers)` is a modifier that a chain takes; `Name(opt, **hypers)` puts it around an
    existing optimizer and returns that optimizer.

    >>> import torch, weft
    >>> class Twice(weft.Wrapper):
    ...     "Take every step twice, on the same gradient."
    ...     def around_step(self, opt, closure):
    ...         opt.step(closure)
    ...         return opt.step(closure)
    >>> p = torch.nn.Parameter(torch.ones(2)); p.grad = torch.ones(2)
    >>> opt = Twice(weft.SGD([p], lr=0.1))
    >>> opt.step(); p.data
    tensor([0.8000, 0.8000])
    """

    numbers: ClassVar[dict[str, float]] = {}  # declared scalar state -> initial value
    gives: ClassVar[tuple[str, ...]] = ()  # states that it makes under the chain's own names
    needs_closure: ClassVar[bool] = False  # whether a step evaluates the gradient itself
    role: ClassVar[str] = ""  # what only one wrapper of a step can have
    hypers: ClassVar[
        dict[str, Any]
    ] = {}  # defaults of the hypers, kept in the groups as name_hyper

    bounds: ClassVar[dict[str, str]] = {}  # of the hypers, as `weft.mark` takes them
    options: dict[str, Any]  # the hypers as they were given

    @overload
    def __new__(cls, opt: Around, /, **hypers: Any) -> Around: ...
    @overload
    def __new__(cls, **hypers: Any) -> Self: ...
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        refuse_unknown(cls, kwargs, Wrapper)
        self = super().__new__(cls)
        if args and hasattr(args[0], "param_groups"):
            self.__init__(*args[1:], **kwargs)
            return args[0].wrap(self)
        return self

    if not TYPE_CHECKING:  # mypy would read it in place of __new__

        def __init__(self, **hypers: Any):
            unknown = set(hypers) - set(self.hypers)
            if unknown:
                hint = did_you_mean(min(unknown), self.hypers)
                raise TypeError(
                    f"{type(self).__name__} has no {sorted(unknown)}{hint}; it has {list(self.hypers)}"
                )
            self.options = {**self.hypers, **hypers}
            refuse_nan(self.options)
            for name, default in self.hypers.items():
                check_kind(name, self.options[name], default)
            check_bounds(self.bounds, self.options, type(self).__name__)

    # ------------------------------------------------------------ what subclasses override

    def around_step(self, opt: Any, closure: Callable[[], Any] | None) -> Any:
        """Take one step: call `opt.step(closure)` and return its loss."""
        return opt.step(closure)

    def train(self, opt: Any) -> None:
        """Put the weights to train with in place; called by `opt.train()`."""

    def eval(self, opt: Any) -> None:
        """Put the weights to evaluate with in place; called by `opt.eval()`."""

    # ------------------------------------------------------------ what they use

    @property
    def prefix(self) -> str:
        """Before this wrapper's names in groups and state: its class name in lower case."""
        return type(self).__name__.lower()

    def get(self, opt: Any, name: str) -> Any:
        """A hyper or a number of this wrapper, as the first group has it."""
        return opt.param_groups[0][self.key(name)]

    def set(self, opt: Any, name: str, value: Any) -> None:
        """Keep a number of this wrapper, in every group."""
        for group in opt.param_groups:
            group[self.key(name)] = value

    def key(self, name: str) -> str:
        """The name under which the groups, or `opt.state[p]`, hold this wrapper's `name`."""
        return f"{self.prefix}_{name}"

    def group_defaults(self) -> dict[str, Any]:
        """What a parameter group gets for this wrapper."""
        own = {self.key(k): v for k, v in {**self.options, **self.numbers}.items()}
        return {TRAIN_MODE: True, **own}

    @staticmethod
    def params(opt: Any) -> Iterator[torch.Tensor]:
        """All parameters that require a grad or have one."""
        return (
            p
            for g in opt.param_groups
            for p in g["params"]
            if p.requires_grad or p.grad is not None
        )

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        return f"{type(self).__name__}({options})"


def around(wrapper: Wrapper, opt: Any, inner: Callable[..., Any]) -> Callable[..., Any]:
    """`inner` with a wrapper around it."""

    def run(closure: Callable[[], Any] | None, loss: Any) -> Any:
        if closure is None and wrapper.needs_closure and _makes_states(opt):
            return inner(None, loss)
        if wrapper.numbers:
            _refuse_capture(wrapper, opt)
        return wrapper.around_step(Inside(opt, inner, loss), closure)

    return run


def _refuse_capture(wrapper: Wrapper, opt: Any) -> None:
    """A graph would repeat what a wrapper counts, and whatever follows from it.

    Raises:
        StepError: names the wrapper.
    """
    first = next(wrapper.params(opt), None)
    if first is not None and first.is_cuda and torch.cuda.is_current_stream_capturing():
        raise StepError(
            f"this step is recorded in a CUDA graph, which would repeat the numbers that "
            f"{type(wrapper).__name__} keeps on the host ({', '.join(wrapper.numbers)}): record the "
            "forward and the backward pass, and step outside of the graph. Nothing has been stepped; "
            "see docs/limits.md#cuda-graphs"
        )


def _makes_states(opt: Any) -> bool:
    """Whether a step only makes states: before it loads some, `torch.distributed.checkpoint` takes one
    with a rate of zero, and has no closure to give."""
    return not opt.state and all(g.get("lr", 1.0) == 0 for g in opt.param_groups)


def in_words(wrapper: Wrapper, group: Mapping[str, Any]) -> tuple[str, str]:
    """A wrapper with its options as a parameter group has them now, and what it does."""
    options = ", ".join(
        f"{k}={group.get(f'{wrapper.prefix}_{k}', v)!r}" for k, v in wrapper.options.items()
    )
    what = (type(wrapper).__doc__ or "").strip().partition("\n")[0]
    closure = " The step needs a closure." if wrapper.needs_closure else ""
    return f"{type(wrapper).__name__}({options})", what + closure


class Inside:
    """The optimizer as a wrapper sees it: `step` is the step inside the wrapper."""

    def __init__(self, opt: Any, inner: Callable[..., Any], loss: Any):
        self.opt, self.inner, self.loss = opt, inner, loss

    def step(self, closure: Callable[[], Any] | None = None, *, loss: Any = None) -> Any:
        return self.inner(closure, self.loss if loss is None else loss)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.opt, name)
