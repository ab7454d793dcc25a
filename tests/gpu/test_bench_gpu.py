"""`make bench-gpu` runs to its end, on shapes that are soon done, and leaves its tables."""

import importlib.util
import json
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def test_the_benchmark_leaves_its_tables(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("gpu_bench", ROOT / "benchmarks" / "gpu.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    few = [(8, 5), (5,), (5, 8), (8, 5)]
    for name, value in {
        "SHAPES": dict.fromkeys(("tiny", "many", "resnet", "gpt2"), lambda: few),
        "gpt2xl": lambda: few, "ROUNDS": 2, "__file__": str(tmp_path / "gpu.py"), "COPIED": 1 << 10,
        "first_steps": lambda: [0.5, 0.1], "compiled": lambda: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    bench.main()
    (kept,) = (tmp_path / "results").glob("*.json")
    found = json.loads(kept.read_text())
    names = {row["name"] for row in found["rows"]}
    assert {*bench.STATES, "cautious AdamW", "clipped AdamW", "Muon"} <= names
    assert all(row["sides"]["weft"][0] > 0 for row in found["rows"])
    assert "grads moved" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--seconds", "-1"])
    bench.main()
    assert "Muon               gpt2    float32   not measured" in capsys.readouterr().out


def test_muon_by_hand_is_muon():
    spec = importlib.util.spec_from_file_location("gpu_bench", ROOT / "benchmarks" / "gpu.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    found = {}
    for side, make in bench.MUONS.items():
        torch.manual_seed(0)
        params = bench.parameters([(8, 5), (5, 8), (8, 5)], torch.float32)
        opt = make(params)
        for _ in range(3):
            opt.step()
        found[side] = [p.detach().cpu() for p in params]
    for side in ("torch", "batched"):
        for p, q in zip(found["weft"], found[side], strict=True):
            torch.testing.assert_close(p, q, rtol=2e-2, atol=2e-3)
