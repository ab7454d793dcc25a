"""What is built to be installed: a wheel and a source distribution that work on their own."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import weft

ROOT = Path(__file__).parents[1]

STEP = """
import torch, weft
p = torch.nn.Parameter(torch.ones(3, 5))
p.grad = torch.ones_like(p)
opt = weft.AdamW([p], engine="fused")     # the C sources have to be in the package
opt.step()
print(weft.__file__, opt.explain().builds, weft.__version__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=ROOT, check=True
    )
    return {path.suffix: path for path in out.iterdir()}


def test_the_wheel_runs_kernels_where_it_is_installed(built, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "there"), str(built[".whl"])], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    run = [sys.executable, "-P", "-c", STEP]
    out = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    where, builds, version = out.stdout.split()
    assert where.startswith(str(tmp_path))
    assert (builds, version) == ("1", weft.__version__)


def test_the_wheel_is_named_so_that_no_other_project_is_installed(built):
    with zipfile.ZipFile(built[".whl"]) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith("METADATA"))
        metadata = wheel.read(name).decode()
    assert "\nName: weft-optim\n" in metadata
    assert f"\nVersion: {weft.__version__}\n" in metadata
    needed = re.findall(r"^Requires-Dist: ([^;\n]*)$", metadata, re.MULTILINE)
    assert needed == ["torch>=2.9"]  # whatever has a marker belongs to an extra
    assert not re.search(r"^Requires-Dist: weft\b(?!-optim)", metadata, re.MULTILINE)


def test_the_source_distribution_has_what_the_tests_need(built):
    with tarfile.open(built[".gz"]) as sdist:
        names = {n.partition("/")[2] for n in sdist.getnames()}
    for path in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"):
        assert path in names
    assert "src/weft/engine/host/native/replay.c" in names
    assert "tests/test_package.py" in names


def test_every_hint_installs_this_project():
    """On PyPI `weft` is somebody else's."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")]
    wrong = {
        f"{path.relative_to(ROOT)}: {found}"
        for path in pages
        for found in re.findall(r"pip install \"?weft\b(?!-optim)[^`\n]*", path.read_text())
    }
    assert not wrong


def test_the_version_is_told_alike_everywhere():
    assert f'version = "{weft.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {weft.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {weft.__version__}" in (ROOT / "CHANGELOG.md").read_text()
