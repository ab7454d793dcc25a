"""The rows of the benchmark, one generator a part: each yields as soon as it is measured."""

import compileall
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from weft.bench import child
from weft.bench.measure import Race, bandwidth, parameters, race
from weft.bench.rivals import PUBLIC, TORCH, Make, bytes_alone, installed, ours, torch_rivals
from weft.bench.shapes import SHAPES

__all__ = ["PARTS", "Options", "Row"]

WEFT = "weft"
LARGE = ("resnet", "gpt2")  # no cache holds them
MOST_COMPILED = 150  # tensors; torch.compile takes minutes for more
PRICED = {
    "with stats": "stats collected",
    "stats()": "stats collected and read at each step",
    "skip": 'on_nonfinite="skip"',
}
TRIES = 3  # of a first step
NO_SLOWER = 1.05  # "no slowdown", and the noise of a median
NOT_MORE = 4 << 20  # bytes: some pages, and nothing that grows with the model


@dataclass(frozen=True)
class Options:
    """What to run: all of it, or enough to see that it works."""

    quick: bool = False
    compiled: bool = False

    @property
    def seconds(self) -> float:
        """How long each race lasts."""
        return 0.5 if self.quick else 5.0

    def shapes(self) -> list[str]:
        """The shapes that are timed."""
        return ["tiny", "many"] if self.quick else list(SHAPES)


@dataclass(frozen=True)
class Row:
    """One figure, and what it should be at most; seconds, bytes or a ratio, as `unit` says."""

    part: str
    name: str
    value: float | None
    unit: str
    target: float | None = None
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none, or nothing to measure."""
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def machine(options: Options) -> Iterator[Row]:
    """The machine's copy bandwidth: what bounds all that is larger than its caches."""
    yield Row("machine", "copy, read and written", bandwidth(64 if options.quick else 256), "B/s")


def against_torch(options: Options) -> Iterator[Row]:
    """AdamW and SGD with momentum against torch's own."""
    for name, (_, hypers, targets) in TORCH.items():
        for shape in options.shapes():
            shapes = SHAPES[shape]()
            compiled = options.compiled and len(shapes) <= MOST_COMPILED
            for rival, make in torch_rivals(name, compiled).items():
                result = _duel(ours(name, **hypers), rival, make, shapes, options)
                target = targets.get(shape) if rival == "torch fused" else None
                yield _ratio("torch", f"{name} {shape}", result, rival, target)


def against_public(options: Options) -> Iterator[Row]:
    """Others against the fastest public eager implementation that is installed."""
    shape = "tiny" if options.quick else "resnet"
    shapes = SHAPES[shape]()
    for case in PUBLIC:
        rivals, name = installed(case), f"{case.name} {shape}"
        target = case.target if shape == "resnet" else None
        if not rivals:
            yield Row("public", name, None, "x", target, "no rival is installed")
            continue
        duels = {k: _duel(ours(case.name), k, make, shapes, options) for k, make in rivals.items()}
        fastest = min(duels, key=lambda k: duels[k].median(k))
        yield _ratio("public", name, duels[fastest], fastest, target)


def _duel(
    make: Make, rival: str, make_rival: Make, shapes: list[tuple[int, ...]], options: Options
) -> Race:
    """Ours and one rival by turns: a third would empty the caches of both."""
    sides = {k: m(parameters(shapes)).step for k, m in ((WEFT, make), (rival, make_rival))}
    return race(sides, options.seconds)


def bounds(options: Options) -> Iterator[Row]:
    """What bounds large shapes: against moving the same bytes once, with next to no arithmetic."""
    wanted = [(name, shape) for name in TORCH for shape in options.shapes() if shape in LARGE]
    wanted += [(case.name, "resnet") for case in PUBLIC if not options.quick]
    for name, shape in wanted:
        shapes, hypers = SHAPES[shape](), TORCH.get(name, ("", {}))[1]
        small = ours(name, **hypers)(parameters([(2, 3)]))
        small.step()
        states = round(small.explain().state_bytes_per_parameter / 4)
        moving = bytes_alone(states)
        result = _duel(ours(name, **hypers), "its bytes alone", moving, shapes, options)
        elements = sum(map(math.prod, shapes))
        rate = 4 * elements * (3 + 2 * states) / result.median("its bytes alone")
        row = _ratio("bound", f"{name} {shape}", result, "its bytes alone", None)
        yield replace(row, detail=f"{row.detail}; they move at {rate / 1e9:.3g} GB/s")


def changing(options: Options) -> Iterator[Row]:
    """Hypers that change at each step against hypers that stay."""
    for name, hypers in (
        ("AdamW", {}),
        ("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    ):
        still, moved = (ours(name, **hypers)(parameters(SHAPES["tiny"]())) for _ in range(2))
        step, stay = _writing(moved, 0.1), _writing(still, 0.0)
        for _ in range(3):  # a first step may be another kernel's
            step()
        before = moved.explain().builds
        result = race({WEFT: step, "still": stay}, options.seconds)
        title = f"{name} tiny, every hyper changed at each step"
        yield _ratio("host", title, result, "still", NO_SLOWER)
        builds = moved.explain().builds - before
        yield Row("host", f"{title}: kernels built meanwhile", builds, "", 0)


def _writing(opt: Any, most: float) -> Callable[[], None]:
    """A step before which each number of the group is written, changed by `most` at most.

    Where that is nothing it is the same object again, for the same work: what a scheduler takes is
    not the optimizer's.
    """
    (group,) = opt.param_groups
    first: dict[str, Any] = {k: v for k, v in group.items() if type(v) is float or type(v) is tuple}
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        scale = 1 - most / count
        for name, value in first.items():
            many = type(value) is tuple
            new = tuple(x * scale for x in value) if many else value * scale
            group[name] = new if most else value
        opt.step()

    return step


def prices(options: Options) -> Iterator[Row]:
    """What looking costs: norms of each step, and grads that are not finite."""
    for shape in ("tiny",) if options.quick else ("resnet", "gpt2"):
        params = parameters(SHAPES[shape]())  # all step the same: gpt2 is large
        opts = {k: ours("AdamW")(params) for k in ("with stats", "stats()", "skip", "without")}
        opts["with stats"].collect_stats()
        opts["skip"].on_nonfinite = "skip"
        sides = {k: opt.step for k, opt in opts.items()}
        sides["stats()"] = partial(_read, opts["stats()"])
        result = race(sides, options.seconds)
        for side, words in PRICED.items():
            yield _ratio("price", f"AdamW {shape}, {words}", result, "without", None, side)


def _read(opt: Any) -> None:
    """A step whose norms are looked at."""
    opt.step()
    opt.stats()


def host(options: Options) -> Iterator[Row]:
    """What a step costs besides its arithmetic: tensors of one element."""
    for n in (16, 1000):
        opt = ours("AdamW")(parameters([(1,)] * n))
        result = race({WEFT: opt.step}, options.seconds / 4)
        detail = f"{result.least(WEFT) / n * 1e6:.2f} us a tensor; the fastest of all steps"
        yield Row(
            "host", f"AdamW, {n} tensors of one element", result.least(WEFT), "s", None, detail
        )


def first_steps(options: Options) -> Iterator[Row]:
    """The first step with nothing cached, and with the disk cache warm, in processes of their own."""
    compileall.compile_dir(str(Path(__file__).parents[1]), quiet=2)  # as an installation does
    sizes = ((150, 10, 1.2, 0.15), (1500, 100, 1.5, None))
    for parameters_, distinct, cold, warm in sizes[: 1 if options.quick else None]:
        took: dict[str, list[float]] = {"nothing cached": [], "disk cache warm": []}
        for _ in range(1 if options.quick else TRIES):
            with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
                env = {**os.environ, "WEFT_CACHE_DIR": folder}
                for seconds in took.values():  # the first fills the folder for the second
                    what = {"name": "AdamW", "parameters": parameters_, "distinct": distinct}
                    seconds.append(child.ask(env, kind="first_step", **what)["first"])
        for (state, seconds), target in zip(took.items(), (cold, warm), strict=True):
            yield Row(
                "first step",
                f"AdamW, {parameters_} parameters of {distinct} shapes, {state}",
                statistics.median(seconds),
                "s",
                target,
                f"median of {len(seconds)}; least {min(seconds):.3g} s",
            )


def memory(options: Options) -> Iterator[Row]:
    """How far a step raises the peak of the process's memory."""
    for shape in ("tiny",) if options.quick else ("resnet", "gpt2"):
        for name in ("AdamW", "LAMB"):
            extra = child.ask(dict(os.environ), kind="peak", name=name, shapes=shape)["extra"]
            yield Row(
                "memory", f"{name} {shape}, above what is held between steps", extra, "B", NOT_MORE
            )


def _ratio(
    part: str, name: str, result: Race, rival: str, target: float | None, side: str = WEFT
) -> Row:
    detail = f"{_ms(result.median(side))}, {rival} {_ms(result.median(rival))}"
    detail += f"; least {result.least(side) / result.least(rival):.2f}x"
    return Row(part, f"{name} / {rival}", result.ratio(side, rival), "x", target, detail)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


PARTS: tuple[Callable[[Options], Iterator[Row]], ...] = (
    machine, host, changing, prices, first_steps, memory, against_torch, against_public, bounds,
)  # fmt: skip
