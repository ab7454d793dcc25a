"""Every Python snippet of the README and the documentation runs, a page in one go.

The links of the documentation are test_site.py's.
"""

import ast
import builtins
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(page, tmp_path, monkeypatch):
    text = page.read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    monkeypatch.chdir(tmp_path)
    source = tmp_path / f"{page.stem}.py"  # on disk, so that callbacks have a source to read
    source.write_text("\n".join(snippets))
    exec(compile(source.read_text(), str(source), "exec"), {"__name__": page.stem})


def names_from_elsewhere(code):
    """The names that a snippet takes and does not make."""
    every = list(ast.walk(ast.parse(code)))
    read = {n.id for n in every if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    made = {n.id for n in every if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    made |= {n.name for n in every if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    made |= {str(n.name) for n in every if isinstance(n, ast.ExceptHandler)}
    made |= {n.arg for n in every if isinstance(n, ast.arg)}
    imports = [n for n in every if isinstance(n, ast.Import | ast.ImportFrom)]
    made |= {(a.asname or a.name).partition(".")[0] for n in imports for a in n.names}
    return read - made - set(dir(builtins)) - {"__name__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_snippet_runs_alone_or_says_that_it_goes_on(page):
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.S):
        goes_on = snippet.startswith("# goes on from the block above\n")
        assert goes_on == bool(names_from_elsewhere(snippet)), snippet


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def blocks(page, kind):
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.S | re.M)
    return [text for word, text in fences if word == kind]


def shown(line):
    """A line of a listing without what was said beside it."""
    return re.split(r" {2,}|/\*", line.strip())[0].strip()


def test_the_listings_of_the_engine_are_what_it_makes(tmp_path):
    source = tmp_path / "engine.py"
    source.write_text(blocks("docs/engine.md", "python")[0])
    names = {"__name__": "engine"}
    exec(compile(source.read_text(), str(source), "exec"), names)
    opt = names["opt"]
    graphs = [
        str(v.traced.graph)
        for s in opt._engine.fused.cache.variant_sets.values()
        for v in s.variants
    ]
    made = {shown(line) for graph in graphs for line in graph.splitlines()}
    graph, _ = blocks("docs/engine.md", "text")
    missing = [line for line in graph.splitlines() if shown(line) not in made]
    assert not missing
    kernel = {shown(line) for line in opt.kernel_source().splitlines()}
    loop = blocks("docs/engine.md", "c")[0].splitlines()
    assert not [
        line for line in loop if shown(line) and "..." not in line and shown(line) not in kernel
    ]


def test_the_readme_shows_what_explain_prints(tmp_path, capsys):
    source = tmp_path / "readme.py"
    source.write_text(blocks("README.md", "python")[0])
    exec(compile(source.read_text(), str(source), "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    (listing,) = [b for b in blocks("README.md", "") if b.startswith("callback ")]
    assert printed.startswith(listing)
