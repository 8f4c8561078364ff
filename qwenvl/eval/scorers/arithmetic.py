"""The value of a short formula as LaTeX or a keyboard writes it: numbers, + - * / : ^, fractions, roots, pi, brackets."""

from __future__ import annotations

import math
import re

NUMBER = re.compile(r"\d+\.?\d*|\.\d+")
TIMES, OVER = ("*", "\\times", "\\cdot"), ("/", "\\div", ":")
SAME = (("$", ""), ("\\displaystyle", ""), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"))
"""What changes nothing but looks."""
DEEPEST = 50
"""Brackets within brackets; more is no answer to a question."""
HIGHEST = 5000
"""Exponents, likewise."""


def value_of(formula: str) -> float:
    """An int, where only whole numbers are added, multiplied and raised. A bracket closed but not opened ends the formula.

    Raises ValueError for what is no such formula (a variable, a sentence, nothing) and for what has no finite real value.
    """
    for old, new in SAME:
        formula = formula.replace(old, new)
    reader = _Reader(_balanced(formula))
    try:
        value = reader.sum()
    except (OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"{formula!r}: {error}") from None
    if reader.rest() or not (isinstance(value, int) or math.isfinite(value)):
        raise ValueError(f"{formula!r}: not a number")
    return value


def _balanced(formula: str) -> str:
    depth = 0
    for place, letter in enumerate(formula):
        depth += (letter == "{") - (letter == "}")
        if depth < 0:
            return formula[:place]
    return formula


class _Reader:
    """Reads a formula from left to right; every method takes what is its own and raises ValueError where it is not there."""

    def __init__(self, formula: str) -> None:
        self.text, self.place, self.depth = formula, 0, 0

    def rest(self) -> str:
        self.place += len(self.text[self.place :]) - len(self.text[self.place :].lstrip())
        return self.text[self.place :]

    def take(self, *words: str) -> str:
        """The first of these words that stands here, or nothing."""
        rest = self.rest()
        found = next((word for word in words if rest.startswith(word)), "")
        self.place += len(found)
        return found

    def need(self, word: str) -> None:
        if not self.take(word):
            raise ValueError(f"{self.text!r}: {word} is missing at {self.place}")

    def sum(self) -> float:
        value = self.product()
        while sign := self.take("+", "-"):
            value += self.product() * (1 if sign == "+" else -1)
        return value

    def product(self) -> float:
        value = self.signed()
        while True:
            if self.take(*TIMES):
                value *= self.signed()
            elif self.take(*OVER):
                value /= self.signed()
            elif self.rest() and self.rest()[0] in "\\({.0123456789":
                value *= self.power()  # 2\pi, 3(4)
            else:
                return value

    def signed(self) -> float:
        if sign := self.take("-", "+"):
            return self.signed() * (-1 if sign == "-" else 1)
        return self.power()

    def power(self) -> float:
        base = self.atom()
        if not self.take("^", "**"):
            return base
        exponent: float = -self.atom() if self.take("-") else self.atom()
        if abs(exponent) > HIGHEST:
            raise ValueError(f"{self.text!r}: an exponent of {exponent}")
        value = base**exponent
        if isinstance(value, complex):
            raise ValueError(f"{self.text!r}: not a real number")
        return value

    def atom(self) -> float:
        if self.take("\\pi", "pi"):
            return math.pi
        if self.take("\\frac"):
            return self.group() / self.group()
        if self.take("\\sqrt", "sqrt"):
            return self.root()
        for left, right in (("(", ")"), ("{", "}")):
            if self.take(left):
                return self.within(right)
        number = NUMBER.match(self.rest())
        if number is None:
            raise ValueError(f"{self.text!r}: no number at {self.place}")
        self.place += len(number[0])
        return int(number[0]) if number[0].isdigit() else float(number[0])

    def root(self) -> float:
        degree = self.within("]") if self.take("[") else 2.0
        value = self.atom()
        if value < 0:
            raise ValueError(f"{self.text!r}: the root of a negative number")
        return float(value ** (1 / degree))

    def group(self) -> float:
        """What is in braces, or the one digit that stands there."""
        if self.take("{"):
            return self.within("}")
        digit = self.take(*"0123456789")
        if not digit:
            raise ValueError(f"{self.text!r}: half a fraction")
        return int(digit)

    def within(self, right: str) -> float:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"{self.text!r}: too many brackets")
        value = self.sum()
        self.need(right)
        self.depth -= 1
        return value
