"""LaTeX to MathML that a browser can display directly: no script, no network, no font of our own.

latex2mathml does the conversion. This module repairs what it leaves undone: ``\\arg``, letters of
other alphabets (MathML Core has no ``mathvariant``, but Unicode has the letters), names of several
letters, and the space beside a function.
"""

import re
import xml.etree.ElementTree as ET
from functools import cache
from html import escape

from latex2mathml.converter import convert

from minigen.lecture.notation import symbol_of

__all__ = ["formula", "render_mixed"]

# Where Unicode's mathematical alphabets start (A, a, 0), and the letters encoded elsewhere.
ALPHABETS = {"script": (0x1D49C, 0x1D4B6, 0), "double-struck": (0x1D538, 0x1D552, 0x1D7D8),
             "bold": (0x1D400, 0x1D41A, 0x1D7CE)}
ELSEWHERE = {"script": dict(zip("BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ", strict=True)),
             "double-struck": dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)), "bold": {}}
FUNCTION = re.compile(r"arg|cos|dim|exp|inf|log|max|min|sin|sup|tanh")
LIMITS = ("max", "min", "sup", "inf")  # their variable is written below
OPERATORS = {"~": "∼", ";": ";", "‖": "‖"}  # latex2mathml takes these for identifiers
SCRIPTS = ("msub", "msup", "msubsup", "munder", "munderover")


def render_mixed(parts):
    """A text with formulas as HTML: `parts` are ``(is_formula, text)`` pairs. A formula is split
    at its wide spaces, where a narrow screen may break the line."""
    return "".join(" ".join(map(formula, re.split(r"\\quad", text))) if is_formula
                   else escape(text) for is_formula, text in parts)


@cache
def formula(latex):
    """A formula as a MathML element; ValueError if something in it could not be rendered."""
    root = ET.fromstring(convert(latex.strip(), xmlns="", display="block"))
    root.attrib = {"displaystyle": "true"}
    for element in reversed(list(root.iter())):  # children before parents
        _repair(element)
    for element in root.iter():
        _space_functions(element)
    _mark_symbols(root)
    text = ET.tostring(root, encoding="unicode")
    if "\\" in text or "mathvariant" in text:
        raise ValueError(f"cannot render {latex}: {text}")
    return text


def _repair(element):
    variant = element.attrib.pop("mathvariant", None)
    if variant in ALPHABETS:
        element.text = "".join(_letter(variant, c) for c in element.text)
    elif variant:
        element.set("class", "upright")
    if element.tag == "mi" and element.text in OPERATORS:
        element.tag, element.text = "mo", OPERATORS[element.text]
    if element.tag == "mo" and element.text in ("‖", "|", "∣"):
        element.set("stretchy", "false")  # they come in pairs, and one may have an exponent
    if element.text == "\\arg":
        element.text = "arg"
    if element.tag == "mo" and FUNCTION.fullmatch(element.text or ""):
        element.tag = "mi"
    if element.tag == "msub" and element[0].text in LIMITS:
        element.tag = "munder"
    if element.tag in SCRIPTS:
        for script in element[1:]:
            _join(script, lambda name: len(name) > 2 or len(name) > 1 and name.isupper())
    _join(element, lambda name: len(name) > 2 and name.isupper())
    _argmax(element)


def _letter(variant, c):
    for first, low, high in zip(ALPHABETS[variant], "Aa0", "Zz9", strict=True):
        if low <= c <= high:
            return ELSEWHERE[variant].get(c) or chr(first + ord(c) - ord(low))
    return c


def _join(row, is_name):
    """Join adjacent letters into one name: upright ones, and runs that `is_name` accepts."""
    children, start = list(row), 0
    while start < len(children):
        end = start
        while end < len(children) and _is_letter(children[end], children[start]):
            end += 1
        run = children[start:end]
        name = "".join(letter.text for letter in run)
        if run and (run[0].get("class") or is_name(name)):
            run[0].tag, run[0].text = "mi" if len(name) > 1 else "mtext", name
            run[0].attrib.clear()
            for letter in run[1:]:
                row.remove(letter)
        start = max(end, start + 1)


def _is_letter(element, first):
    return (element.tag == "mi" and len(element.text) == 1 and element.text.isalpha()
            and element.get("class") == first.get("class"))


def _argmax(row):
    """Join arg and max (or min), which may have a set below or after it, into one operator."""
    for arg, after in zip(list(row), list(row)[1:], strict=False):
        extremum = after[0] if len(after) else after
        if arg.text == "arg" and extremum.text in ("max", "min"):
            row.remove(arg)
            extremum.tag, extremum.text = "mi", f"arg {extremum.text}"


def _space_functions(row):
    """Put a thin space on either side of a function's name, unless an operator is there."""
    if row.tag in SCRIPTS or row.tag in ("mfrac", "mover"):
        return
    children = list(row)
    for i, child in reversed(list(enumerate(children))):
        name = child[0] if child.tag in SCRIPTS else child
        if name.tag == "mi" and FUNCTION.search(name.text or ""):
            after, before = children[i + 1:i + 2], children[i - 1:i] if i else []
            if after and after[0].tag not in ("mo", "mspace") or after and after[0].text == "‖":
                row.insert(i + 1, ET.Element("mspace", width="0.167em"))
            if before and before[0].tag not in ("mo", "mspace"):
                row.insert(i, ET.Element("mspace", width="0.167em"))


def _mark_symbols(element):
    """Mark each identifier or accented letter with the symbol of the notation it stands for."""
    symbol = symbol_of("".join(element.itertext())) if element.tag in ("mi", "mover") else None
    if symbol:
        element.set("data-symbol", symbol)
    else:
        for part in element:
            _mark_symbols(part)
