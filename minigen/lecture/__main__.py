"""python -m minigen.lecture list | show ID | prove [ID ...] | page --out DIR: the equations beside
the code that computes them."""

import argparse
import difflib
import importlib.util
import itertools
import sys
import textwrap

from minigen.lecture import (
    checkout,
    equations,
    families,
    lectures,
    scan,
)
from minigen.lecture.prove import prove
from minigen.lecture.tags import blocks

STATUS = {"printed": "on a slide exactly as given here",
          "repaired": "on a slide, but incomplete, garbled or wrong; given here as it should read",
          "words": "on the slides only in words or in a picture; the formula is from the paper",
          "added": "on no slide, but the code needs it"}


def main(argv=None):
    """Run the command line and return the exit code."""
    args = parser().parse_args(argv)
    sys.stdout.reconfigure(errors="replace")  # for terminals that have no Σ
    try:
        return args.run(args)
    except FileNotFoundError as error:
        return complain(error)
    except BrokenPipeError:  # as in `list | head`
        sys.stderr.close()
        return 0


def parser():
    """The parser of the commands and their options."""
    top = argparse.ArgumentParser(prog="python -m minigen.lecture", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="list | show | prove | page")
    command = commands.add_parser("list", help="every equation with its lines of code and checks")
    command.add_argument("words", metavar="WORD", nargs="*", help="only equations with all these "
                         "words in their name, formula, statement, source or slide's heading")
    command.add_argument("--family", metavar="F", help="only one family: " + ", ".join(families()))
    command.add_argument("--lecture", metavar="L", help="only one lecture, slide by slide: its "
                                                        "number, from 0, or part of its title")
    command.add_argument("--missing", action="store_true", help="only those without a line of code "
                                                                "or a check")
    command.set_defaults(run=list_)
    command = commands.add_parser("show", help="one equation, its code and its checks")
    command.add_argument("id", metavar="ID")
    command.set_defaults(run=show)
    command = commands.add_parser("prove", help="alter the lines that compute an equation: its "
                                                "tagged tests must fail")
    command.add_argument("ids", metavar="ID", nargs="*", help="default: all with code and checks")
    command.add_argument("--workers", type=int, default=2, help="mutants tested in parallel")
    command.set_defaults(run=prove_)
    command = commands.add_parser("page", help="write a site: every equation beside its code")
    command.add_argument("--out", metavar="DIR", required=True, help="the folder to write into")
    command.add_argument("--runs", metavar="DIR", help="the folder of the demos' runs, whose "
                                                       "pictures and numbers are shown")
    command.set_defaults(run=page)
    return top


def complain(text):
    """Print one line for the user and return the exit code for a user's mistake."""
    print(f"minigen.lecture: {text}", file=sys.stderr)
    return 2


def nearest(name, names, what):
    """The message for an unknown name, with the nearest known ones."""
    close = difflib.get_close_matches(name, names, 3, 0.5)
    close = close or [other for other in names if name in other][:3]
    hint = f"did you mean {' or '.join(close)}?" if close else "`list` prints them all"
    return f"there is no {what} `{name}`; {hint}"


def lecture_number(text):
    """The number of the lecture that the user typed; None if none or several match."""
    if text.isdecimal():
        return int(text) if int(text) < len(lectures()) else None
    titles = [lecture.title.lower() for lecture in lectures()]
    found = [i for i, title in enumerate(titles) if text.lower() == title] \
        or [i for i, title in enumerate(titles) if text.lower() in title]
    return found[0] if len(found) == 1 else None


def list_(args):
    """Print the index of equations, family by family, or one lecture's, slide by slide."""
    if args.family is not None and args.family not in families():
        return complain(nearest(args.family, list(families()), "family"))
    number = None if args.lecture is None else lecture_number(args.lecture)
    if args.lecture is not None and number is None:
        titles = "; ".join(f"{i} “{lecture.title}”" for i, lecture in enumerate(lectures()))
        return complain(f"there is no single lecture `{args.lecture}`; there are {titles}")
    found = scan()
    chosen = [e for e in equations().values() if args.family in (None, e.family)
              and all(word.lower() in searched(e) for word in args.words)
              and not (args.missing and found.code[e.id] and found.checks[e.id])]
    if args.words and not chosen:
        return complain(f"no equation has “{' '.join(args.words)}” in its name, formula, "
                        "statement, source or slide's heading; `list` alone prints them all")
    for title, group in by_family(chosen) if number is None else by_slide(chosen, number):
        print(f"\n{title}")
        for e in group:
            print(f"  {e.id:<28} {e.status:<9} {e.unicode.splitlines()[0]}")
            print(f"  {'':<28} code      {where(found.code[e.id])}")
            print(f"  {'':<28} check     {where(found.checks[e.id])}")
    print("\n" + "\n".join(f"{status:<9} {meaning}" for status, meaning in STATUS.items()))
    print("\n" + counts(found))
    for problem in found.problems:
        print(problem)
    return 0


def searched(e):
    """The text of an equation in which `list` looks for words."""
    headings = [place.heading for place in e.places]
    return " ".join([e.id, e.unicode, e.statement, e.paper, *headings]).lower()


def by_family(chosen):
    """Pairs of a family's title and its equations."""
    groups = [(f"{title} ({family})", [e for e in chosen if e.family == family])
              for family, title in families().items()]
    return [(title, group) for title, group in groups if group]


def by_slide(chosen, lecture):
    """Pairs of a slide's heading and the equations on it, in the lecture's order."""
    shown = sorted(((place.line, place.heading, e) for e in chosen for place in e.places
                    if place.lecture == lecture), key=lambda row: row[0])
    return [(heading, [e for *_, e in group])
            for heading, group in itertools.groupby(shown, lambda row: row[1])]


def where(tags):
    """The file and line of each tag, as one string."""
    return "  ".join(str(tag) for tag in tags) or "none"


def counts(found):
    """One line: how many equations there are, and how many are computed and checked."""
    slides = sum(e.status != "added" for e in equations().values())
    done = [id for id in equations() if found.code[id] and found.checks[id]]
    return (f"{slides} equations on the slides, {len(equations()) - slides} added: {len(done)} of "
            f"{len(equations())} are computed and checked.")


def show(args):
    """Print one equation, its source, its code and its checks."""
    known = equations()
    if args.id not in known:
        return complain(nearest(args.id, list(known), "equation"))
    e, found, root = known[args.id], scan(), checkout()
    print(f"{e.id}: {families()[e.family]}, {STATUS[e.status]}\n")
    print(textwrap.indent(e.unicode, "    ") + "\n")
    print(textwrap.fill(e.statement, 96))
    for place in e.places:
        print(f"  in {place}")
    if e.paper:
        print(f"  from {e.paper}")
    for error in e.errata:
        print(f"\nSlide error {error.number}")
        for place in dict.fromkeys(map(str, error.places)):
            print(f"  in {place}")
        print(textwrap.fill(f"printed: {error.printed}", 96, initial_indent="  ",
                            subsequent_indent="    "))
        print(textwrap.fill(f"true: {error.correct}", 96, initial_indent="  ",
                            subsequent_indent="    "))
        print(f"  {evidence(error, found)}")
    for title, tags in (("Code", found.code[e.id]), ("Checks", found.checks[e.id])):
        print(f"\n{title}" if tags else f"\n{title}: none")
        for block in blocks(tags):
            print(excerpt(root, *block))
    return 0


def evidence(error, found):
    """The tests or the publication that show a slide error."""
    if found.errata[error.number]:
        return f"shown by {where(found.errata[error.number])}"
    return f"source: {error.source}"


def excerpt(root, path, name, first, last, lines):
    """The numbered lines of a function, with the tagged ones marked."""
    source = (root / path).read_text(encoding="utf-8").splitlines()
    head = f"  {path}:{first}" + (f"  {name.replace('::', '.')}" if name else "")
    body = [f"  {'▶' if n in lines else ' '} {n:>4}  {source[n - 1]}".rstrip()
            for n in range(first, last + 1)]
    return "\n".join(["", head, *body])


def prove_(args):
    """Alter each tagged line in turn; the exit code is 1 if a change goes unnoticed."""
    if not importlib.util.find_spec("pytest"):
        return complain("prove needs pytest: pip install '.[test]'")
    found = scan()
    for id in args.ids:
        if id not in equations():
            return complain(nearest(id, list(equations()), "equation"))
    ids = args.ids or [id for id in equations() if found.code[id] and found.checks[id]]
    survived = prove(ids, workers=max(1, args.workers))
    print(f"{len(ids)} equation{'s' * (len(ids) > 1)}: " + (
        "every check can fail" if not survived else f"{len(survived)} complaints"))
    return 1 if survived else 0


def page(args):
    """Write the site."""
    try:
        from minigen.lecture.page import build
    except ModuleNotFoundError as error:
        return complain(f"the page needs {error.name}: pip install '.[lecture]'")
    from minigen.lecture.runs import NoRuns
    checkout()  # raises if there is none
    try:
        pages = build(args.out, args.runs)
    except NoRuns as error:
        return complain(error)
    except OSError as error:
        return complain(f"--out {args.out} cannot be written ({error.strerror})")
    print(f"{pages} pages; open {args.out}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
