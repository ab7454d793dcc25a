"""What has to be measured in a process of its own: `python -m weft.bench.child '{...}'` prints JSON."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["ask"]


def ask(env: dict[str, str], **what: Any) -> dict[str, float]:
    """Run a child and give what it measured.

    Raises:
        RuntimeError: with what it said, where it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "weft.bench.child", json.dumps(what)],
        capture_output=True, text=True, env=env, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "no answer")
    return json.loads(done.stdout.splitlines()[-1])


def first_step(name: str, parameters: int, distinct: int) -> dict[str, float]:
    """Seconds of the first step, and of another, state made before."""
    import weft
    from weft.bench.measure import parameters as make
    from weft.bench.shapes import some_shapes
    from weft.engine.eager.infer_state import init_state

    opt = getattr(weft, name)(make(some_shapes(parameters, distinct)), lr=1e-4, engine="fused")
    init_state(opt._current(), opt.state)
    begin = time.perf_counter()
    opt.step()
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    opt.step()
    return {"first": first, "second": time.perf_counter() - begin}


def peak(name: str, shapes: str) -> dict[str, float]:
    """Bytes by which steps raise the peak of this process's memory, after a first one."""
    import weft
    from weft.bench.measure import parameters as make
    from weft.bench.shapes import SHAPES

    opt = getattr(weft, name)(make(SHAPES[shapes]()), lr=1e-4, engine="fused")
    opt.step()
    opt.step()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from here
    before = _status("VmRSS")
    for _ in range(3):
        opt.step()
    return {"extra": float(max(0, _status("VmHWM") - before))}


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    return int(found.group(1)) * 1024 if found else 0


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps({"first_step": first_step, "peak": peak}[asked.pop("kind")](**asked)))
