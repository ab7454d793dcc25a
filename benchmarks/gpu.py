"""What a step costs on a GPU, against torch's: tables, and JSON and a picture in benchmarks/results.

python benchmarks/gpu.py [--seconds 240] [--quick]

Times are of the device, by events, medians of interleaved rounds; host microseconds are what a step
takes until it returns. `bytes` is a chain that moves the same bytes and computes next to nothing.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import weft
from weft.bench.rivals import bytes_alone
from weft.bench.shapes import SHAPES

GPU = torch.device("cuda")
ROUNDS, WARM = 9, 3
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
    steps = {side: make(parameters(shapes, dtype)).step for side, make in makers.items()}
    for step in steps.values():
        for _ in range(WARM):
            step()
    times = {side: [] for side in steps}
    for _ in range(ROUNDS):
        for side, step in steps.items():
            times[side].append(device_ms(step))
    del steps
    torch.cuda.empty_cache()
    return {
        side: tuple(map(statistics.median, zip(*each, strict=True))) for side, each in times.items()
    }


def copy_speed():
    """Bytes read and written a second by a copy on the device."""
    a = torch.empty(1 << 29, device=GPU)
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
            [sys.executable, "-c", FIRST], env=env, capture_output=True, text=True
        )
        said = [run(), run()]
    return [float(s.stdout or "nan") for s in said]


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
    """(optimizer, shapes, dtype, results) for as long as there is time."""
    shapes = {**SHAPES, "gpt2xl": gpt2xl}
    order = ["tiny", "many", "resnet", "gpt2", *([] if quick else ["gpt2xl"])]
    wanted = [(n, s, torch.float32) for n in ("AdamW", "SGD") for s in order]
    wanted += [("AdamW", s, torch.bfloat16) for s in order[-2:]]
    wanted += [
        (n, s, torch.float32) for s in order[-2:] for n in STATES if n not in ("AdamW", "SGD")
    ]
    for name, shape, dtype in wanted:
        if time.perf_counter() < until:
            yield name, shape, dtype, raced(sides(name, dtype), shapes[shape](), dtype)
    for shape in order[-2:]:
        for name, chain in chained().items():
            if time.perf_counter() < until:
                make = {"weft": lambda ps, c=chain: c(ps, engine="fused"), "bytes": bytes_alone(2)}
                yield name, shape, torch.float32, raced(make, shapes[shape](), torch.float32)


def main():
    """Print the tables, and keep what is in them."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=200)
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
    for name, shape, dtype, found in rows(until, given.quick):
        ours = found["weft"][0]
        shown = "  ".join(f"{side} {ms:.3f} ms / {us:.0f} us" for side, (ms, us) in found.items())
        against = "  ".join(
            f"{ours / ms:.2f}x {side}" for side, (ms, _) in found.items() if side != "weft"
        )
        print(f"{name:18} {shape:7} {str(dtype)[6:]:9} {shown}  | {against}", flush=True)
        out["rows"].append({"name": name, "shapes": shape, "dtype": str(dtype)[6:], "sides": found})
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
