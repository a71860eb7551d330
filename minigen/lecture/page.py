"""The site: every equation beside the code that computes it, generated from the sources.

`build` writes a folder of static files: a page for each lecture in the order of its slides, one for
each file that computes or checks an equation, the derivations, the slide errors, and an index. The
templates in site/ determine how a page looks; this file determines its contents.
"""

import json
import runpy
import shutil
from pathlib import Path

import jinja2
from markupsafe import Markup
from numpy.random import default_rng

from minigen.lecture import checkout, equations, errata, families, lectures, scan
from minigen.lecture.addresses import (
    ADDED,
    DERIVED,
    ERRATA,
    INDEX,
    equation_address,
    file_page,
    lecture_page,
    places_of,
)
from minigen.lecture.mathml import render_mixed
from minigen.lecture.notation import model_taxonomy, symbols
from minigen.lecture.runs import runs_in
from minigen.lecture.sources import Sources
from minigen.lecture.tags import module_path
from minigen.models import MODELS

__all__ = ["build"]

SITE = Path(__file__).parent / "site"


def build(out, runs=None):
    """Write the site into the folder `out` and return the number of pages. Pictures and numbers
    come from the demos' runs in the folder `runs`.

    Raises FileNotFoundError without a checkout, NoRuns if `runs` holds none, OSError if `out`
    cannot be written."""
    site = Site(Path(out), runs_in(runs) if runs else [])
    site.out.mkdir(parents=True, exist_ok=True)
    site.lectures()
    site.added()
    site.errata(site.derivations())
    site.files()
    site.index()
    site.search()
    for name in ("style.css", "page.js"):
        shutil.copyfile(SITE / name, site.out / name)
    return site.written


class Site:
    """The pages and what they are made from: the tags, the sources, the demos' runs."""

    def __init__(self, out, runs):
        self.out, self.runs, self.found = out, runs, scan()
        self.sources, self.written = Sources(checkout()), 0
        self.entries = [  # what the search box searches
            (e.id, f"{' '.join(e.unicode.split())} {e.statement}", equation_address(e.id))
            for e in equations().values()]
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(SITE), autoescape=True, trim_blocks=True,
            lstrip_blocks=True, undefined=jinja2.StrictUndefined)
        self.pages = [(INDEX, "Index"),
                      *((lecture_page(i), lecture.title) for i, lecture in enumerate(lectures())),
                      (ADDED, "Added equations"), (DERIVED, "Derivations"),
                      (ERRATA, "Slide errors")]

    def write(self, here, template, title, symbols=(), **context):
        """Write one page; `symbols` are the rows of its notation table."""
        html = self.templates.get_template(template).render(
            here=here, title=title, pages=self.pages, symbols=symbols, **context)
        (self.out / here).write_text(html, encoding="utf-8")
        self.written += 1

    def card(self, e, here):
        """An equation with its code, its checks and the demos' pictures of it."""
        return {"e": e, "formula": Markup(render_mixed(e.parts)),
                "elsewhere": places_of(p for p in e.places if lecture_page(p.lecture) != here),
                "code": self.sources.functions(self.found.code[e.id]),
                "checks": [self.sources.check(tag) for tag in self.found.checks[e.id]],
                "shown": [self.picture(run, name) for demo, name in
                          (shown.split("/") for shown in e.shown) for run in self.runs
                          if run.system == demo and name in run.pictures]}

    def picture(self, run, name):
        """Copy a demo's picture to the site and return what the templates need of it."""
        source = run.pictures[name]
        address = Path("pictures", run.folder.name, source.name)
        (self.out / address).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.out / address)
        return {"address": address.as_posix(), "name": name, "demo": run.system,
                "data": run.data}

    def lectures(self):
        """Write a page for each lecture: its equations under the slides' headings."""
        for i, lecture in enumerate(lectures()):
            here, sections = lecture_page(i), []
            first = self.places_in(i)
            for id, place in sorted(first.items(), key=lambda item: item[1].line):
                if not sections or sections[-1][0] != place.heading:
                    sections.append((place.heading, []))
                sections[-1][1].append(self.card(equations()[id], here))
            self.write(here, "lecture.html", lecture.title, symbols(), sections=sections,
                       lead=f"{lecture.course}: {counts(first)}, in the order of the slides.")

    def places_in(self, lecture):
        """The first place in a lecture of each of its equations, by id."""
        return {e.id: next(p for p in e.places if p.lecture == lecture)
                for e in equations().values() if lecture in [p.lecture for p in e.places]}

    def added(self):
        """Write the page of the equations that are on no slide."""
        cards = [self.card(e, ADDED) for e in equations().values() if not e.places]
        self.write(ADDED, "lecture.html", "Added equations", symbols(), sections=[("", cards)],
                   lead="Equations on no slide that the code needs, each with its source paper.")

    def derivations(self):
        """Run the derivations and write their page; return those of slide errors, by number."""
        programs = []
        for path in sorted(self.sources.root.glob("demos/derivations/*.py")):
            program = runpy.run_path(str(path))
            title, _, *paragraphs = program["__doc__"].strip().split("\n\n")
            programs.append({"name": path.stem, "title": title, "paragraphs": paragraphs,
                             "parts": program["derive"](default_rng(0))})
            self.entries.append((path.stem, title, f"{DERIVED}#{path.stem}"))
        self.write(DERIVED, "derivations.html", "Derivations", programs=programs,
                   lead="The slides' derivations as programs: each line is computed beside the "
                        "value it should equal. Where a slide is wrong, the two differ.")
        return {step.error: program for program in programs
                for _, steps in program["parts"] for step in steps}

    def errata(self, derived):
        """Write the page of the slide errors, with the tests that show them."""
        rows = []
        for e in errata():
            tests = self.sources.functions(self.found.errata[e.number])
            rows.append({
                "e": e, "tests": tests, "derived": derived.get(e.number),
                "status": "shown by a test" if tests else "source",
                "places": places_of(e.places),
                "equations": [(id, equation_address(id)) for id in e.equations]})
            self.entries.append((f"slide error {e.number}", f"{e.printed} {e.correct}",
                                 f"{ERRATA}#error-{e.number}"))
        self.write(ERRATA, "errata.html", "Slide errors", rows=rows,
                   lead=f"{len(rows)} mistakes on the slides: what is printed, what is true, "
                        "and the test or the publication that shows it.")

    def files(self):
        """Write a page for each file of a model, and for each file that computes or checks an
        equation or shows a slide error."""
        tagged = {module_path(target.partition(":")[0]): {} for target in MODELS.values()}
        for tags in (self.found.code, self.found.checks):
            for id in equations():
                for tag in tags[id]:
                    tagged.setdefault(tag.path, {}).setdefault(tag, []).append(id)
        for tags in self.found.errata.values():
            for tag in tags:
                tagged.setdefault(tag.path, {}).setdefault(tag, [])
        for path, tags in tagged.items():
            self.file(path, tags)

    def file(self, path, tagged):
        """Write the page of one file, split before each function that has a tag, with the tagged
        equations beside it. `tagged` maps each tag to its ids."""
        cuts, segments = sorted({1, *(tag.first for tag in tagged)}), []
        for first, after in zip(cuts, [*cuts[1:], self.sources.length(path) + 1], strict=True):
            inside, by_id = [tag for tag in tagged if first <= tag.line < after], {}
            for tag in sorted(inside, key=lambda tag: tag.line):
                for id in tagged[tag]:
                    by_id.setdefault(id, []).append(tag.line)
            segments.append({
                "tagged": [{"id": id, "lines": lines, "address": equation_address(id),
                            "formula": Markup(render_mixed(equations()[id].parts))}
                           for id, lines in by_id.items()],
                "block": self.sources.part(path, first, after - 1, {tag.line for tag in inside})})
        demos, summary = self.sources.demos_of(path), self.sources.summary(path)
        runs = [run for run in self.runs if run.system in demos]
        self.write(file_page(path), "file.html", path, symbols(), segments=segments,
                   lead=summary, demos=demos, runs=runs,
                   shown=[self.picture(run, name) for run in runs for name in run.pictures])
        self.entries.append((path, summary, file_page(path)))

    def index(self):
        """Write the index: the map, the lectures, and the families of equations."""
        members = {family: [e for e in equations().values() if e.family == family]
                   for family in families()}
        rows = [{"title": title, "counts": counts([e.id for e in members[family]]),
                 "equations": [(e, equation_address(e.id)) for e in members[family]]}
                for family, title in families().items()]
        pages = [{"address": lecture_page(i), "title": lecture.title, "course": lecture.course,
                  "counts": counts(self.places_in(i))} for i, lecture in enumerate(lectures())]
        other_pages = [(ADDED, "Added equations", "on no slide, but needed"),
                       (DERIVED, "Derivations", "each line computed as a number"),
                       (ERRATA, "Slide errors", "and the tests that show them")]
        self.write(INDEX, "index.html", "Generative models beside their code", families=rows,
                   lectures=pages, other_pages=other_pages, map=model_taxonomy(),
                   summary=self.sources.summary, module_path=module_path, file_page=file_page)

    def search(self):
        """Write what the search box searches, as a script: a page opened from disk can load one."""
        keys = ("name", "text", "address")
        entries = [dict(zip(keys, row, strict=True)) for row in self.entries]
        text = json.dumps(entries, ensure_ascii=False, indent=0)
        (self.out / "search-index.js").write_text(f"const INDEX = {text};\n", encoding="utf-8")


def counts(ids):
    """The number of equations as text."""
    return f"{len(ids)} equation" + "s" * (len(ids) != 1)
