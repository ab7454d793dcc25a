"""The docstrings' equations, which are plain text, as MathML.

    g <- g + weight_decay * p;   v <- beta2 * v + (1 - beta2) * g^2

`typeset` gives None for what it cannot read to the end: that stays as it was written.
"""

import re
from dataclasses import dataclass

from sitegen import mathml as ml

__all__ = ["Unreadable", "clause", "typeset"]


class Unreadable(ValueError):
    """A clause that is not in the notation."""


TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>`[^`]*`|"[^"]*"|[A-Za-z]+'s\b|\.\.\.|\d+(?:th|-th)\b)
    |(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
    |(?P<name>[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*(?:'|[+-](?=[\s),]|$))?)
    |(?P<relation><-|<=|>=|=|~|<(?=\s)|>(?=\s))
    |(?P<open>[(\[{]|<(?=\S))
    |(?P<close>[)\]}]|>)
    |(?P<op>\+-|[-+*/^_,:|])
    """,
    re.VERBOSE,
)
WORDS = re.compile(  # that stand beside a plus or an arrow and are no names
    "a|above|all|along|an|and|are|as|at|average|averages|batch|below|block|both|"
    "bound|but|by|change|channel|corrected|covers|curvature|each|else|elsewhere|"
    "entry|every|first|follow|for|from|gradient|had|has|have|in|inside|is|it|its|"
    "largest|later|leading|least|likewise|limited|made|mean|means|memory|min|move|"
    "moves|neuron|of|off|old|on|once|one|or|other|over|part|plus|power|random|"
    "reset|rest|set|shorter|side|sign|singular|slice|slices|so|start|starting|"
    "stays|step|steps|sum|tangent|tensor|that|the|their|then|there|through|to|"
    "turned|until|unit|update|value|values|vector|vectors|weight|weights|when|where|"
    "which|while|with|within|without|zero"
)
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">", "|": "|"}


@dataclass(frozen=True)
class Token:
    """A piece of a clause, and whether it touches what stands before and after it."""

    kind: str
    text: str
    tight: bool
    glued: bool


def typeset(lines: list[str], names: set[str]) -> str | None:
    """A block of equations as HTML with MathML; None where a clause cannot be read.

    Args:
        lines: of the block, without their common indentation.
        names: words that are names here: hypers and the like.
    """
    names = names | named(lines)
    rows = []
    try:
        for line in joined(lines):
            cells = [c for c in re.split(r";\s+|;$|\s{3,}", line.strip()) if c]
            rows.append("".join(ml.display(clause(c, names)) for c in cells))
    except Unreadable:
        return None
    return '<div class="weft-eq">' + "".join(f"<div>{row}</div>" for row in rows) + "</div>"


def joined(lines: list[str]) -> list[str]:
    """Lines, those that go on with an operator put to the end of the one before."""
    out: list[str] = []
    for line in lines:
        if out and re.match(r"\s+[-+*/]\s", line):
            out[-1] += " " + line.strip()
        else:
            out.append(line)
    return out


def named(lines: list[str]) -> set[str]:
    """Words that the equations compute with: beside an operator, and no word of English."""
    text = " \n ".join(lines)
    word = r"([A-Za-z][A-Za-z_0-9]+)"
    factors = re.findall(rf"{word}'? [*/] ", text) + re.findall(rf" [*/] {word}\b(?!')", text)
    terms = re.findall(rf"{word}'? (?:<-|=|[+-]) ", text)
    terms += re.findall(rf"(?:<-|[+-]) {word}\b(?!')", text)
    return {*factors, *(w for w in terms if not WORDS.fullmatch(w.lower()))}


def clause(text: str, names: set[str]) -> str:
    """One clause, such as `u <- u / (sqrt(v) + eps)`, as MathML.

    Raises:
        Unreadable: for what is not in the notation.
    """
    reader = Reader(tokens(text), names)
    out = reader.sequence(None)
    if reader.at < len(reader.tokens):
        raise Unreadable(text)
    return out


def tokens(text: str) -> list[Token]:
    """The tokens of a clause."""
    out, at = [], 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise Unreadable(text[at:])
        end = found.end()
        if found.lastgroup != "space":
            tight = at > 0 and not text[at - 1].isspace()
            glued = end < len(text) and not text[end].isspace()
            out.append(Token(str(found.lastgroup), found[0], tight, glued))
        at = end
    return out


class Reader:
    """Reads a clause by descent: sequence, relation, sum, term, product, power, atom."""

    def __init__(self, tokens: list[Token], names: set[str]):
        self.tokens, self.names, self.at = tokens, names, 0

    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if 0 <= at < len(self.tokens) else Token("end", "", False, False)

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def is_word(self, ahead: int = 0) -> bool:
        """Whether what comes is English, and not a name to compute with."""
        token, after = self.peek(ahead), self.peek(ahead + 1)
        if token.kind != "name" or len(token.text) == 1:
            return token.kind == "text" or (token.text == "a" and self.is_article())
        called = after.text in ("(", "|") and after.tight
        known = token.text in self.names or ml.is_symbol(token.text) or "_" in token.text
        return not called and not known

    def is_article(self) -> bool:
        """Whether an `a` stands between words."""
        before, after = self.peek(-1), self.peek(1)
        said = WORDS.fullmatch(before.text.lower()) is not None
        return said and after.kind == "name" and len(after.text) > 1

    # ------------------------------------------------------------ from loose to tight

    def sequence(self, close: str | None) -> str:
        """Everything up to a closing sign: relations and words, with commas."""
        out = []
        while self.peek().kind != "end" and not self.closes(close):
            token = self.peek()
            if token.text in (",", ":"):
                out.append(ml.op(self.next().text, "comma"))
            elif self.is_word():
                out.append(self.words())
            elif token.kind == "relation":
                out.append(ml.relation(self.next().text))
            else:
                out.append(self.sum(close))
        return "".join(out)

    def closes(self, close: str | None) -> bool:
        token = self.peek()
        if close == "|":
            return token.text == "|" and token.tight
        return close is not None and token.text == close

    def words(self) -> str:
        out = [self.next().text]
        while self.is_word():
            out.append(self.next().text)
        return ml.text(" ".join(out))

    def sum(self, close: str | None) -> str:
        out = []
        if self.peek().text in ("-", "+-", "+"):
            out.append(ml.op(self.next().text, "prefix"))
        out.append(self.term(close))
        while self.peek().text in ("+", "-") and self.peek().kind == "op":
            out.append(ml.op(self.next().text))
            out.append(self.term(close))
        return "".join(out)

    def term(self, close: str | None) -> str:
        """Factors with `*` and `/`, or words and the term that they are about."""
        if self.is_word():
            said = self.words()
            return said + (self.term(close) if self.starts(close) else "")
        out, last = "", self.product(close)
        while self.peek().text in ("*", "/") and self.peek().kind == "op":
            if self.next().text == "*":
                out, last = out + ml.row(last) + ml.op("*"), self.product(close)
            else:  # `a / b c` is c times the fraction
                last = self.beside([ml.fraction(last, self.quotient(close))], close)
        return out + last

    def product(self, close: str | None) -> str:
        """Factors that stand side by side."""
        return self.beside([self.quotient(close)], close)

    def beside(self, factors: list[str], close: str | None) -> str:
        """Factors, and those that stand beside them."""
        while self.starts(close) and not self.is_word():
            factors.append(self.quotient(close))
        return ml.op("thin").join(factors)

    def quotient(self, close: str | None) -> str:
        above = self.power(close)
        if self.peek().text == "/" and self.peek().tight and self.peek().glued:
            self.next()
            return ml.fraction(above, self.power(close))
        return above

    def starts(self, close: str | None) -> bool:
        token = self.peek()
        if self.closes(close):
            return False
        return token.kind in ("number", "name", "text", "open") or token.text == "|"

    def power(self, close: str | None) -> str:
        base, sub, sup = self.atom(close), None, None
        while self.peek().text in ("^", "_") and self.peek().tight:
            sign = self.next().text
            raised = self.script(close)
            sup, sub = (raised, sub) if sign == "^" else (sup, raised)
        return ml.scripts(base, sub, sup)

    def script(self, close: str | None) -> str:
        """What is raised or lowered: an atom, a number with a sign, or a group without its parentheses."""
        if self.peek().text in ("(", "{"):
            closing = CLOSING[self.next().text]
            inside = self.sequence(closing)
            self.expect(closing)
            return ml.row(inside)
        sign = ml.op(self.next().text, "prefix") if self.peek().text == "-" else ""
        return ml.row(sign + self.atom(close))

    def atom(self, close: str | None) -> str:
        token = self.next()
        if token.kind == "number":
            beside = self.peek().kind == "name" and self.peek().tight  # 2k
            return ml.number(token.text) + (ml.name(self.next().text) if beside else "")
        if token.kind == "text":
            return ml.text(token.text)
        if token.kind == "name":
            return self.name(token)
        if token.kind == "open" or (token.text == "|" and (token.glued or not token.tight)):
            inside = self.sequence(CLOSING[token.text])
            self.expect(CLOSING[token.text])
            return ml.fenced(token.text, inside, CLOSING[token.text])
        raise Unreadable(token.text)

    def name(self, token: Token) -> str:
        """A name; called where parentheses touch it."""
        opening = self.peek()
        if opening.text == "|" and opening.tight and self.peek(1).kind == "name" and opening.glued:
            return ml.function(token.text) + self.atom(None)
        if opening.text != "(" or not opening.tight:
            return ml.name(token.text)
        self.next()
        inside = self.sequence(")")
        self.expect(")")
        return ml.call(token.text, inside)

    def expect(self, close: str) -> None:
        if self.next().text != close:
            raise Unreadable(close)
