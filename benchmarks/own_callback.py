"""What an own callback costs beside torch's fused AdamW: the bar chart of the README's first screen.

All take one step each, in turn, so that whatever disturbs the machine disturbs them alike; bars are
medians of a step's time over torch's fused step in the same round. `python benchmarks/own_callback.py`
prints them and draws `docs/images/cost.png`.
"""

import platform
import statistics
import sys
import time
from pathlib import Path

import torch

import weft
from weft.learner.extras import need

ROUNDS, WARM = 400, 20
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "cost.png"
BASE = "torch.optim.AdamW, fused=True"


def cautious(update, grad):
    agree = (update * grad > 0).to(grad.dtype)
    return {"update": update * agree / agree.mean().clamp(min=1e-3)}


def parameters() -> list[torch.nn.Parameter]:
    """Twelve layers with weights and biases, 118,776 elements in all, with gradients."""
    torch.manual_seed(0)
    shapes = [(100, 98), (98,)] * 12
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def optimizers() -> dict[str, torch.optim.Optimizer]:
    """What is compared, by name."""
    own = weft.AdamW.chain() + cautious
    return {
        BASE: torch.optim.AdamW(parameters(), fused=True),
        "torch.optim.AdamW": torch.optim.AdamW(parameters()),
        "weft.AdamW": weft.AdamW(parameters(), engine="fused"),
        "weft.AdamW + cautious": own(parameters(), engine="fused"),
    }


def measured(opts: dict[str, torch.optim.Optimizer]) -> dict[str, list[float]]:
    """Seconds of each step of each, round by round."""
    times: dict[str, list[float]] = {name: [] for name in opts}
    for k in range(WARM + ROUNDS):
        for name, opt in opts.items():
            begin = time.perf_counter()
            opt.step()
            if k >= WARM:
                times[name].append(time.perf_counter() - begin)
    return times


def draw(ratios: dict[str, float], seconds: dict[str, float], path: Path) -> None:
    """Bars of what a step costs, relative to torch's fused one."""
    figure = need("matplotlib.figure").Figure(figsize=(7.5, 2.4), layout="constrained")
    axis = figure.subplots()
    names = list(ratios)
    colors = ["#8899aa" if name.startswith("torch") else "#4477aa" for name in names]
    axis.barh(names, list(ratios.values()), color=colors)
    for i, name in enumerate(names):
        axis.text(
            ratios[name], i, f" {ratios[name]:.2f}x, {seconds[name] * 1e3:.2f} ms", va="center"
        )
    axis.invert_yaxis()
    axis.set_xlim(right=1.35 * max(ratios.values()))
    axis.set_xlabel("time of a step, 24 tensors of 118,776 elements on one core of a CPU")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    torch.set_num_threads(1)
    times = measured(optimizers())
    ratios = {
        name: statistics.median(a / b for a, b in zip(own, times[BASE], strict=True))
        for name, own in times.items()
    }
    seconds = {name: statistics.median(own) for name, own in times.items()}
    for name in ratios:
        print(f"{name:28} {ratios[name]:5.2f}x  {seconds[name] * 1e3:6.3f} ms")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {ROUNDS} rounds")
    draw(ratios, seconds, Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)


if __name__ == "__main__":
    main()
