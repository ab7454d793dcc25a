"""Pieces of MathML, as strings."""

import re
from html import escape

__all__ = [
    "call",
    "display",
    "fenced",
    "fraction",
    "function",
    "is_symbol",
    "name",
    "number",
    "op",
    "relation",
    "row",
    "scripts",
    "text",
]

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "eps": "ε",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "xi": "ξ",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "Theta": "Θ",
}
RELATIONS = {"<-": "←", "<=": "≤", ">=": "≥", "~": "∼"}
OPERATORS = {"-": "−", "*": "⋅", "+-": "±", "comma": ",", "thin": "\u2062"}


def display(inside: str) -> str:
    """A formula of its own."""
    return f'<math display="block">{row(trimmed(inside))}</math>'


def trimmed(inside: str) -> str:
    """Words without space where nothing stands beside them."""
    inside = re.sub(r"^<mtext>&nbsp;", "<mtext>", inside)
    inside = re.sub(r"&nbsp;</mtext>$", "</mtext>", inside)
    return re.sub(r"&nbsp;</mtext>(<mo>,</mo>|<mtext>:)", r"</mtext>\1", inside)


def row(inside: str) -> str:
    return f"<mrow>{inside}</mrow>"


def number(text: str) -> str:
    mantissa, e, power = text.partition("e")
    if not e:
        return f"<mn>{text}</mn>"
    sign, digits = ("−", power[1:]) if power[0] == "-" else ("", power.lstrip("+"))
    digits = digits.lstrip("0") or "0"
    ten = f"<msup><mn>10</mn><mrow><mo>{sign}</mo><mn>{digits}</mn></mrow></msup>"
    return ten if mantissa == "1" else row(f"<mn>{mantissa}</mn><mo>⋅</mo>{ten}")


def text(words: str) -> str:
    """English within a formula."""
    plain = words.strip('`"')
    return f"<mtext>&nbsp;{escape(plain)}&nbsp;</mtext>"


def op(sign: str, kind: str = "") -> str:
    """An operator; a sign before its operand with `kind="prefix"`."""
    if sign == ":":
        return "<mtext>:&nbsp;</mtext>"
    form = ' form="prefix"' if kind == "prefix" else ""
    return f"<mo{form}>{OPERATORS.get(sign, sign)}</mo>"


def relation(sign: str) -> str:
    return f"<mo>{escape(RELATIONS.get(sign, sign))}</mo>"


def fraction(above: str, below: str) -> str:
    """A fraction, whose bar says what parentheses around its parts did."""
    return f"<mfrac>{row(bare(above))}{row(bare(below))}</mfrac>"


PARENTHESES = re.compile(r'<mrow class="p"><mo>\(</mo>(.*)<mo>\)</mo></mrow>', re.DOTALL)


def bare(inside: str) -> str:
    """What stands between outer parentheses, if those are all that there is."""
    found = PARENTHESES.fullmatch(inside)
    if found is None or (inside.count('<mrow class="p">') > 1 and not _outer(inside)):
        return inside
    return found[1]


def _outer(inside: str) -> bool:
    """Whether the first <mrow> ends with the whole."""
    depth = 0
    for tag in re.finditer(r"<(/?)mrow[^>]*>", inside):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return tag.end() == len(inside)
    return False


def fenced(opening: str, inside: str, closing: str) -> str:
    opening, closing = {"<": ("⟨", "⟩"), "{": ("{", "}")}.get(opening, (opening, closing))
    inside = trimmed(inside)
    kind = ' class="p"' if opening == "(" else ""
    forms = (' form="prefix"', ' form="postfix"') if opening == "|" else ("", "")
    return f"<mrow{kind}><mo{forms[0]}>{opening}</mo>{inside}<mo{forms[1]}>{closing}</mo></mrow>"


def scripts(base: str, sub: str | None, sup: str | None) -> str:
    if sub is not None and sup is not None:
        return f"<msubsup>{row(base)}{sub}{transposed(sup)}</msubsup>"
    if sub is not None:
        return f"<msub>{row(base)}{sub}</msub>"
    if sup is not None and base.startswith("<msub>") and base.count("<msub>") == 1:
        return f"<msubsup>{base[6:-7]}{transposed(sup)}</msubsup>"
    if sup is not None:
        return f"<msup>{row(base)}{transposed(sup)}</msup>"
    return base


def transposed(sup: str) -> str:
    return "<mo>⊤</mo>" if sup == row("<mi>T</mi>") else sup


def is_symbol(word: str) -> bool:
    """Whether a word is a symbol: a letter or a Greek name, with digits or a subscript."""
    head = re.match(r"[A-Za-z]+", word)
    return head is not None and (len(head[0]) == 1 or head[0] in GREEK)


def name(word: str) -> str:
    """A symbol with its subscript and prime, or the name of a hyper as it is in the code."""
    marks = {"'": "<mo>′</mo>", "+": "<mo>+</mo>", "-": "<mo>−</mo>"}
    prime = marks.get(word[-1], "")
    word = word.rstrip("'+-")
    base, subscript = symbol(word)
    if subscript and prime:
        return f"<msubsup>{base}{subscript}{prime}</msubsup>"
    if prime:
        return f"<msup>{base}{prime}</msup>"
    return f"<msub>{base}{subscript}</msub>" if subscript else base


def symbol(word: str) -> tuple[str, str]:
    """The letter, and what stands below it."""
    found = re.fullmatch(r"([A-Za-z]+?)_?(\d+|_[A-Za-z0-9]+|)", word) or re.fullmatch(
        r"([A-Za-z]+)(_\w+)", word
    )
    if found is None or not is_symbol(found[1]):
        return f'<mtext class="weft-name">{escape(word)}</mtext>', ""
    letter = GREEK.get(found[1], found[1])
    return f"<mi>{letter}</mi>", below(found[2].strip("_"))


def below(subscript: str) -> str:
    if not subscript:
        return ""
    if subscript.isdigit():
        return f"<mn>{subscript}</mn>"
    return f"<mi>{GREEK.get(subscript, subscript)}</mi>"


def function(word: str) -> str:
    return f"<mi>{word}</mi><mo>&#x2061;</mo>"


def call(word: str, inside: str) -> str:
    """A function of something: roots have their own sign."""
    if word == "sqrt":
        return f"<msqrt>{row(inside)}</msqrt>"
    if word == "cbrt":
        return f"<mroot>{row(inside)}<mn>3</mn></mroot>"
    called = name(word) if is_symbol(word) else f"<mi>{escape(word)}</mi>"
    return f"<mrow>{called}<mo>&#x2061;</mo>{fenced('(', inside, ')')}</mrow>"
