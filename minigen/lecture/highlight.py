"""Source code as HTML, line by line: highlighted, with symbols marked and tags made links."""

import functools
import re
from html import escape

from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from minigen.lecture.notation import symbol_of, symbol_of_name, symbols
from minigen.lecture.tags import TAG

__all__ = ["highlighted"]

KINDS = [(Keyword, "k"), (Operator.Word, "k"), (String, "s"), (Comment, "c"), (Number, "m"),
         (Name.Function, "f"), (Name.Class, "f"), (Name.Decorator, "d")]
# In docstrings and comments Latin letters are seldom symbols, Greek letters always.
GREEK = re.compile("|".join(sorted({f for s in symbols() for f in (s.name, *s.formula)
                                    if not f.isascii()}, key=len, reverse=True)))
ID = re.compile(r"[a-z0-9-]+")


@functools.cache
def highlighted(path, link):
    """The lines of a source file as HTML. `link` maps the id of an equation to its address, or
    to None for an id that has no page."""
    lexer = get_lexer_for_filename(path.name, stripnl=False)
    html = "".join(_token(kind, text, link)
                   for kind, text in lexer.get_tokens(path.read_text(encoding="utf-8")))
    return html.removesuffix("\n").split("\n")


@functools.cache  # most tokens are signs and names that occur again and again
def _token(kind, text, link):
    name = next((css for group, css in KINDS if kind in group), None)
    if kind in Name:
        symbol = symbol_of_name(text)
        html = _symbol_span(escape(text), symbol) if symbol else escape(text)
    elif kind in Comment and TAG.search(text):
        html = ID.sub(lambda m: _link(m[0], link), escape(text, quote=False))
    elif kind in String or kind in Comment:
        html = GREEK.sub(lambda m: _symbol_span(m[0], _greek(m[0])), escape(text, quote=False))
    else:
        html = escape(text, quote=False)
    if name is None:
        return html
    return "\n".join(f'<span class="{name}">{line}</span>' if line else ""
                     for line in html.split("\n"))


def _greek(text):
    return symbol_of(text) or text


def _symbol_span(html, symbol):
    return f'<span data-symbol="{symbol}">{html}</span>'


def _link(id, link):
    address = link(id)
    return f'<a href="{address}">{id}</a>' if address else id
