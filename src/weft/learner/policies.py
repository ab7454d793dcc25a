"""The ways to train: fits with a schedule, fine-tuning, freezing, the search for a rate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weft.learner.schedules import Schedule, flat_cosine, one_cycle, restarts, spread

if TYPE_CHECKING:
    from weft.learner.finder import LrFind
    from weft.learner.learner import Learner

__all__ = ["Policies"]

Rate = float | slice | Sequence[float]


class Policies:
    """The part of `Learner` that chooses schedules; every method ends in `fit`."""

    def fit_one_cycle(
        self: "Learner",  # type: ignore[misc]
        n_epoch: int,
        lr_max: Rate | None = None,
        div: float = 25.0,
        div_final: float = 1e5,
        pct_start: float = 0.25,
        *,
        wd: float | None = None,
        moms: Sequence[float] | None = None,
        cbs: Any = (),
        start_epoch: int = 0,
    ) -> None:
        """Train with the 1cycle policy: the rate up and down again, the momentum the other way.

        Cosine from `lr_max / div` to `lr_max` over the first `pct_start`, then cosine to
        `lr_max / div_final`; the momentum goes through `moms` at the same times.

        Args:
            n_epoch: how many epochs.
            lr_max: the highest rate, as `fit` takes it.
            div: by what the rate is divided at the start.
            div_final: by what it is divided at the end.
            pct_start: where the peak lies.
            wd: the weight decay.
            moms: start, middle and end of the momentum; `(0, 0, 0)` turns it off; None for the
                learner's own.
            cbs: callbacks for this fit only.
            start_epoch: as in `fit`.

        Raises:
            NonFiniteLoss: where the loss is nan or infinite.

        Smith, 2018, arXiv:1803.09820.
        """
        start, middle, end = self.moms if moms is None else moms
        shape = one_cycle(1 / div, 1.0, 1 / div_final, pct_start)
        momentum = one_cycle(start, middle, end, pct_start)
        self.fit(
            n_epoch,
            lr_max,
            wd=wd,
            schedules={"lr": self.rates(shape, lr_max), "mom": momentum},
            cbs=cbs,
            start_epoch=start_epoch,
        )

    def fit_flat_cos(
        self: "Learner",  # type: ignore[misc]
        n_epoch: int,
        lr: Rate | None = None,
        div_final: float = 1e5,
        pct_start: float = 0.75,
        *,
        wd: float | None = None,
        cbs: Any = (),
        start_epoch: int = 0,
    ) -> None:
        """Train at `lr` for `pct_start` of the time, then with a cosine to `lr / div_final`.

        Args:
            n_epoch: how many epochs.
            lr: the rate, as `fit` takes it.
            div_final: by what it is divided at the end.
            pct_start: where it begins to fall.
            wd: the weight decay.
            cbs: callbacks for this fit only.
            start_epoch: as in `fit`.

        Raises:
            NonFiniteLoss: where the loss is nan or infinite.
        """
        schedules = {"lr": self.rates(flat_cosine(pct_start, div_final), lr)}
        self.fit(n_epoch, lr, wd=wd, schedules=schedules, cbs=cbs, start_epoch=start_epoch)

    def fit_sgdr(
        self: "Learner",  # type: ignore[misc]
        n_cycles: int,
        cycle_len: int,
        lr_max: Rate | None = None,
        cycle_mult: int = 2,
        *,
        wd: float | None = None,
        cbs: Any = (),
        start_epoch: int = 0,
    ) -> None:
        """Train with warm restarts: cosine from `lr_max` to 0, again and again.

        Args:
            n_cycles: how many times.
            cycle_len: the epochs of the first cycle.
            lr_max: the rate at each start, as `fit` takes it.
            cycle_mult: how many times longer each cycle is than the one before.
            wd: the weight decay.
            cbs: callbacks for this fit only.
            start_epoch: as in `fit`.

        Raises:
            NonFiniteLoss: where the loss is nan or infinite.

        Loshchilov and Hutter, 2017, arXiv:1608.03983.
        """
        n_epoch = sum(cycle_len * cycle_mult**i for i in range(n_cycles))
        schedules = {"lr": self.rates(restarts(n_cycles, cycle_mult), lr_max)}
        self.fit(n_epoch, lr_max, wd=wd, schedules=schedules, cbs=cbs, start_epoch=start_epoch)

    def fine_tune(
        self: "Learner",  # type: ignore[misc]
        epochs: int,
        base_lr: float = 2e-3,
        freeze_epochs: int = 1,
        lr_mult: float = 100,
        pct_start: float = 0.3,
        div: float = 5.0,
        **kwargs: Any,
    ) -> None:
        """Train the last group first, then all of them at discriminative rates.

        Args:
            epochs: how many with everything unfrozen.
            base_lr: the rate of the frozen phase; half of it is the last group's in the second.
            freeze_epochs: how many with only the last group.
            lr_mult: how many times lower the first group's rate is than the last one's.
            pct_start: where the peak of the second phase lies.
            div: by what the rate is divided at its start.
            **kwargs: for `fit_one_cycle`, in both phases.

        Raises:
            ValueError: where there is only one parameter group.
            NonFiniteLoss: where the loss is nan or infinite.
        """
        self.freeze()
        self.fit_one_cycle(freeze_epochs, slice(base_lr), pct_start=0.99, **kwargs)
        self.unfreeze()
        if self.interrupted:
            return  # Ctrl-C was meant for the whole
        last = base_lr / 2
        rates = slice(last / lr_mult, last)
        self.fit_one_cycle(epochs, rates, pct_start=pct_start, div=div, **kwargs)

    def lr_find(
        self: "Learner",  # type: ignore[misc]
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_it: int = 100,
        stop_div: bool = True,
    ) -> "LrFind":
        """Train for a few batches at ever higher rates, then undo it, and suggest a rate.

        Args:
            start_lr: the first rate.
            end_lr: the last.
            num_it: in how many batches.
            stop_div: whether to stop once the loss is 4 times the best so far.

        Returns:
            `.suggestion`, `.lrs`, `.losses`, `.plot(path)`.

        Model, optimizer, random numbers and recorder are afterwards what they were before.
        """
        from weft.learner.finder import find_lr

        return find_lr(self, start_lr, end_lr, num_it, stop_div)

    def rates(
        self: "Learner",  # type: ignore[misc]
        shape: Schedule,
        lr: Rate | None,
    ) -> Any:
        """A schedule that gives each group its multiple of `shape`."""
        peaks = spread(self.lr if lr is None else lr, len(self.dials))
        return lambda pos: [peak * shape(pos) for peak in peaks]

    # ------------------------------------------------------------ freezing

    def freeze_to(self: "Learner", n: int) -> None:  # type: ignore[misc]
        """Train only the parameter groups from `n` on; the optimizer's state is forgotten.

        Args:
            n: a group's number; negative counts from the end.

        Raises:
            ValueError: where there is no such group.
        """
        self.set_frozen(n)
        if hasattr(self.opt, "clear_state"):
            self.opt.clear_state()  # type: ignore[operator]
        else:
            self.opt.state.clear()

    def set_frozen(self: "Learner", n: int) -> None:  # type: ignore[misc]
        """As `freeze_to`, but the optimizer keeps its state."""
        groups = self.opt.param_groups
        if not -len(groups) <= n < len(groups):
            raise ValueError(f"freeze_to({n}): there are only {len(groups)} parameter groups")
        self.frozen_to = n % len(groups)
        if hasattr(self.opt, "freeze_to"):
            self.opt.freeze_to(self.frozen_to)  # type: ignore[operator]
        else:
            for i, group in enumerate(groups):
                for p in group["params"]:
                    p.requires_grad_(i >= self.frozen_to)
        self.opt.zero_grad()  # a frozen parameter with an old grad would go on moving

    def freeze(self: "Learner") -> None:  # type: ignore[misc]
        """Train only the last parameter group.

        Raises:
            ValueError: where there is only one: the learner was made without a splitter.
        """
        if len(self.opt.param_groups) < 2:
            raise ValueError("freeze() needs several parameter groups: give Learner a splitter")
        self.freeze_to(-1)

    def unfreeze(self: "Learner") -> None:  # type: ignore[misc]
        """Train every parameter group."""
        self.freeze_to(0)
