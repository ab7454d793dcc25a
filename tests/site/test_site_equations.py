"""What is typeset has the value of what was written: both are computed, apart from each other."""

import ast
import re
from xml.etree import ElementTree

import pytest
from test_site import BLOCKS

from sitegen import mathml, notation

LETTERS = {sign: word for word, sign in mathml.GREEK.items()}
KNOWN = {
    "lr",
    "momentum",
    "dampening",
    "rows",
    "cols",
    "scale",
    "root",
    "loss",
    "rate",
    "power",
    "update",
}
KNOWN |= {
    "slow",
    "ema",
    "swa",
    "decay",
    "lamb",
    "lambd",
    "ax",
    "vmax",
    "final",
    "partial",
    "progress",
}
SIGNS = {
    "−": "-",
    "⋅": "*",
    "\u2062": "*",
    "\u2061": "",
    "←": "=",
    "′": "prime",
    "⊤": "T",
    "⟨": "dot(",
    "⟩": ")",
}
BELOW = {"+": "plus", "-": "minus"}
FUNCTIONS = {"sqrt": lambda x: abs(x) ** 0.5, "cbrt": lambda x: abs(x) ** (1 / 3), "abs": abs}


def clauses():
    """The formulas that Python could read as well, which are those without words."""
    for name, lines in BLOCKS:
        for line in notation.joined(lines):
            for text in re.split(r";\s+|\s{3,}", line.strip()):
                found = re.fullmatch(r"[\w']+ (?:<-|=) (.+?),?", text)
                if found and in_python(found[1]):
                    yield pytest.param(found[1], id=f"{name}: {text}")


def in_python(text):
    """A formula of the notation as Python; None where it is more than that."""
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text.replace("^", "**"))
    text = re.sub(r"<([^<>]*), ([^<>]*)>", r"dot(\1, \2)", text)
    text = re.sub(r"_\{(\w)([+-])(\w)\}", lambda m: f"_{m[1]}{BELOW[m[2]]}{m[3]}", text)
    text = re.sub(r"([A-Za-z]\w*)'", r"\1prime", text)
    names = re.findall(r"[A-Za-z]\w*\b(?!\()", text)
    if any(
        len(n) > 1 and "_" not in n and not mathml.is_symbol(n) and n not in KNOWN for n in names
    ):
        return None
    text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)  # factors that stand side by side
    text = re.sub(r"(?<=\d)(?=[a-df-z])", " * ", text)
    if re.search(r"[<>=~:\[]|\+-|\.\.", text):
        return None
    try:
        made = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    return None if isinstance(made, ast.Tuple) else text


def back(node):
    """MathML as Python."""
    inside = [back(child) for child in node]
    if node.tag == "mfrac":
        return f"(({inside[0]})/({inside[1]}))"
    if node.tag == "msqrt":
        return f"sqrt({inside[0]})"
    if node.tag == "mroot":
        return f"cbrt({inside[0]})"
    if node.tag == "msub":
        return inside[0] + "".join(BELOW.get(c, c) for c in inside[1])
    if node.tag == "msubsup":
        under, over = inside[0] + inside[1], inside[2]
        return under + over if over == "prime" else f"(({under})**({over}))"
    if node.tag == "msup":
        return "".join(inside) if inside[1] == "prime" else f"(({inside[0]})**({inside[1]}))"
    if node.tag == "mo" and node.text == "|":
        return "abs(" if node.get("form") == "prefix" else ")"
    if node.tag in ("mi", "mo", "mn", "mtext"):
        return SIGNS.get(node.text, LETTERS.get(node.text, node.text))
    return "".join(inside)


def value(python):
    """What a formula comes to, each name a number of its own."""
    python = python.replace("_", "")
    called = {
        n: lambda *x: sum((i + 0.7) * v for i, v in enumerate(x))
        for n in re.findall(r"(\w+)\(", python)
    }
    called |= FUNCTIONS
    names = set(re.findall(r"[A-Za-z]\w*", python)) - set(called)
    given = {n: 0.2 + 0.6 * ((sum(map(ord, n)) * 37 % 101) / 101) for n in sorted(names)}
    made = eval(python, called, given)
    return made.real + made.imag


def test_most_formulas_are_compared():
    assert len(list(clauses())) > 600


@pytest.mark.parametrize("text", clauses())
def test_a_formula_keeps_its_value(text):
    typeset = notation.clause(text, notation.named([text]) | KNOWN)
    tree = ElementTree.fromstring(f"<math>{typeset}</math>".replace("&nbsp;", " "))
    assert value(back(tree)) == pytest.approx(value(in_python(text)), rel=1e-9)
