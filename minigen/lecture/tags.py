"""Finding the tags: which lines compute an equation, and which assertions verify it.

A tag is the comment ``eq: id`` at the end of a line, with at most three ids separated by commas. In
minigen/ and kernels/ the tagged line computes the equation, in tests/ it belongs to an assertion.
An assertion that shows a slide error is also tagged ``slide error: number``.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

TAG = re.compile(r"(?:#|//)\s*(eq|slide error):([^#]*)")
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ASSERTING = re.compile(r"assert|check|close|equal|same|raises")
CODE, TESTS = ("minigen", "kernels"), ("tests",)


def module_path(module):
    """The file of a module, as a TaggedLine has it."""
    return f"{module.replace('.', '/')}.py"


@dataclass(frozen=True)
class TaggedLine:
    """A tagged line, and the function or statement that contains it (lines first to last)."""

    path: str
    line: int
    name: str
    first: int
    last: int

    def __str__(self):
        return f"{self.path}:{self.line}"


@dataclass
class Scan:
    """All tags of a checkout: tagged lines by id (code, checks) or number (errata), and problems
    found."""

    code: dict = field(default_factory=lambda: defaultdict(list))
    checks: dict = field(default_factory=lambda: defaultdict(list))
    errata: dict = field(default_factory=lambda: defaultdict(list))
    problems: list = field(default_factory=list)


def checkout():
    """The root of the checkout that this package runs from. Raises FileNotFoundError if the package
    is installed without one: tags are read from the sources and tests."""
    root = Path(__file__).resolve().parents[2]
    if not all((root / part).exists() for part in ("kernels/conv2d.py", "tests", "pyproject.toml")):
        raise FileNotFoundError(f"the tags are read from a checkout of minigen's repository, and "
                                f"{root} is not one: clone it and run this there")
    return root


def scan(root=None):
    """Read all tags in a checkout's minigen/, kernels/ and tests/."""
    root, found = Path(root or checkout()), Scan()
    for folders, by_id in ((CODE, found.code), (TESTS, found.checks)):
        for path in sorted(p for f in folders for p in (root / f).rglob("*")
                           if p.suffix in (".py", ".cu", ".h")):
            text = path.read_text(encoding="utf-8")
            if TAG.search(text):
                _read(path.relative_to(root).as_posix(), text, by_id, found)
    return found


def _read(path, text, by_id, found):
    tree = ast.parse(text) if path.endswith(".py") else None
    for line, comment in _comments(path, text):
        for kind, body in TAG.findall(comment):
            names = [name.strip() for name in body.split(",")]
            tag = _tagged_line(path, text, tree, line)
            complaint = _complaint(kind, names, tag, text, tree, by_id is found.checks)
            if complaint:
                found.problems.append(f"{path}:{line}: {complaint}")
            elif kind == "eq":
                for name in names:
                    by_id[name].append(tag)
            else:
                for name in names:
                    found.errata[int(name)].append(tag)


def _comments(path, text):
    if path.endswith(".py"):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if "//" in line:
                yield number, line[line.index("//"):]


def _complaint(kind, names, tag, text, tree, testing):
    source = text.splitlines()[tag.line - 1]
    pattern = ID if kind == "eq" else re.compile(r"\d+")
    if not all(pattern.fullmatch(name) for name in names):
        return f"cannot read the tag `{kind}: {', '.join(names)}`: write ids separated by commas"
    if len(names) > 3:
        return f"{len(names)} ids on one line; at most three, the others belong on other lines"
    if source.lstrip().startswith(("#", "//")):
        return "the tag stands on a line without code; it belongs at the end of a line of code"
    if kind == "slide error" and not testing:
        return "`slide error` marks an assertion in tests/; in code there is only `eq`"
    if testing and not tag.name.rpartition("::")[2].startswith("test"):
        return "the tag is outside a test function; it belongs on an assertion inside one"
    if testing and not _asserts(statement(tree, tag.line)):
        return "the tagged line is no assertion; the tag belongs on the one that verifies"
    return None


def _asserts(node):
    if isinstance(node, ast.With):
        return any(_asserts(ast.Expr(item.context_expr)) for item in node.items)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return bool(ASSERTING.search(ast.unparse(node.value.func)))
    return isinstance(node, ast.Assert)


def blocks(tags):
    """Tags grouped by function: ``(path, name, first, last, tagged lines)``."""
    groups = {}
    for tag in tags:
        key = (tag.path, tag.name, tag.first, tag.last)
        groups.setdefault(key, []).append(tag.line)
    return [(*key, lines) for key, lines in groups.items()]


def statements(node, line):
    """The statements inside a node that contain a line, outermost first."""
    for child in ast.iter_child_nodes(node):
        if getattr(child, "lineno", line) <= line <= getattr(child, "end_lineno", line):
            if isinstance(child, ast.stmt):
                yield child
            yield from statements(child, line)


def statement(tree, line):
    """The innermost statement that contains a line, None if there is none."""
    return [None, *statements(tree, line)][-1]


def _tagged_line(path, text, tree, line):
    if tree is None:
        return TaggedLine(path, line, "", *_block(text.splitlines(), line))
    enclosing = [node for node in statements(tree, line)
                 if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    functions = [n for n in enclosing if isinstance(n, ast.FunctionDef)]
    if path.startswith(TESTS):  # pytest can address only the outermost function
        enclosing = enclosing[:enclosing.index(functions[0]) + 1] if functions else enclosing
        functions = functions[:1]
    node = functions[-1] if functions else statement(tree, line) or tree.body[0]
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return TaggedLine(path, line, "::".join(n.name for n in enclosing), first, node.end_lineno)


def _block(lines, line):
    """The block around a line, up to blank lines: the best guess in files other than Python."""
    first = last = line
    while first > 1 and lines[first - 2].strip():
        first -= 1
    while last < len(lines) and lines[last].strip():
        last += 1
    return first, last
