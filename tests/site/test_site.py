"""The site: each public name has its page, links lead somewhere, what is typeset says what was written."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from posixpath import dirname, join, normpath
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import torch
from site_pages import DOCS, ROOT, made, written

import weft
from sitegen import everything, facts, mixing, notation, optimizers, reference
from sitegen.docstring import parts
from sitegen.elements import chain_code
from sitegen.path import paths
from sitegen.prose import titled
from weft import callbacks, learner, wrappers
from weft.optimizers import algorithms

MODULES = {"callback", "callbacks", "fastai"}


def public():
    """Path -> name of everything public that is no module."""
    rooms = (weft, callbacks, wrappers, learner, callbacks.fastai)
    found = {}
    for room in rooms:
        for name in set(room.__all__) - MODULES:
            thing = getattr(room, name)
            path = (
                f"weft.contract.declare.{name}"
                if name in reference.STATES
                else reference.path_of(thing)
            )
            found[path] = name
    return found


def documented():
    return Counter(path for text in made().values() for path in reference.documented(text))


def test_every_public_name_has_one_page():
    counts = documented()
    assert not {name for path, name in public().items() if counts[path] != 1}
    assert set(counts) == set(public()), "what is documented and not public"


@pytest.mark.parametrize("name", algorithms())
def test_an_optimizers_page_has_its_paper_and_its_blocks(name):
    page, cls = made()[f"optimizers/{name}.md"], algorithms()[name]
    for paper in re.findall(r"arXiv:([\d.]+\d)", cls.paper):
        assert f"https://arxiv.org/abs/{paper}" in page
    blocks = [row[0] for row in cls.chain().explain().callbacks]
    assert re.findall(r'<div class="weft-block [^>]*><b>(?:<[^>]*>)?(\w+)<', page) == blocks


@pytest.mark.parametrize("name", algorithms())
def test_an_optimizers_page_has_its_path(name):
    page = made()[f"optimizers/{name}.md"]
    lines = re.findall(r'class="weft-trail" d="M[-0-9 L]+"', page)
    assert len(lines) == len(paths()["trails"].get(name, ())) == page.count("<figcaption>")


def test_no_path_is_of_what_there_is_not():
    assert set(paths()["trails"]) <= set(algorithms())
    assert len(paths()["trails"]) > 100


@pytest.mark.parametrize("name", algorithms())
def test_the_code_of_a_chain_makes_that_chain(name):
    scope = {}
    exec(chain_code("made", algorithms()[name].chain()), scope)
    assert scope["made"].names == algorithms()[name].chain().names
    assert scope["made"].defaults == algorithms()[name].chain().defaults


@pytest.mark.parametrize("name", algorithms())
def test_what_a_page_says_of_its_use_runs(name, monkeypatch):
    cls = algorithms()[name]
    known = facts.Facts(
        8, 28, (), (), cls.chain()([weight()]).needs_closure, True, facts.takes_vectors(cls)
    )
    monkeypatch.setattr(optimizers, "facts", lambda name: known)
    _, code = optimizers.use(cls, name)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    scope = {
        "weft": weft,
        "model": model,
        "loss_of": lambda model: model(torch.ones(2, 4)).square().mean(),
    }
    exec(code.removeprefix("```python\n").removesuffix("```"), scope)
    assert isinstance(scope["opt"], weft.Optimizer)


def weight():
    return torch.nn.Parameter(torch.eye(4))


@pytest.mark.parametrize("name", ["adamw", "lamb", "adahessian"])
def test_what_is_told_of_an_optimizer_is_so(name):
    known = facts.facts(name)
    expected = {
        "adamw": (8, 28, False, True),
        "lamb": (8, 40, False, True),
        "adahessian": (12, 32, True, False),
    }[name]
    assert (known.state_bytes, known.moved_bytes, known.needs_closure, known.on_shards) == expected
    assert known.vectors
    assert not known.eager


def test_what_takes_no_vectors_says_so():
    assert not facts.takes_vectors(weft.Muon)


@pytest.mark.parametrize(
    ("base", "modifier", "expected"),
    [
        ("AdamW", callbacks.cautious, "✓"),
        ("AdamW", callbacks.cautious_weight_decay, "instead"),
        ("SOAP", callbacks.cautious_weight_decay, "**no**"),
        ("ScheduleFreeAdamW", weft.WeightEMA(), "**no**"),
    ],
)
def test_the_table_of_mixing_has_tried_it(base, modifier, expected):
    assert mixing.verdict(base, modifier) == expected


def test_a_written_page_asks_for_tables_that_there_are():
    asked = {
        name for text in written().values() for name in re.findall(r"<!-- made: (\w+) -->", text)
    }
    assert asked == set(everything.TABLES)
    assert "<!--" not in everything.fill(written()["index.md"])


# ---------------------------------------------------------------- links


def anchors(page, text):
    """The places in a page that a link may name."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    found = set(re.findall(r"\{ #([\w.-]+) \}", text))
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


def links():
    """(page, target) of all links within the site, and of those to a name."""
    for page, text in {**written(), **made()}.items():
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in target:
                yield page, target


def test_no_link_between_pages_is_dead():
    pages = {**written(), **made()}
    for page, target in links():
        path, _, anchor = target.partition("#")
        there = normpath(join(dirname(page), path)) if path else page
        if not there.endswith(".md"):
            assert (DOCS / there).exists(), f"{page} links to {target}"
            continue
        assert there in pages, f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(there, pages[there]), f"{page} links to {target}"


def test_references_to_names_lead_to_their_entry():
    known = documented()
    for page, text in {**written(), **made()}.items():
        named = re.findall(r'<autoref identifier="([\w.]+)"', text)
        named += re.findall(r"\]\[(weft[\w.]+)\]", text)
        assert not set(named) - set(known), page


def test_every_page_that_is_written_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert set(re.findall(r"[\w/]+\.md", nav)) == set(written()) | {"coverage.md"}


def test_a_dead_link_and_a_name_without_a_page_are_found(monkeypatch):
    page = "limits.md"
    wrong = {
        **written(),
        page: written()[page] + "\n[gone](nowhere.md) [engine](engine.md#nothing)\n",
    }
    monkeypatch.setattr(sys.modules[__name__], "written", lambda: wrong)
    with pytest.raises(AssertionError, match="links to nowhere"):
        test_no_link_between_pages_is_dead()
    less = {page: text for page, text in made().items() if page != "optimizers/adamw.md"}
    monkeypatch.setattr(sys.modules[__name__], "made", lambda: less)
    with pytest.raises(AssertionError, match="AdamW"):
        test_every_public_name_has_one_page()


# ---------------------------------------------------------------- equations

SAID = [*algorithms().values(), *(getattr(wrappers, n) for n in wrappers.__all__)]
SAID += [b for n in callbacks.__all__ if callable(b := getattr(callbacks, n))]
BLOCKS = [(o.__name__, e) for o in SAID for e in parts(o).equations]
AS_WRITTEN = {"adjust_lr"}  # a table with papers, and no equations


def shown(html):
    """The letters, digits and signs of what is typeset."""
    tree = ElementTree.fromstring(html.replace("&nbsp;", " "))
    return Counter(re.sub(r"[\s⁡⁢⋅]", "", "".join(tree.itertext())))


def letters(lines):
    """The same of what was written, after the names of letters and what a bar or a root says."""
    text = " ".join(lines).replace("<-", "←").replace("'s ", "’s ")
    for word, sign in notation.ml.GREEK.items():
        text = re.sub(rf"(?<![A-Za-z_]){word}(?![a-z]|\d_)", sign, text)
    return text


@pytest.mark.parametrize(
    ("name", "lines"), BLOCKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BLOCKS)]
)
def test_equations_are_typeset_whole(name, lines):
    html = notation.typeset(lines, set())
    assert (html is None) == (name in AS_WRITTEN)
    if html is not None:
        there, text = shown(html), letters(lines)
        text = re.sub(r"\b(sqrt|cbrt)\b|(?<=\d)e-(?=\d)", "", text)
        for sign in set(re.findall(r"[^\W_]", text)) - set("T0136"):  # transposed; 1e-6, cube roots
            assert there[sign] == text.count(sign), f"{sign!r} in {name}"
        assert there["←"] == text.count("←")
        assert there["+"] == text.count("+") - text.count("+-")


TYPESET = {
    "v / (1 - b)": "<mfrac><mrow><mi>v</mi></mrow><mrow><mn>1</mn><mo>−</mo><mi>b</mi></mrow></mfrac>",
    "sqrt(v)": "<msqrt><mrow><mi>v</mi></mrow></msqrt>",
    "beta1^t": "<msubsup><mi>β</mi><mn>1</mn><mrow><mi>t</mi></mrow></msubsup>",
    "Q^T": "<msup><mrow><mi>Q</mi></mrow><mo>⊤</mo></msup>",
    "lr": '<mtext class="weft-name">lr</mtext>',
}


@pytest.mark.parametrize("text", TYPESET)
def test_a_formula(text):
    assert notation.clause(text, {"lr"}) == TYPESET[text]


@pytest.mark.parametrize("text", ["(1 - b)/n G", "(1 - b) / n G"])
def test_what_follows_a_fraction_is_beside_it(text):
    assert notation.clause(text, set()).endswith(
        "<mi>n</mi></mrow></mfrac><mo>\u2062</mo><mi>G</mi>"
    )


def test_what_divides_whole_is_in_parentheses():
    assert notation.clause("r / ((1 - q) s)", set()).endswith("<mi>s</mi></mrow></mfrac>")
    assert notation.clause("1 / 2k", set()).endswith("<mn>2</mn><mi>k</mi></mrow></mfrac>")


@pytest.mark.parametrize("text", ["p <- (p", "p *", "a ? b", "p / ) q", "|p"])
def test_what_cannot_be_read_stays_as_it_is_written(text):
    assert notation.typeset([text], set()) is None


def test_a_title_that_ends_in_an_equation():
    assert titled("Decay: p <- p * 2.") == ("Decay.", ["p <- p * 2"])
    assert titled("AdaBelief: a name.") == ("AdaBelief: a name.", [])


# ---------------------------------------------------------------- the built site


class Page(HTMLParser):
    """The links and the places of a built page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given["id"]} if given.get("id") else set()
        for name in ("href", "src"):
            if given.get(name):
                self.links.append(given[name])
        self.loads += [given["src"]] if given.get("src") else []
        if tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given.get("href", ""))


@pytest.mark.slow
def test_the_site_is_built_strictly_and_has_no_dead_link(tmp_path):
    pytest.importorskip("mkdocs", reason="pip install weft-optim[docs]")
    site = tmp_path / "site"
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(site)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]
    pages = {p: Page(p.read_text()) for p in site.rglob("*.html") if p.name != "404.html"}
    assert len(pages) > len(made())
    for path, page in pages.items():
        assert not [e for e in page.loads if "//" in e], "a page loads nothing from elsewhere"
        for link in page.links:
            if re.match(r"\w+:", link):
                assert not link.startswith("http:"), link
                continue
            target, _, anchor = unquote(link).partition("#")
            there = (path.parent / target).resolve() if target else path
            there = there / "index.html" if there.is_dir() else there
            assert there.exists(), f"{path.relative_to(site)} links to {link}"
            if anchor and there in pages and not anchor.startswith("__"):
                assert anchor in pages[there].ids, f"{path.relative_to(site)} links to {link}"
    index = (site / "search" / "search_index.json").read_text()
    assert not [n for n in public().values() if n not in index], "not to be found by searching"
