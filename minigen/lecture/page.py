"""The site: every equation beside the code that computes it, written from the sources.

`build` makes a folder of plain files: a page for each lecture in the order of its slides, one for
each file that computes or checks an equation, the slide errors, an index. The templates in site/
say how a page looks; this file says what stands on it.
"""

import ast
import functools
import json
import re
import shutil
from pathlib import Path

import jinja2
from markupsafe import Markup

from minigen.lecture import (
    checkout,
    equations,
    errata,
    families,
    lectures,
    not_yet,
    scan,
)
from minigen.lecture.highlight import highlighted
from minigen.lecture.mathml import mixed
from minigen.lecture.notation import map_of_models, symbols
from minigen.lecture.runs import runs_in
from minigen.lecture.tags import blocks, statement
from minigen.models import MODELS

__all__ = ["build"]

LONG = 30  # lines of a function that are shown whole
AROUND = 6  # lines shown around a tag in a longer one
INDENT = re.compile(" *")
ADDED = "added.html"
LEAD = """\
For each equation of the slides: the formula, the lines of code that compute it, the assertions that
check it by another route, and, where a slide is wrong, what is wrong and the test that shows it."""


def build(out, runs=None):
    """Write the site into the folder `out` and give the number of its pages. Pictures and numbers
    are those of the demos' runs in the folder `runs`.

    Raises FileNotFoundError without a checkout, NoRuns if `runs` holds none, OSError if `out`
    cannot be written."""
    site = Site(Path(out), runs_in(runs) if runs else [])
    site.out.mkdir(parents=True, exist_ok=True)
    site.lectures()
    site.added()
    site.errata()
    site.files()
    site.index()
    site.search()
    for name in ("style.css", "page.js"):
        shutil.copyfile(Path(__file__).parent / "site" / name, site.out / name)
    return len(list(site.out.glob("*.html")))


def slug(title):
    """A title as a part of an address."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def lecture_page(number):
    """The address of a lecture."""
    return f"{slug(lectures()[number].title)}.html"


def file_page(path):
    """The address of a source file."""
    return f"{path.replace('/', '.')}.html"


def equation_address(id):
    """The address of an equation by its id, None if there is none."""
    e = equations().get(id)
    return e and f"{lecture_page(e.places[0].lecture) if e.places else ADDED}#{id}"


def places_of(places):
    """Places on the slides, for a template: each heading once."""
    headings = dict.fromkeys((place.lecture, place.heading) for place in places)
    return [{"address": lecture_page(lecture), "title": lectures()[lecture].title,
             "heading": heading} for lecture, heading in headings]


class Site:
    """What the pages are made of: the tags, the sources, the demos' runs."""

    def __init__(self, out, runs):
        self.out, self.runs, self.root, self.found = out, runs, checkout(), scan()
        self.index_entries = []
        loader = jinja2.FileSystemLoader(Path(__file__).parent / "site")
        self.templates = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True,
                                            lstrip_blocks=True, undefined=jinja2.StrictUndefined)
        self.pages = [("index.html", "Index"),
                      *((lecture_page(i), there.title) for i, there in enumerate(lectures())),
                      (ADDED, "Added equations"), ("errata.html", "Slide errors")]

    def write(self, here, template, title, **what):
        """Write one page."""
        html = self.templates.get_template(template).render(
            here=here, title=title, pages=self.pages, **what)
        (self.out / here).write_text(html, encoding="utf-8")

    # ---------------------------------------------------------------------- parts of a page

    def block(self, path, name, first, last, lines):
        """Lines of a source file, the tagged ones marked; a long function with gaps."""
        shown = range(first, last + 1)
        if len(shown) > LONG:
            shown = sorted({n for hit in (first, *lines) for n in shown if abs(n - hit) <= AROUND})
        source = highlighted(self.root / path, equation_address)
        margin = INDENT.match(source[first - 1])[0]
        rows, before = [], first - 1
        for n in shown:
            if n != before + 1:
                rows.append((None, None, False))
            rows.append((n, Markup(source[n - 1].replace(margin, "", 1)), n in lines))
            before = n
        return {"path": path, "name": name.replace("::", "."), "first": first, "last": last,
                "lines": lines, "rows": rows, "address": f"{file_page(path)}#L{lines[0]}"}

    def check(self, spot):
        """The statement of a check."""
        node = statement(self.tree(spot.path), spot.line)
        return self.block(spot.path, spot.name, node.lineno, node.end_lineno, [spot.line])

    @functools.cache  # noqa: B019, for the life of one build
    def tree(self, path):
        return ast.parse((self.root / path).read_text(encoding="utf-8"))

    def card(self, e, here):
        """An equation with its code, its checks and what demos show of it."""
        return {"e": e, "formula": Markup(mixed(e.parts)),
                "status": e.status if e.built else "not yet",
                "elsewhere": places_of(p for p in e.places if lecture_page(p.lecture) != here),
                "code": [self.block(*block) for block in blocks(self.found.code[e.id])],
                "checks": [self.check(spot) for spot in self.found.checks[e.id]],
                "shown": self.shown(e)}

    def shown(self, e):
        """The pictures that runs of demos have of an equation."""
        return [self.picture(run, name) for show in e.shown for system, name in [show.split("/")]
                for run in self.runs if run.system == system and name in run.pictures]

    def picture(self, run, name):
        """A demo's picture, copied to the site."""
        source = run.pictures[name]
        address = f"pictures/{run.folder.name}/{source.name}"
        (self.out / address).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.out / address)
        return {"address": address, "alt": f"{name} of demos/{run.system}.py on {run.data}",
                "caption": f"demos/{run.system}.py --data {run.data}: {name}"}

    # ---------------------------------------------------------------------- the pages

    def lectures(self):
        """A page for each lecture: its equations under the slides' headings."""
        for i, there in enumerate(lectures()):
            here, sections = lecture_page(i), []
            first = {e.id: next(p for p in e.places if p.lecture == i)
                     for e in equations().values() if i in [p.lecture for p in e.places]}
            for id, place in sorted(first.items(), key=lambda item: item[1].line):
                if not sections or sections[-1][0] != place.heading:
                    sections.append((place.heading, []))
                sections[-1][1].append(self.card(equations()[id], here))
            self.write(here, "lecture.html", there.title, sections=sections, symbols=symbols(),
                       lead=f"{there.course}: {self.counts(first)}, in the order of the slides.")

    def counts(self, ids):
        """How many equations these are, and how many of them are not built."""
        later = len(not_yet().keys() & set(ids))
        return f"{len(ids)} equations" + f", {later} of them not yet" * bool(later)

    def added(self):
        """The equations that stand on no slide."""
        cards = [self.card(e, ADDED) for e in equations().values() if not e.places]
        self.write(ADDED, "lecture.html", "Added equations", sections=[("", cards)],
                   symbols=symbols(), lead="On no slide, but the code needs them: each with the "
                                           "paper that it is from.")

    def errata(self):
        """The slides' mistakes, with the tests that show them."""
        rows = []
        for e in errata():
            tests = [self.block(*block) for block in blocks(self.found.errata[e.number])]
            rows.append({
                "e": e, "tests": tests, "places": places_of(e.places),
                "status": "shown by a test" if tests else "source" if e.source else "not yet",
                "equations": [(id, equation_address(id)) for id in e.equations]})
            self.index_entries.append((f"slide error {e.number}", f"{e.prints} {e.true}",
                                       f"errata.html#error-{e.number}"))
        self.write("errata.html", "errata.html", "Slide errors", rows=rows, symbols=[],
                   lead=f"{len(rows)} mistakes on the slides: what is printed, what is true, and "
                        "the test that shows it or the publication that says it.")

    def files(self):
        """A page for each file of a model, and for each that computes or checks an equation."""
        modules = [target.partition(":")[0] for target in MODELS.values()]
        tagged = {}
        for spots in (self.found.code, self.found.checks):
            for id, places in spots.items():
                for spot in places:
                    tagged.setdefault(spot.path, {}).setdefault(spot, []).append(id)
        for path in {*tagged, *(f"{module.replace('.', '/')}.py" for module in modules)}:
            self.file(path, tagged.get(path, {}))

    def file(self, path, tagged):
        """One file, cut before each function that has a tag; beside it the tagged equations."""
        lines = (self.root / path).read_text(encoding="utf-8").count("\n")
        cuts = sorted({1, *(spot.first for spot in tagged)})
        segments = []
        for first, after in zip(cuts, [*cuts[1:], lines + 1], strict=True):
            inside = {spot: ids for spot, ids in tagged.items() if first <= spot.line < after}
            by_id = {}
            for spot in sorted(inside, key=lambda spot: spot.line):
                for id in inside[spot]:
                    by_id.setdefault(id, []).append(spot.line)
            segments.append({
                "tagged": [{"id": id, "lines": hits, "address": equation_address(id),
                            "formula": Markup(mixed(equations()[id].parts))}
                           for id, hits in by_id.items() if id in equations()],
                "block": self.whole(path, first, after - 1, {s.line for s in inside})})
        demos = self.demos_of(path)
        runs = [run for run in self.runs if run.system in demos]
        self.write(file_page(path), "file.html", path, segments=segments, symbols=symbols(),
                   demos=demos, lead=self.first_line(path),
                   shown=[self.picture(run, name) for run in runs for name in run.pictures],
                   numbers=[(f"demos/{run.system}.py --data {run.data}",
                             [(k, f"{v:,.4g}") for k, v in run.numbers.items()]) for run in runs])
        self.index_entries.append((path, self.first_line(path), file_page(path)))

    def whole(self, path, first, last, hits):
        source = highlighted(self.root / path, equation_address)
        while last > first and not source[last - 1]:
            last -= 1
        return {"path": path, "first": first, "last": last,
                "rows": [(n, Markup(source[n - 1]), n in hits) for n in range(first, last + 1)]}

    def first_line(self, path):
        """The first paragraph of a file's docstring."""
        doc = ast.get_docstring(self.tree(path)) if path.endswith(".py") else ""
        return " ".join((doc or "").partition("\n\n")[0].split())

    def demos_of(self, path):
        """The demos that import a model's file."""
        module = path.removesuffix(".py").replace("/", ".")
        return [demo.stem for demo in sorted(self.root.glob("demos/*.py"))
                if module in self.imports(f"demos/{demo.name}")]

    @functools.cache  # noqa: B019
    def imports(self, path):
        return {name for node in ast.walk(self.tree(path)) if isinstance(node, ast.ImportFrom)
                for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names))}

    def index(self):
        """The map of the lecture, the lectures, and how far the families are built."""
        rows = [{"title": title, **{name: [
            {"id": e.id, "address": equation_address(e.id)} for e in equations().values()
            if e.family == family and e.built is built]
            for name, built in (("done", True), ("later", False))}}
                for family, title in families().items()]
        pages = [{"address": lecture_page(i), "title": there.title, "course": there.course,
                  "counts": self.counts([e.id for e in equations().values()
                                         if i in [p.lecture for p in e.places]])}
                 for i, there in enumerate(lectures())]
        self.write("index.html", "index.html", "Generative models beside their code", lead=LEAD,
                   symbols=[], map=map_of_models(), lectures=pages, families=rows,
                   address_of=lambda module: file_page(module.__name__.replace(".", "/") + ".py"),
                   first_line=lambda module: " ".join(
                       (module.__doc__ or "").partition("\n\n")[0].split()))

    def search(self):
        """What the search box looks through, as a script: a page opened as a file may load it."""
        entries = [(e.id, f"{' '.join(e.unicode.split())} {e.says}", equation_address(e.id))
                   for e in equations().values()] + self.index_entries
        entries = [dict(zip(("name", "text", "address"), row, strict=True)) for row in entries]
        text = json.dumps(entries, ensure_ascii=False, indent=0)
        (self.out / "search-index.js").write_text(f"const INDEX = {text};\n", encoding="utf-8")
