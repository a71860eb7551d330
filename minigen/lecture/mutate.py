"""Mutants of a tagged line: small changes, each of which makes its equation wrong.

A mutant is a copy of a file in which the tagged statement is altered: its value scaled by 1.5 or
negated, a plus turned into a minus, a product into a quotient, an exponent changed, two arguments
swapped, a comparison reversed, a step left out. Everything else stays the same, byte for byte.
Changes that leave the mathematics unchanged (the sign of symmetric noise, a factor a / a) are not
made.
"""

import ast
import re
from dataclasses import dataclass

from minigen.lecture.tags import statement

MAX_MUTANTS = 12  # mutants per line
FLIPPED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*"}
PATTERNS = {ast.Add: r"\+", ast.Sub: "-", ast.Mult: r"\*", ast.Div: "/", ast.FloorDiv: "//",
            ast.And: r"\band\b", ast.Or: r"\bor\b"}
REVERSED = {ast.Lt: ("<", ">="), ast.GtE: (">=", "<"), ast.Gt: (">", "<="), ast.LtE: ("<=", ">"),
            ast.Eq: ("==", "!="), ast.NotEq: ("!=", "==")}
UNSWAPPED = {"maximum", "minimum", "max", "min", "add", "multiply", "mse_loss", "l1_loss",
             "frechet_distance", "allclose", "zip", "logaddexp", "isinstance", "getattr", "hasattr",
             "range", "map", "reshape", "append"}
NOISE = re.compile(r"\b(standard_normal|eps|noise)\b")  # symmetric: its sign does not matter
CONTAINERS = {"tuple", "list", "dict", "set", "sorted"}


@dataclass(frozen=True)
class Mutant:
    """What was changed, and the full text of the changed file."""

    change: str
    text: str


def mutants(text, line):
    """The mutants of the statement that a tag on this line refers to; none if no change applies."""
    source, tree = Source(text), ast.parse(text)
    node = statement(tree, line)
    changes = list(_statement(source, node, line)) if node else []
    seen, made = {text}, []
    for change, edits in changes:
        mutated = source.edit(edits)
        if mutated not in seen:
            seen.add(mutated)
            made.append(Mutant(change, mutated))
    return made[:MAX_MUTANTS]


class Source:
    """A text addressed by the positions that ast gives: lines from 1, columns in UTF-8 bytes."""

    def __init__(self, text):
        self.bytes, self.starts = text.encode(), [0]
        for row in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(row))

    def span(self, node):
        return (self.starts[node.lineno - 1] + node.col_offset,
                self.starts[node.end_lineno - 1] + node.end_col_offset)

    def __getitem__(self, node):
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def replace(self, node, new):
        return (*self.span(node), new)

    def replace_op(self, left, right, pattern, new):
        """The edit that replaces the operator between two nodes."""
        start, end = self.span(left)[1], self.span(right)[0]
        found = re.search(pattern, self.bytes[start:end].decode())
        return (start + found.start(), start + found.end(), new)  # all before it is ASCII

    def edit(self, edits):
        out = self.bytes
        for start, end, new in sorted(edits, reverse=True):
            out = out[:start] + new.encode() + out[end:]
        return out.decode()


def _statement(source, node, line):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Return) and inner.value is not None:
                yield from _value(source, inner.value)
    elif isinstance(node, (ast.If, ast.While, ast.Assert)):
        yield from _value(source, node.test)
    elif isinstance(node, ast.For):
        yield "first turn left out", [source.replace(node.iter, f"list({source[node.iter]})[1:]")]
        yield from _inside(source, node.iter)
    elif isinstance(node, ast.AugAssign):
        new = {ast.Add: "-=", ast.Sub: "+=", ast.Mult: "/=", ast.Div: "*="}.get(type(node.op))
        if new:
            yield f"→ {new}", [source.replace_op(node.target, node.value, r"\S+=", new)]
        yield "1.5 × value", [source.replace(node.value, f"1.5 * ({source[node.value]})")]
        yield from _inside(source, node.value)
    elif isinstance(node, ast.Expr) and not isinstance(node.value, (ast.Yield, ast.YieldFrom)):
        yield "left out", [source.replace(node.value, "None")]
        yield from _inside(source, node.value)
    elif getattr(node, "value", None) is not None:  # return, assignment, yield
        target = getattr(node, "targets", [None])[0]
        value = node.value.value if isinstance(node, ast.Expr) else node.value
        if value is None:
            return
        if isinstance(target, ast.Tuple) and not isinstance(value, (ast.Tuple, ast.List)):
            yield _swap(source, *target.elts[:2])
            yield from _inside(source, value)
        else:
            for part in _on_line(value, line, node):
                yield from _value(source, part)


def _on_line(value, line, whole):
    """The parts of a value, which may span several lines, that the tagged line refers to."""
    if isinstance(value, ast.Lambda):
        return _on_line(value.body, line, whole)
    if value.lineno == value.end_lineno:
        return [value]
    if isinstance(value, (ast.Tuple, ast.List, ast.Set)):
        parts = value.elts
    elif isinstance(value, ast.Dict):
        parts = value.values
    elif isinstance(value, ast.Call) and line != whole.end_lineno:
        parts = [*value.args, *(k.value for k in value.keywords)]
    else:
        return [value]
    on = [p for p in parts if p.lineno <= line <= p.end_lineno and not isinstance(p, ast.Constant)]
    return [deep for part in on for deep in _on_line(part, line, whole)] or [value]


def _value(source, node):
    """Mutants of an expression whose value is the one the equation states."""
    if isinstance(node, ast.Lambda):
        yield from _value(source, node.body)
    elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        for part in node.elts:
            yield from _value(source, part)
    elif isinstance(node, ast.Dict):
        for part in node.values:
            yield from _value(source, part)
    elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
        yield from _value(source, node.elt)
    elif isinstance(node, ast.DictComp):
        yield from _value(source, node.value)
    elif isinstance(node, (ast.Compare, ast.BoolOp)) or _is_not(node):
        yield from _inside(source, node)
    elif isinstance(node, ast.Call) and _name(node) in CONTAINERS and node.args:
        yield from _value(source, node.args[0])
    elif _makes_object(node):
        yield from _object(source, node)
    elif not isinstance(node, (ast.Constant, ast.Starred, ast.JoinedStr)) or _number(node):
        text = source[node]
        yield f"1.5 × {_short(text)}", [source.replace(node, f"1.5 * ({text})")]
        yield f"− {_short(text)}", [source.replace(node, f"-({text})")]
        yield from _inside(source, node, top=True)


def _object(source, node):
    names = [f"argument {i + 1}" for i in range(len(node.args))]
    parts = [*zip(names, node.args, strict=True), *((k.arg, k.value) for k in node.keywords)]
    for i, (what, arg) in enumerate(parts):
        text = source[arg]
        if i < len(node.args) and (_makes_object(arg) or isinstance(arg, ast.Lambda)):
            following = node.args[i + 1:i + 2]
            start, end = source.span(arg)
            end = source.span(following[0])[0] if following else end
            yield f"without {what}", [(start, end, "")]
        elif _number(arg):
            yield f"{what} + 1", [source.replace(arg, f"({text} + 1)")]
        elif not isinstance(arg, (ast.Starred, ast.Constant)) and not _makes_object(arg):
            yield f"1.5 × {what} + 1", [source.replace(arg, f"1.5 * ({text}) + 1")]
    yield from _inside(source, node)


def _inside(source, node, top=False):
    """Mutants of the operators and calls within an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.BinOp):
            yield from _binary(source, part)
        elif isinstance(part, ast.Compare) and type(part.ops[0]) in REVERSED:
            old, new = REVERSED[type(part.ops[0])]
            yield f"{old} → {new}", [source.replace_op(part.left, part.comparators[0], old, new)]
        elif isinstance(part, ast.BoolOp):
            new = "or" if isinstance(part.op, ast.And) else "and"
            yield f"→ {new}", [source.replace_op(*part.values[:2], PATTERNS[type(part.op)], new)]
        elif _is_not(part):
            yield "without not", [source.replace(part, f"({source[part.operand]})")]
        elif isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
            leads = top and source.span(part)[0] == source.span(node)[0]  # the same as "− value"
            if not leads and not isinstance(part.operand, ast.Constant):
                yield "without −", [source.replace(part, f"({source[part.operand]})")]
        elif isinstance(part, ast.Call):
            yield from _call(source, part)


def _binary(source, node):
    left, right = node.left, node.right
    if isinstance(node.op, ast.Pow):
        yield "exponent + 1", [source.replace(right, f"({source[right]} + 1)")]
    elif isinstance(node.op, ast.MatMult):
        yield _swap(source, left, right)
    elif type(node.op) in FLIPPED and not _equivalent(source, node):
        new = FLIPPED[type(node.op)]
        edit = source.replace_op(left, right, PATTERNS[type(node.op)], new)
        old = source.bytes[edit[0]:edit[1]].decode()
        yield f"{old} → {new} before {_short(source[right])}", [edit]


def _equivalent(source, node):
    right = node.right
    one = isinstance(right, ast.BinOp) and isinstance(right.op, ast.Div) \
        and source[right.left] == source[right.right]
    additive = isinstance(node.op, (ast.Add, ast.Sub))
    return one and not additive or additive and NOISE.search(source[right])


def _call(source, node):
    name, args = _name(node), node.args
    if name in ("square", "sqrt") and len(args) == 1:
        yield f"without {name}", [source.replace(node, f"({source[args[0]]})")]
    movable = (ast.Name, ast.Attribute, ast.Call, ast.BinOp, ast.Subscript)
    if len(args) > 1 and name not in UNSWAPPED and all(isinstance(a, movable) for a in args[:2]):
        if source[args[0]] != source[args[1]]:
            yield _swap(source, *args[:2])


def _swap(source, a, b):
    return (f"{_short(source[a])} ↔ {_short(source[b])}",
            [source.replace(a, f"({source[b]})"), source.replace(b, f"({source[a]})")])


def _short(text):
    text = " ".join(text.split())
    return text if len(text) < 24 else text[:20] + "…"


def _name(call):
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _makes_object(node):
    """Whether a call makes an object, judged by the name's capital; E(...) is an expectation."""
    return isinstance(node, ast.Call) and _name(node)[:1].isupper() and len(_name(node)) > 1


def _number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _is_not(node):
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
