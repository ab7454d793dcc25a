"""The rows of the benchmark, one generator a part: each yields as soon as it is measured."""

import compileall
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weft.bench import child
from weft.bench.measure import Race, bandwidth, parameters, race
from weft.bench.rivals import PUBLIC, TORCH, installed, ours, torch_rivals
from weft.bench.shapes import SHAPES

__all__ = ["PARTS", "Options", "Row"]

WEFT = "weft"
MOST_COMPILED = 150  # tensors; torch.compile takes minutes for more


@dataclass(frozen=True)
class Options:
    """What to run: all of it, or enough to see that it works."""

    quick: bool = False
    compiled: bool = False

    @property
    def seconds(self) -> float:
        """How long each race lasts."""
        return 0.5 if self.quick else 8.0

    def shapes(self) -> list[str]:
        """The shapes that are timed."""
        return ["tiny", "many"] if self.quick else list(SHAPES)


@dataclass(frozen=True)
class Row:
    """One figure, and what it should be at most; seconds, bytes or a ratio, as `unit` says."""

    part: str
    name: str
    value: float
    unit: str
    target: float | None = None
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.value <= self.target

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
            makes = {WEFT: ours(name, **hypers), **torch_rivals(name, compiled)}
            result = race(
                {k: make(parameters(shapes)).step for k, make in makes.items()}, options.seconds
            )
            yield _ratio("torch", f"{name} {shape}", result, "torch fused", targets.get(shape))
            for rival in makes:
                if rival not in (WEFT, "torch fused"):
                    yield _ratio("torch", f"{name} {shape}", result, rival, None)


def against_public(options: Options) -> Iterator[Row]:
    """Others against the fastest public eager implementation that is installed."""
    shapes = SHAPES["tiny" if options.quick else "resnet"]()
    for case in PUBLIC:
        rivals = installed(case)
        if not rivals:
            yield Row("public", case.name, float("nan"), "x", case.target, "no rival is installed")
            continue
        sides = {k: make(parameters(shapes)).step for k, make in rivals.items()}
        opt = ours(case.name)(parameters(shapes))
        result = race({WEFT: opt.step, **sides}, options.seconds)
        yield _ratio("public", case.name, result, result.fastest(rivals), case.target)


def changing(options: Options) -> Iterator[Row]:
    """Hypers that change at each step against hypers that stay."""
    shapes = SHAPES["tiny"]()
    still, moved = (ours("AdamW")(parameters(shapes)) for _ in range(2))
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        x = 1 / (1 + count)
        group = moved.param_groups[0]
        group.update(lr=1e-4 * x, betas=(0.9 - 0.1 * x, 0.999 - 0.1 * x), weight_decay=0.01 + x)
        group["eps"] = 1e-8 + 1e-9 * x
        moved.step()

    result = race({WEFT: step, "still": still.step}, options.seconds)
    yield _ratio("host", "lr, betas, decay, eps changed at each step", result, "still", None)
    builds = moved.explain().builds
    yield Row("host", "kernels built meanwhile", builds, "kernels", 1)


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
    sizes = (
        ((150, 10, 1.2, 0.15),) if options.quick else ((150, 10, 1.2, 0.15), (1500, 100, 1.5, None))
    )
    for parameters_, distinct, cold, warm in sizes:
        with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
            env = {**os.environ, "WEFT_CACHE_DIR": folder}
            what = {"name": "AdamW", "parameters": parameters_, "distinct": distinct}
            name = f"AdamW, {parameters_} parameters of {distinct} shapes"
            took = child.ask(env, kind="first_step", **what)["first"]
            yield Row("first step", f"{name}, nothing cached", took, "s", cold)
            tries = [child.ask(env, kind="first_step", **what)["first"] for _ in range(3)]
            yield Row("first step", f"{name}, disk cache warm", min(tries), "s", warm, "best of 3")


def memory(options: Options) -> Iterator[Row]:
    """How far a step raises the peak of the process's memory."""
    shape = "tiny" if options.quick else "resnet"
    for name in ("AdamW", "LAMB"):
        extra = child.ask(dict(os.environ), kind="peak", name=name, shapes=shape)["extra"]
        yield Row(
            "memory", f"{name} {shape}, above what is held between steps", extra, "B", 4 << 20
        )


def _ratio(part: str, name: str, result: Race, rival: str, target: float | None) -> Row:
    detail = f"{_ms(result.median(WEFT))}, {rival} {_ms(result.median(rival))}"
    detail += f"; least {result.least(WEFT) / result.least(rival):.2f}x"
    return Row(part, f"{name} / {rival}", result.ratio(WEFT, rival), "x", target, detail)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


PARTS: tuple[Callable[[Options], Iterator[Row]], ...] = (
    machine, host, changing, first_steps, memory, against_torch, against_public,
)  # fmt: skip
