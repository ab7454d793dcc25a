"""What a step costs on a GPU, against torch's: tables, and JSON and a picture in benchmarks/results.

python benchmarks/gpu.py [--seconds 165] [--quick]

Times are of the device, by events, medians of interleaved rounds; host microseconds are what a step
takes until it returns, of steps whose grads are where they were, and where all have moved. `bytes` is
a chain that moves the same bytes and computes next to nothing, `of copy` the time of a step in that of
a copy of as many bytes as it moves in all of its passes.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

import weft
from weft.bench.rivals import bytes_alone
from weft.bench.shapes import SHAPES

GPU = torch.device("cuda")
ROUNDS, WARM, COPIED = 9, 3, 1 << 29
STATES = {"AdamW": 2, "SGD": 1, "Lion": 1, "Adan": 4, "AdEMAMix": 3, "ScheduleFreeAdamW": 2, "RAdam": 2,
          "LAMB": 2, "StableAdamW": 2}  # fmt: skip
TORCH = {"AdamW": (torch.optim.AdamW, {}), "SGD": (torch.optim.SGD, {"momentum": 0.9}),
         "RAdam": (torch.optim.RAdam, {})}  # fmt: skip


def gpt2xl():
    """The 580 tensors of GPT-2 XL."""
    d = 1600
    shapes = [(50257, d), (1024, d)]
    for _ in range(48):
        shapes += [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,)]
        shapes += [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [*shapes, (d,), (d,)]


def parameters(shapes, dtype):
    """Parameters with grads on the GPU."""
    out = []
    for shape in shapes:
        p = torch.nn.Parameter(torch.randn(shape, device=GPU, dtype=dtype) * 0.02)
        p.grad = torch.randn_like(p)
        out.append(p)
    return out


def sides(name, dtype):
    """The optimizers that one row compares, each made from parameters."""
    hypers = {"lr": 1e-4, **({"momentum": 0.9} if name == "SGD" else {})}
    kept = {"state_dtype": torch.float32} if dtype is torch.bfloat16 else {}
    found = {"weft": lambda ps: getattr(weft, name)(ps, engine="fused", **hypers, **kept)}
    if name in TORCH:
        cls, more = TORCH[name]
        if name != "RAdam":
            found["torch fused"] = lambda ps: cls(ps, lr=1e-4, fused=True, **more)
        found["torch foreach"] = lambda ps: cls(ps, lr=1e-4, foreach=True, **more)
    found["bytes"] = bytes_alone(STATES[name])
    return found


def chained():
    """Chains that no class has: AdamW made cautious, and behind a global clip."""
    base = weft.AdamW.chain(lr=1e-4)
    return {
        "cautious AdamW": base + weft.callbacks.cautious,
        "clipped AdamW": base + weft.callbacks.clip_global_norm,
    }


class Batched:
    """Muon by hand, against which weft's is held: matrices of one shape are one batch, in bfloat16."""

    def __init__(self, params):
        self.by_shape = defaultdict(list)
        for p in params:
            self.by_shape[p.shape].append(p)
        self.held = {
            shape: [torch.zeros_like(p) for p in ps] for shape, ps in self.by_shape.items()
        }

    @torch.no_grad()
    def step(self):
        """Momentum of Nesterov's kind, five rounds of Newton and Schulz, the step."""
        for shape, ps in self.by_shape.items():
            grads, held = [p.grad for p in ps], self.held[shape]
            torch._foreach_lerp_(held, grads, 0.05)
            x = torch.stack(torch._foreach_lerp(grads, held, 0.95)).bfloat16()
            x = x.mT if shape[0] > shape[1] else x
            x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = x.mT if shape[0] > shape[1] else x
            torch._foreach_mul_(ps, 1 - 1e-3 * 0.1)
            torch._foreach_add_(
                ps, list(x.float().unbind()), alpha=-1e-3 * max(1, shape[0] / shape[1]) ** 0.5
            )


def hidden(shapes):
    """The matrices between embedding and head."""
    return [s for s in shapes if len(s) == 2 and max(s) < 10000]


MUONS = {
    "weft": lambda ps: weft.Muon(ps, lr=1e-3, weight_decay=0.1),
    "torch": lambda ps: torch.optim.Muon(ps, lr=1e-3, weight_decay=0.1),
    "batched": Batched,
}


def device_ms(step):
    """Milliseconds of the device, and microseconds of the host."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    clock = time.perf_counter()
    step()
    host = time.perf_counter() - clock
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end), host * 1e6


def raced(makers, shapes, dtype):
    """Medians of interleaved rounds: side -> (ms, host us)."""
    params = {side: parameters(shapes, dtype) for side in makers}
    opts = {side: make(params[side]) for side, make in makers.items()}
    for opt in opts.values():
        for _ in range(WARM):
            opt.step()
    times = {side: [] for side in opts}
    for _ in range(ROUNDS):
        for side, opt in opts.items():
            times[side].append(device_ms(opt.step))
    found = {
        side: [*map(statistics.median, zip(*each, strict=True))] for side, each in times.items()
    }
    lines = opts["weft"].explain().launches if hasattr(opts["weft"], "explain") else []
    moved = sum(
        int(n.replace(",", "")) for x in lines for n in re.findall("([0-9,]+) bytes moved", x)
    )
    found["weft"].append(moved_us(opts["weft"], params["weft"]))
    del opts, params
    torch.cuda.empty_cache()
    return found, moved


def moved_us(opt, params):
    """Microseconds of the host where all grads have moved; nan where there is no room for others."""
    held = [p.grad for p in params]
    try:
        others = [g.clone() for g in held]
    except torch.OutOfMemoryError:
        return float("nan")
    taken = []
    for k in range(ROUNDS):
        for p, grad in zip(params, (others, held)[k % 2], strict=True):
            p.grad = grad
        taken.append(device_ms(opt.step)[1])
    return statistics.median(taken)


def copy_speed():
    """Bytes read and written a second by a copy on the device."""
    a = torch.empty(COPIED, device=GPU)
    b = torch.empty_like(a)
    b.copy_(a)
    ms = statistics.median(device_ms(lambda: b.copy_(a))[0] for _ in range(ROUNDS))
    return 2 * 4 * a.numel() / ms * 1e3


FIRST = """
import time, torch, weft
ps = [torch.nn.Parameter(torch.randn(64 + i % 20, 32, device="cuda")) for i in range(150)]
for p in ps: p.grad = torch.randn_like(p)
torch.cuda.synchronize()
opt = weft.AdamW(ps, engine="fused")
begin = time.perf_counter(); opt.step(); torch.cuda.synchronize(); print(time.perf_counter() - begin)
"""


def first_steps():
    """Seconds of a first step of 150 parameters: nothing cached, cubins cached."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "WEFT_CACHE_DIR": folder}
        run = lambda: subprocess.run(
            [sys.executable, "-c", FIRST], env=env, capture_output=True, text=True, check=True
        )
        said = [run(), run()]
    return [float(s.stdout) for s in said]


COMPILED = """
import sys; sys.path.insert(0, {folder!r})
import time, statistics, torch, gpu
opt = torch.optim.AdamW(gpu.parameters(gpu.SHAPES["gpt2"](), torch.float32), lr=1e-4, foreach=True)
step = torch.compile(opt.step)
begin = time.perf_counter(); step(); torch.cuda.synchronize(); first = time.perf_counter() - begin
step(); step()
ms, us = map(statistics.median, zip(*(gpu.device_ms(step) for _ in range(gpu.ROUNDS))))
print(first, ms, us)
"""


def compiled(seconds=60):
    """torch.compile of its AdamW on gpt2: its first step, ms, host us; None where that takes too long."""
    text = COMPILED.format(folder=str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder}
        try:
            said = subprocess.run(
                [sys.executable, "-c", text],
                env=env,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return None
    return [*map(float, said.stdout.split())] or None


def described():
    """The card, its driver, and the versions."""
    p = torch.cuda.get_device_properties(GPU)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    except OSError:
        driver = "?"
    return {
        "card": p.name,
        "multiprocessors": p.multi_processor_count,
        "driver": driver,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def rows(until, quick):
    """(optimizer, shapes, dtype, results) for as long as there is time; None for the results then."""
    shapes = {**SHAPES, "gpt2xl": gpt2xl}
    order = ["tiny", "many", "resnet", "gpt2", *([] if quick else ["gpt2xl"])]
    wanted = [(n, s, torch.float32) for n in ("AdamW", "SGD") for s in order]
    wanted += [("AdamW", s, torch.bfloat16) for s in order[-2:]]
    wanted += [
        (n, s, torch.float32) for s in order[-2:] for n in STATES if n not in ("AdamW", "SGD")
    ]
    jobs = [(*row, sides(row[0], row[2]), shapes[row[1]]()) for row in wanted]
    for shape in order[-2:]:
        for name, chain in chained().items():
            make = {"weft": lambda ps, c=chain: c(ps, engine="fused"), "bytes": bytes_alone(2)}
            jobs.append((name, shape, torch.float32, make, shapes[shape]()))
    jobs.insert(2 * len(order), ("Muon", "gpt2", torch.float32, MUONS, hidden(shapes["gpt2"]())))
    for name, shape, dtype, makers, tensors in jobs:
        in_time = time.perf_counter() < until
        yield name, shape, dtype, raced(makers, tensors, dtype) if in_time else None


def main():
    """Print the tables, and keep what is in them."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=165, help="but for torch.compile")
    options.add_argument("--quick", action="store_true")
    given = options.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU to measure; this command waits for one")
    until = time.perf_counter() + given.seconds
    out = {"machine": described(), "copy": copy_speed(), "rows": []}
    print(out["machine"], f"copy {out['copy'] / 1e9:.0f} GB/s", flush=True)
    cold, warm = first_steps()
    out["first step"] = {"cold": cold, "warm": warm}
    print(f"first step: {cold:.2f} s, with cubins cached {warm:.2f} s", flush=True)
    for name, shape, dtype, measured in rows(until, given.quick):
        if measured is None:
            print(
                f"{name:18} {shape:7} {str(dtype)[6:]:9} not measured: no time is left", flush=True
            )
            continue
        found, moved = measured
        ours, us, moved_us = found["weft"]
        of_copy = ours / (moved / out["copy"] * 1e3) if moved else float("nan")
        shown = f"{ours:.3f} ms, host {us:.0f} us, grads moved {moved_us:.0f} us, {of_copy:.2f}x of copy"
        others = "  ".join(
            f"{ours / ms:.2f}x {side} ({ms:.3f} ms / {us:.0f} us)"
            for side, (ms, us, *_) in found.items() if side != "weft"
        )  # fmt: skip
        print(f"{name:18} {shape:7} {str(dtype)[6:]:9} {shown} | {others}", flush=True)
        row = {
            "name": name,
            "shapes": shape,
            "dtype": str(dtype)[6:],
            "sides": found,
            "bytes": moved,
        }
        out["rows"].append({**row, "of copy": of_copy})
    if not given.quick:
        out["torch.compile, AdamW, gpt2"] = compiled()
        print(
            f"torch.compile, AdamW, gpt2 (first step s, ms, us): {out['torch.compile, AdamW, gpt2']}"
        )
    kept(out)


def kept(out):
    """JSON, and bars of what a step takes against torch's and against its bytes."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    stem = folder / ("gpu-" + out["machine"]["card"].lower().replace(" ", "-"))
    stem.with_suffix(".json").write_text(json.dumps(out, indent=1))
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return
    bars = [(f"{r['name']} {r['shapes']} {r['dtype']}", r["sides"]) for r in out["rows"]]
    figure, ax = plt.subplots(figsize=(9, 0.3 * len(bars) + 1.5))
    for side, colour in (
        ("torch fused", "tab:orange"),
        ("torch foreach", "tab:red"),
        ("bytes", "tab:gray"),
    ):
        at = [i for i, (_, s) in enumerate(bars) if side in s]
        ax.plot(
            [bars[i][1]["weft"][0] / bars[i][1][side][0] for i in at],
            at,
            "o",
            color=colour,
            label=side,
        )
    ax.axvline(1, color="black", linewidth=0.5)
    ax.set_yticks(range(len(bars)), [name for name, _ in bars])
    ax.set_xlabel(f"time of weft's step as a part of the other's; {out['machine']['card']}")
    ax.legend()
    figure.savefig(stem.with_suffix(".png"), bbox_inches="tight")


if __name__ == "__main__":
    main()
