"""What a step on shards costs: `weft bench --ranks N` runs it in N processes, over gloo.

`python -m weft.bench.ranks FILE RANK RANKS QUICK` is one of them; the first prints JSON.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from weft.bench.shapes import SHAPES, Shapes
from weft.learner.extras import need

__all__ = ["Cost", "costs", "counting", "run"]

STEPS, QUICK = 40, 5
CLIPPED = "torch clip, fused"
TORCHS = {"torch, fused": True, "torch, foreach": False, CLIPPED: True}  # whether it is fused
CHAINS = {"adamw, clip": "adamw+clip_global_norm"}  # by their labels; others are names
OPTIMIZERS = ("adamw", *CHAINS, "lamb", "adafactor", "muon", *TORCHS)
HEAD = ("optimizer", "shapes", "tensors", "us/step", "alone", "collectives", "kB sent")
BLOCK = [(2304, 768), (2304,), (768, 768), (768,), (3072, 768), (3072,), (768, 3072), (768,)]


@dataclass(frozen=True)
class Cost:
    """A step of one optimizer on one set of shapes.

    Attributes:
        seconds: the median of a step, on the first rank.
        alone: of the same step on whole tensors in one process, while the other ranks wait.
        collectives: how many a step has; None of torch's, whose are not counted.
        sent: bytes that a rank sends, the most of all ranks: to others in `all_to_all`, and what an
            `all_reduce` is given.
    """

    optimizer: str
    shapes: str
    tensors: int
    seconds: float
    alone: float
    collectives: int | None
    sent: int | None


def run(ranks: int, quick: bool, as_json: bool) -> None:
    """Measure and print.

    Raises:
        RuntimeError: with what a rank said, where it failed.
    """
    found = costs(ranks, quick)
    if as_json:
        print(json.dumps({"ranks": ranks, "rows": [asdict(c) for c in found]}, indent=2))
        return
    out = need("rich.table", "cli").Table(
        box=need("rich.box", "cli").SIMPLE, pad_edge=False, collapse_padding=True
    )
    for name in HEAD:
        left = name in ("optimizer", "shapes")
        out.add_column(name, justify="left" if left else "right", no_wrap=True)
    for c in found:
        times = (f"{1e6 * s:,.0f}" for s in (c.seconds, c.alone))
        sent = "-" if c.sent is None else f"{c.sent / 1e3:,.1f}"
        many = "-" if c.collectives is None else str(c.collectives)
        out.add_row(c.optimizer, c.shapes, str(c.tensors), *times, many, sent)
    need("rich.console", "cli").Console(highlight=False).print(out)


def costs(ranks: int, quick: bool) -> list[Cost]:
    """The costs of a step on so many ranks, one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "weft.bench.ranks", f"{folder}/rendezvous"]
        children = [
            subprocess.Popen(
                [*command, str(rank), str(ranks), str(int(quick))],
                stdout=subprocess.PIPE, stderr=(Path(folder) / str(rank)).open("w"), text=True,
            )
            for rank in range(ranks)
        ]  # fmt: skip
        told = [child.communicate()[0] for child in children]
        for rank, child in enumerate(children):
            if child.returncode:
                said = (Path(folder) / str(rank)).read_text().strip().splitlines()
                raise RuntimeError(f"rank {rank}: {said[-1] if said else 'no answer'}")
    return [Cost(**c) for c in json.loads(told[0].splitlines()[-1])]


def shapes(quick: bool) -> dict[str, Shapes]:
    """What is timed: where the host decides, and where the work does."""
    tiny, many = SHAPES["tiny"](), SHAPES["many"]()
    if quick:
        return {"tiny": tiny, "many": many[:100]}
    return {"tiny": tiny, "150": [(64, 64)] * 150, "many": many, "gpt2 layer": list(BLOCK)}


# ---------------------------------------------------------------- a rank


def main(file: str, rank: int, ranks: int, quick: bool) -> None:
    """Measure all, together with the other ranks."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=ranks)
    out = [
        asdict(_cost(name, label, held, QUICK if quick else STEPS))
        for label, held in shapes(quick).items() for name in OPTIMIZERS
    ]  # fmt: skip
    if rank == 0:
        print(json.dumps(out))
    dist.destroy_process_group()


def _cost(name: str, label: str, held: Shapes, steps: int) -> Cost:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = Holder(held)
    fully_shard(model, mesh=mesh)
    step = _stepping(name, model)
    for _ in range(3):
        step()
    with counting() as count:
        step()
    seconds = _timed(step, steps, dist.barrier)
    sent = torch.tensor(count["bytes"])
    dist.all_reduce(sent, dist.ReduceOp.MAX)
    alone = 0.0
    if dist.get_rank() == 0:
        step = _stepping(name, Holder(held))
        for _ in range(3):
            step()
        alone = _timed(step, steps, lambda: None)
    dist.barrier()
    told = (None, None) if name in TORCHS else (count["collectives"], int(sent))
    return Cost(name, label, len(held), seconds, alone, *told)


class Holder(torch.nn.Module):
    """A module that only has parameters."""

    def __init__(self, held: Shapes):
        super().__init__()
        torch.manual_seed(0)
        for i, shape in enumerate(held):
            self.register_parameter(f"p{i}", torch.nn.Parameter(torch.randn(shape) * 0.02))


def _stepping(name: str, model: torch.nn.Module) -> Callable[[], Any]:
    """The step of an optimizer over a module; of one for matrices, with AdamW for the rest."""
    import weft

    params = list(model.parameters())
    for p in params:
        p.grad = torch.ones_like(p)
    if name in TORCHS:
        fused = TORCHS[name]
        stock = torch.optim.AdamW(params, lr=1e-4, fused=fused, foreach=not fused)
        clip = torch.nn.utils.clip_grad_norm_
        return (lambda: (clip(params, 1.0), stock.step())) if name == CLIPPED else stock.step
    groups: list[dict[str, Any]] = [{"params": params}]
    if name == "muon":
        rest = [p for p in params if p.ndim != 2]
        groups = [{"params": rest, "cbs": weft.AdamW.chain()}] if rest else []
        groups += [{"params": m}] if (m := [p for p in params if p.ndim == 2]) else []
    return weft.create(CHAINS.get(name, name), groups, lr=1e-4, engine="fused").step


def _timed(step: Callable[[], Any], steps: int, together: Callable[[], Any]) -> float:
    """The median of some steps that all ranks begin together."""
    times = []
    for _ in range(steps):
        together()
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


@contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Count collectives, and the bytes that this rank sends in them."""
    import torch.distributed as dist

    count = {"collectives": 0, "bytes": 0}
    reduce, exchange = dist.all_reduce, dist.all_to_all_single

    def counted_reduce(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        count["collectives"] += 1
        count["bytes"] += tensor.nbytes
        return reduce(tensor, *args, **kwargs)

    def counted_exchange(
        output: torch.Tensor, input: torch.Tensor, into: list[int], of: list[int], **kwargs: Any
    ) -> Any:
        count["collectives"] += 1
        count["bytes"] += (sum(of) - of[dist.get_rank(kwargs["group"])]) * input.itemsize
        return exchange(output, input, into, of, **kwargs)

    dist.all_reduce, dist.all_to_all_single = counted_reduce, counted_exchange
    try:
        yield count
    finally:
        dist.all_reduce, dist.all_to_all_single = reduce, exchange


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bool(int(sys.argv[4])))
