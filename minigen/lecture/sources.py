"""Source files as the site shows them: functions, single statements, whole files."""

import ast
import functools
import re

from markupsafe import Markup

from minigen.lecture.addresses import equation_address, file_page
from minigen.lecture.highlight import highlighted
from minigen.lecture.tags import blocks, statement

__all__ = ["Sources"]

LONGEST = 30  # lines: a longer function is shown with gaps
CONTEXT = 6  # lines shown around each tag in a longer function
INDENT = re.compile(" *")


class Sources:
    """The files of a checkout. A listing is a dict for the templates; its `rows` are (line number,
    HTML, whether the line is tagged), with number None where lines are left out."""

    def __init__(self, root):
        self.root = root
        self.tree = functools.cache(self._tree)
        self.imports = functools.cache(self._imports)

    def _tree(self, path):
        return ast.parse((self.root / path).read_text(encoding="utf-8"))

    def functions(self, tags):
        """The functions that contain tagged lines, long ones with gaps."""
        return [self.listing(path, name, first, last, lines)
                for path, name, first, last, lines in blocks(tags)]

    def check(self, tag):
        """The statement in a test that carries the tag."""
        node = statement(self.tree(tag.path), tag.line)
        return self.listing(tag.path, tag.name, node.lineno, node.end_lineno, [tag.line])

    def listing(self, path, name, first, last, hits):
        """Lines of a file without the first line's indentation."""
        shown = range(first, last + 1)
        if len(shown) > LONGEST:
            shown = [n for n in shown if any(abs(n - hit) <= CONTEXT for hit in (first, *hits))]
        source = highlighted(self.root / path, equation_address)
        margin, rows, before = INDENT.match(source[first - 1])[0], [], first - 1
        for n in shown:
            if n != before + 1:
                rows.append((None, "", False))
            rows.append((n, Markup(source[n - 1].replace(margin, "", 1)), n in hits))
            before = n
        return {"path": path, "name": name.replace("::", "."), "first": first, "last": last,
                "line": hits[0], "rows": rows, "address": f"{file_page(path)}#L{hits[0]}"}

    def part(self, path, first, last, hits):
        """Lines of a file unchanged, without blank ones at the end."""
        source = highlighted(self.root / path, equation_address)
        while last > first and not source[last - 1]:
            last -= 1
        return {"path": path, "first": first, "last": last,
                "rows": [(n, Markup(source[n - 1]), n in hits) for n in range(first, last + 1)]}

    def length(self, path):
        """The number of lines of a file."""
        return len(highlighted(self.root / path, equation_address))

    def summary(self, path):
        """The first paragraph of a file's docstring."""
        doc = ast.get_docstring(self.tree(path)) if path.endswith(".py") else ""
        return " ".join((doc or "").partition("\n\n")[0].split())

    def demos_of(self, path):
        """The demos that import a file."""
        module = path.removesuffix(".py").replace("/", ".")
        return [demo.stem for demo in sorted(self.root.glob("demos/*.py"))
                if module in self.imports(f"demos/{demo.name}")]

    def _imports(self, path):
        return {name for node in ast.walk(self.tree(path)) if isinstance(node, ast.ImportFrom)
                for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}
