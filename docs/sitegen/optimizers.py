"""A page for each optimizer, and the table of all of them."""

import inspect
import re
from collections.abc import Iterator

from sitegen.diagram import diagram
from sitegen.docstring import ARXIV, linked, parts
from sitegen.elements import chain_code, inner, source
from sitegen.facts import Facts, facts
from sitegen.path import drawn
from sitegen.prose import equations, paragraphs, section_of, titled
from weft.chain import name_of
from weft.optimizers import Algorithm, algorithms
from weft.wrapper import Wrapper

__all__ = ["families", "index", "page", "pages"]


def pages() -> dict[str, str]:
    """File -> Markdown, of all optimizers and their table."""
    out = {"optimizers/index.md": index()}
    for name in algorithms():
        out[f"optimizers/{name}.md"] = page(name)
    return out


def families() -> dict[str, list[str]]:
    """The first words of a module -> the names of its optimizers."""
    found: dict[str, list[str]] = {}
    for name, cls in algorithms().items():
        found.setdefault(family(cls), []).append(name)
    return dict(sorted(found.items()))


def family(cls: type[Algorithm]) -> str:
    """What the optimizers of a module have in common, from its docstring."""
    said = (inspect.getdoc(inspect.getmodule(cls)) or "").partition("\n")[0]
    return re.split(r"[:;]|\. |\.$|, (?=and|which|whose|where|with)", said)[0]


def index() -> str:
    """The table of all optimizers, family by family."""
    lines = [
        "# The optimizers",
        "",
        f"{len(algorithms())} optimizers, each a chain of [blocks](../vocabulary/index.md). *State* is",
        "what is kept between steps, *moved* what a fused step reads and writes, in bytes for each",
        "float32 element of a 64 x 64 matrix. Those that need a closure, or matrices, say so on their",
        "page. Which to take is another question: see [choosing](../choosing.md).",
    ]
    for title, names in families().items():
        lines += ["", f"## {title}", "", "| | | state | moved |", "| --- | --- | --: | --: |"]
        for name in names:
            cls, known = algorithms()[name], facts(name)
            said = re.sub(r"^\w+: ", "", titled(parts(cls).title)[0])
            cells = [f"[{cls.__name__}]({name}.md)", said[0].upper() + said[1:]]
            lines.append("| " + " | ".join([*cells, *sizes(known)]) + " |")
    return "\n".join(lines) + "\n"


def sizes(known: Facts) -> tuple[str, str]:
    """State and traffic; a dash where no kernel says it."""
    return f"{known.state_bytes:g}", f"{known.moved_bytes:g}" if known.moved_bytes else "–"


def page(name: str) -> str:
    """The page of one optimizer."""
    blocks = [b for part in SECTIONS for b in part(algorithms()[name], name)]
    return "\n\n".join(blocks) + "\n"


# ---------------------------------------------------------------- the sections of a page


def heading(cls: type[Algorithm], name: str) -> Iterator[str]:
    """Its name, what it is in a sentence, its equations."""
    said = parts(cls)
    title, told = titled(said.title)
    yield f"# {cls.__name__}"
    yield title
    names = set(inspect.signature(cls).parameters)
    if told:
        yield equations(told, names)
    yield from paragraphs(said.before, names)
    yield legend(said.equations)


def legend(shown: list[list[str]]) -> str:
    """The letters that every page uses, where there are equations."""
    letters = {
        "p": "the parameter",
        "g": "its gradient",
        "G": "the gradient as a matrix",
        "t": "the number of this step",
        "m": "an average of gradients",
        "v": "an average of their squares",
        "u": "the update",
        "NS": "Newton-Schulz",
    }
    text = " ".join(line for lines in shown for line in lines)
    made = {found for found in letters if re.search(rf"\b{found}\b", text)}
    if {"g", "G"} <= made:  # then the large one is the page's own
        made.remove("G")
    told = ", ".join(f"*{one}* {what}" for one, what in letters.items() if one in made)
    return f"<small>{told}.</small>\n{{ .weft-legend }}" if told else ""


def picture(cls: type[Algorithm], name: str) -> Iterator[str]:
    """Its path down a curved valley and a ravine, where one has been drawn."""
    if shown := drawn(name):
        yield shown


def use(cls: type[Algorithm], name: str) -> Iterator[str]:
    """How it is made, and stepped where that is not as usual."""
    known = facts(name)
    made = f"opt = weft.{cls.__name__}(model.parameters())"
    lines = [made, f'opt = weft.create("{name}", model.parameters())']
    if not known.vectors:
        lines = [
            f"hidden, rest = weft.{cls.__name__}.chain(), weft.AdamW.chain()",
            'groups = weft.route(model, {"hidden": hidden, "*": rest})',
            "opt = weft.Optimizer(groups, rest)",
        ]
    if known.needs_closure:
        lines += ["", *CLOSURE]
    elif "loss" in reads(cls):
        lines += ["", "loss = loss_of(model)", "loss.backward()", "opt.step(loss=loss)"]
    if evaluates_elsewhere(cls):
        lines += [
            "",
            "opt.eval()    # before evaluating and saving",
            "opt.train()   # before the next step",
        ]
    yield "## Use"
    yield "\n".join(["```python", *lines, "```"])


CLOSURE = (
    "def closure():",
    "    opt.zero_grad()",
    "    loss = loss_of(model)",
    "    loss.backward(create_graph=True)   # its step differentiates the gradient",
    "    return loss",
    "",
    "opt.step(closure)",
)


def reads(cls: type[Algorithm]) -> set[str]:
    """The names that its callbacks read."""
    return {name for row in cls.chain().explain().callbacks for name in row[2].split(", ")}


def evaluates_elsewhere(cls: type[Algorithm]) -> bool:
    """Whether a wrapper has other weights to evaluate with."""
    around = [e for e in cls.chain() if isinstance(e, Wrapper)]
    return any(type(e).eval is not Wrapper.eval for e in around)


def chain(cls: type[Algorithm], name: str) -> Iterator[str]:
    """Its blocks drawn, as code, and their source."""
    woven = cls.chain()
    yield "## Its chain"
    yield diagram(woven)
    options = ", ".join(f"`{n}`" for n in cls.chain_options)
    if options:
        yield f"With the defaults. Other chains are chosen by {options}."
    yield "```python\n" + chain_code(name, woven) + "\n```"
    sources = {name_of(inner(e)): inner(e) for e in woven if not isinstance(e, Wrapper)}
    code = "\n\n\n".join(source(block) for block in sources.values())
    shown = "\n".join(f"    {line}".rstrip() for line in f"```python\n{code}\n```".splitlines())
    yield f'??? abstract "All that a step does: the code of these blocks"\n\n{shown}'


def costs(cls: type[Algorithm], name: str) -> Iterator[str]:
    """State, traffic, passes and where it is right."""
    known = facts(name)
    state, moved = sizes(known)
    yield "## What it costs"
    evaluates = (
        "needed: a step evaluates the gradient itself" if known.needs_closure else "optional"
    )
    matrices = "matrices: see [limits](../limits.md#methods-for-matrices)"
    shards = "right" if known.on_shards else "not fused"
    rows = [
        ("state", f"{state} bytes an element"),
        ("moved by a step", f"{moved} bytes an element" if known.moved_bytes else "not planned"),
        ("runs", "; ".join(known.phases) or "in the eager loop"),
        ("a closure", evaluates),
        ("parameters", "of any shape" if known.vectors else matrices),
        ("on shards", f"{shards}: see [distributed](../distributed.md)"),
    ]
    yield "\n".join(["| | |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])
    yield "For a float32 matrix of 64 x 64, as `opt.explain()` plans its first step."
    if known.eager:
        yield "Not in a kernel: " + "; ".join(known.eager) + "."


def to_know(cls: type[Algorithm], name: str) -> Iterator[str]:
    """The paper, and the traps."""
    said = parts(cls)
    known = facts(name)
    yield "## Papers, and what to know"
    yield from paragraphs(said.after, set(inspect.signature(cls).parameters))
    told = ARXIV.findall(" ".join(line for p in said.after for line in p))
    if not said.after or not set(ARXIV.findall(cls.paper)) <= set(told):
        yield linked(cls.paper) + "."
    if known.needs_closure:
        yield "A step needs a closure: see [limits](../limits.md#closures)."
    elif "loss" in reads(cls):
        yield "A step needs the loss: `step(loss=loss)` or a closure; see [limits](../limits.md#the-loss)."
    if evaluates_elsewhere(cls):
        yield (
            "Weights to evaluate with are not those to train with: call `opt.eval()` before evaluating and"
            " saving, `opt.train()` before the next step; see [limits](../limits.md#evaluation-mode)."
        )


def signature(cls: type[Algorithm], name: str) -> Iterator[str]:
    """What the constructor takes, from the docstring by mkdocstrings."""
    yield (
        f"::: {cls.__module__}.{cls.__name__}\n    options:\n"
        "      heading: Signature\n      toc_label: Signature\n"
        "      show_docstring_description: false\n      members: false"
    )
    yield from (section_of(s)[0] for s in parts(cls).sections if not s[0].rstrip().endswith(":"))


SECTIONS = (heading, picture, use, chain, costs, to_know, signature)
