"""The repository keeps its promises: every equation is computed and checked, files stay short,
public names are documented, the README's code runs, and nothing depends on what a reader does not
have. Each failure names the file, the line or the id, and says what to do."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigen.lecture import equations, errata, families, scan
from minigen.lecture.tags import module_path
from minigen.models import MODELS

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
SHORT = dict.fromkeys(("minigen/tensor.py", "minigen/operation.py", "minigen/autodiff.py"), 250)
TABLES = re.compile(r"tests/\w*table\w*\.py")  # tables of test cases, of any length
HEAVY = ("matplotlib", "scipy.special", "torch", "pooch")


def tracked():
    """The files of the repository; without git, those of the checkout's folders."""
    try:
        done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                              capture_output=True, check=True)
        files = [ROOT / line for line in done.stdout.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        files = [p for part in ("minigen", "kernels", "tests", "demos") for p in
                 (ROOT / part).rglob("*") if "__pycache__" not in p.parts] + [*ROOT.glob("*.*")]
    return sorted(path for path in files if path.is_file())


def name(path):
    return path.relative_to(ROOT).as_posix()


FILES = tracked()
PYTHON = [p for p in FILES if p.suffix == ".py"]
SOURCE = [p for p in PYTHON if p.parts[len(ROOT.parts)] in ("minigen", "kernels", "demos")]
TREES = {name(p): ast.parse(p.read_text(encoding="utf-8")) for p in PYTHON}
TAGS = scan(ROOT)


def none(problems, what):
    """Fail with one line for each problem."""
    if problems:
        pytest.fail(f"{what}\n" + "\n".join(f"  {p}" for p in problems), pytrace=False)


def imported(node):
    """The top-level packages that an import statement loads."""
    if isinstance(node, ast.ImportFrom):
        return [] if node.level else [node.module.split(".")[0]]
    return [a.name.split(".")[0] for a in node.names] if isinstance(node, ast.Import) else []


# The equations ----------------------------------------------------------------------------------


def test_every_equation_is_computed_and_checked():
    problems = [f"{id}: no line of code ends in its tag `eq: {id}`" for id in equations()
                if not TAGS.code[id]]
    problems += [f"{id}: no assertion in tests/ ends in its tag `eq: {id}` (computed at "
                 f"{', '.join(map(str, TAGS.code[id])) or 'no line'})" for id in equations()
                 if not TAGS.checks[id]]
    none(problems, "an equation needs a line that computes it and an assertion that verifies it by "
                   "another route; tag them:")


def test_no_tag_is_unknown_or_malformed():
    tags = [(id, tag) for by_id in (TAGS.code, TAGS.checks) for id in by_id for tag in by_id[id]]
    problems = [f"{tag}: there is no equation `{id}`" for id, tag in tags
                if id not in equations()]
    known = {e.number for e in errata()}
    problems += [f"{tag}: there is no slide error {n}" for n, tags in TAGS.errata.items()
                 for tag in tags if n not in known]
    none(TAGS.problems + problems, "correct these tags, or add entries to equations.toml:")


def test_every_slide_error_is_shown():
    none([f"slide error {e.number} ({', '.join(e.equations)}): the slide says: {e.printed}"
          for e in errata() if not TAGS.errata[e.number] and not e.source],
         "end the assertion that shows it in the comment `slide error: N`, or, if it is about a "
         "publication, give its `source`:")


def test_the_catalogue_is_whole():
    own = [id for id, e in equations().items() if e.status == "added"]
    slides = [id for id in equations() if id not in own]
    problems = [f"{len(slides)} equations of the slides, not 266"] * (len(slides) != 266)
    problems += [f"{len(errata())} slide errors, not 25"] * (len(errata()) != 25)
    problems += [f"{id}: there are no {shown}" for id, e in equations().items() for shown in e.shown
                 if not drawn(shown)]
    problems += [f"{id}: unknown family {e.family}" for id, e in equations().items()
                if e.family not in families()]
    problems += [f"{id}: unknown status {e.status}" for id, e in equations().items()
                 if e.status not in ("printed", "repaired", "words", "added")]
    problems += [f"{id}: status {e.status} needs {'a' if not e.paper else 'no'} paper"
                 for id, e in equations().items()
                 if (e.status in ("words", "added")) != bool(e.paper)]
    problems += [f"{id}: status {e.status} and {len(e.places)} places on the slides"
                 for id, e in equations().items() if (e.status == "added") == bool(e.places)]
    order = [(p.lecture, p.line, id) for id, e in equations().items() for p in e.places[:1]]
    problems += [f"{b[2]}: the entries stand in the order of lecture, then line, and this one "
                 f"belongs before {a[2]}" for a, b in zip(order, order[1:], strict=False)
                 if b[:2] < a[:2]]
    problems += [f"slide error {e.number}: there is no equation `{id}`" for e in errata()
                 for id in e.equations if id not in equations()]
    none(problems, "correct equations.toml:")


def drawn(shown):
    """Whether a demo, or a module that it imports, draws a picture that equations.toml gives for an
    equation: demo/picture."""
    demo, _, picture = shown.partition("/")
    tree = TREES.get(f"demos/{demo}.py", ast.Module([], []))
    modules = [m for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
               for m in (node.module, *(f"{node.module}.{a.name}" for a in node.names))]
    trees = [tree, *(TREES.get(f"{m.replace('.', '/')}.py", tree) for m in modules)]
    return any(isinstance(node, ast.Constant) and node.value in (picture, f"{picture}.png")
               for tree in trees for node in ast.walk(tree))


# The files --------------------------------------------------------------------------------------


def budget(path):
    if path.suffix not in (".py", ".cu") or TABLES.fullmatch(name(path)):
        return None
    return SHORT.get(name(path), 200 if name(path).startswith("minigen/models/") else 300)


def test_files_are_short():
    lengths = [(p, len(p.read_text(encoding="utf-8").splitlines())) for p in FILES if budget(p)]
    none([f"{name(p)} has {n} lines, at most {budget(p)}" for p, n in lengths if n > budget(p)],
         "split these files, or raise a budget in a commit of its own, with the reason:")


def test_lines_are_short():
    problems = []
    for path in FILES:
        if path.suffix in (".py", ".cu", ".h", ".toml", ".md", ".yml"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                free = path.suffix == ".md" and (line.startswith("|") or "](" in line)
                if len(line) > WIDTH and not free and "https://" not in line:
                    problems.append(f"{name(path)}:{number} has {len(line)} columns")
    none(problems, f"break these lines, at most {WIDTH} columns:")


def test_nothing_points_outside_the_repository():
    private = ("/wo" + "rk/", "../sha" + "red")
    problems = []
    for path in FILES:
        data = path.read_bytes()
        if b"\0" not in data and name(path) != ".ci/run":
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
                problems += [f"{name(path)}:{number} contains {p}" for p in private if p in line]
    none(problems, "these places exist on nobody else's machine; remove them:")


def test_nothing_is_pickled():
    problems = []
    for path in SOURCE:
        for node in ast.walk(TREES[name(path)]):
            problems += [f"{name(path)}:{node.lineno} imports {module}" for module in imported(node)
                         if module in ("pickle", "_pickle", "shelve", "dill", "cloudpickle")]
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                    problems.append(f"{name(path)}:{node.value.lineno} may allow pickle")
    none(problems, "a pickle runs the code of whoever wrote it; use npz or safetensors:")


def test_randomness_is_an_argument():
    problems = []
    for path, tree in TREES.items():
        fallback = [node.body for node in ast.walk(tree) if isinstance(node, ast.IfExp)
                    and ast.unparse(node.test) == "rng is None" and path.startswith("minigen/")]
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, (ast.Call, ast.Attribute)) else ""
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
                seed = [ast.unparse(a) for a in (*node.args, *(k.value for k in node.keywords))]
                if node not in fallback and (seed in ([], ["None"]) or "time" in "".join(seed)):
                    problems.append(f"{path}:{node.lineno} {text}: give it a seed")
            elif isinstance(node, ast.Attribute) and re.fullmatch(r"(np|numpy)\.random\.[a-z]\w*",
                                                                  text):
                if node.attr not in ("default_rng", "bit_generator"):
                    problems.append(f"{path}:{node.lineno} {text}: use a Generator passed as rng")
            problems += [f"{path}:{node.lineno} imports {module}: use a numpy Generator"
                         for module in imported(node) if module in ("random", "secrets", "uuid")]
    none(problems, "a run must be the same every time; randomness is a seeded argument:")


# What people import -----------------------------------------------------------------------------


def modules():
    """Every module of the package and the kernels, except what runs when imported."""
    for path in PYTHON:
        folder, *rest = name(path.with_suffix("")).split("/")
        rest = rest[:-1] if path.stem == "__init__" else rest
        if folder in ("minigen", "kernels") and path.stem != "__main__":
            package = "minigen" if folder == "minigen" else "minigen.kernels"
            yield importlib.import_module(".".join([package, *rest]))


def test_public_names_have_docstrings():
    problems = []
    for module in modules():
        if not module.__doc__ and module.__file__ and Path(module.__file__).stat().st_size:
            problems.append(f"{name(Path(module.__file__))}:1 the file has no docstring")
        for public in getattr(module, "__all__", ()):
            thing = getattr(module, public, None)
            own = vars(thing).get("__doc__") if isinstance(thing, type) else \
                getattr(thing, "__doc__", None)
            if not hasattr(module, public):
                problems.append(f"{module.__name__}.{public} is in __all__ but does not exist")
            elif (callable(thing) or inspect.ismodule(thing)) and not (own or "").strip():
                where = inspect.unwrap(thing)
                line = getattr(getattr(where, "__code__", None), "co_firstlineno", "")
                problems.append(f"{thing.__module__}.{public} {f'(line {line})' if line else ''}")
    none(sorted(set(problems)), "a public name needs a docstring (shapes, units, errors, source):")


def test_import_is_light():
    files = sorted({target.partition(":")[0] for target in MODELS.values()})
    code = (f"import sys, minigen, {', '.join(files)}; "
            f"print(*(m for m in {HEAVY} if m in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    none(done.stdout.split(), "minigen and its models load these; import them where they are used:")


@pytest.mark.parametrize("name", ["vae", "bench", "scaling"])
def test_scripts_find_what_they_import(name, tmp_path):
    """Even if only minigen is installed and nothing else of the checkout is on the path."""
    (tmp_path / "minigen").symlink_to(ROOT / "minigen")
    done = subprocess.run([sys.executable, ROOT / "demos" / f"{name}.py", "--help"], cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_the_code_in_the_readme_runs(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [(text[:m.start()].count("\n") + 2, m[1]) for m in
              re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)]
    none([] if blocks else ["README.md"], "there is no ```python block; add an example that runs:")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for line, code in blocks:
        try:
            exec(compile("\n" * (line - 1) + code, "README.md", "exec"), names)
        except Exception as error:
            pytest.fail(f"README.md, the block from line {line}: {type(error).__name__}: {error}",
                        pytrace=False)


def test_every_model_can_be_imported():
    problems = []
    for model, target in MODELS.items():
        module, _, thing = target.partition(":")
        try:
            if not callable(getattr(importlib.import_module(module), thing)):
                problems.append(f"{model}: {target} cannot be called")
        except (ImportError, AttributeError) as error:
            problems.append(f"{model}: {target}: {error}")
    none(problems, "correct MODELS in minigen/models/__init__.py:")
    listed = {module_path(target.partition(":")[0]) for target in MODELS.values()}
    tagged = {tag.path for tags in scan().code.values() for tag in tags}
    none(sorted(path for path in tagged - listed if path.startswith("minigen/models/")),
         "compute an equation and are missing in MODELS in minigen/models/__init__.py:")


def test_demos_can_be_called():
    problems = []
    for path in SOURCE:
        if path.parent == ROOT / "demos" and not path.name.startswith("_"):
            tree = TREES[name(path)]
            mains = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == "main"]
            if not ast.get_docstring(tree):
                problems.append(f"{name(path)}:1 has no docstring that says what it shows")
            if not mains or [a.arg for a in mains[0].args.args][:1] != ["argv"]:
                problems.append(f"{name(path)} has no `def main(argv=None)`, which the tests call")
    none(problems, "complete these demos:")
