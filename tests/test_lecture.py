"""The catalogue, the tags, the mutants and the command line of minigen.lecture."""

import ast
import subprocess
import sys

import numpy as np
import pytest

from minigen import lecture
from minigen.lecture import equations, errata, families, lectures, prove, scan, tags
from minigen.lecture.__main__ import main
from minigen.lecture.mutate import mutants


def changed(line, number=2, head="def f(*args):\n    "):
    """The mutants of one line of code, without the surrounding code."""
    text = head + line + "\n"
    made = mutants(text, number)
    for mutant in made:
        ast.parse(mutant.text)  # every mutant is a program
    return {m.text.removeprefix(head).rstrip("\n") for m in made}


@pytest.mark.parametrize("line, expected", [
    ("return μ + σ * x", {"return 1.5 * (μ + σ * x)", "return -(μ + σ * x)",
                          "return μ - σ * x", "return μ + σ / x"}),
    ("return a ** 2", {"return 1.5 * (a ** 2)", "return -(a ** 2)", "return a ** (2 + 1)"}),
    ("return (a + b) @ c", {"return 1.5 * ((a + b) @ c)", "return -((a + b) @ c)",
                            "return ((c)) @ (a + b)", "return (a - b) @ c"}),
    ("return kl(q, p)", {"return 1.5 * (kl(q, p))", "return -(kl(q, p))",
                         "return kl((p), (q))"}),
    ("return mu + sigma * eps", {"return 1.5 * (mu + sigma * eps)", "return -(mu + sigma * eps)",
                                 "return mu + sigma / eps"}),  # noise: its sign is no mutant
    ("return x > 0 and y", {"return x <= 0 and y", "return x > 0 or y"}),
    ("return Normal(mu, logvar=s)", {"return Normal(1.5 * (mu) + 1, logvar=s)",
                                     "return Normal(mu, logvar=1.5 * (s) + 1)"}),
    ("return square(x)", {"return 1.5 * (square(x))", "return -(square(x))", "return (x)"}),
    ("mu, s = self.net(x)", {"(s), (mu) = self.net(x)"}),
    ("opt.step(g)", {"None"}),
    ("total += v", {"total -= v", "total += 1.5 * (v)"}),
    ("for a in b:\n        a()", {"for a in list(b)[1:]:\n        a()"}),
    ("return 'words'", set()),
])
def test_mutants_of_a_line(line, expected):
    assert changed(line) == expected


def test_mutants_of_a_value_on_several_lines_stay_on_the_tagged_one():
    head = "def vjp(g, w, x):\n    return (lambda: f(g, w),\n"
    made = changed("            lambda: h(x))", 3, head)
    assert made == {"            lambda: 1.5 * (h(x)))", "            lambda: -(h(x)))"}


def checkout(root, code, test):
    """A checkout of one function and one test."""
    for folder, file, text in (("minigen", "toy.py", code), ("tests", "test_toy.py", test)):
        (root / folder).mkdir()
        (root / folder / file).write_text(text, encoding="utf-8")
    return root


TOY = "def f(x):\n    return 2 * x + 1  # eq: toy\n"
TEST = "from minigen.toy import f\n\n\ndef test_f():\n    assert {}  # eq: toy\n"


@pytest.mark.parametrize("check, survivors", [("f(3) == 7 and f(0) == 1", 0), ("f(3) > 0", 3),
                                              ("f(3) == f(3)", 4), ("f(3) == 8", 1)])
def test_prove_finds_checks_that_cannot_fail(tmp_path, check, survivors):
    lines = []
    root = checkout(tmp_path, TOY, TEST.format(check))
    complaints = prove.prove(["toy"], root, log=lambda text, flush: lines.append(text))
    assert len(complaints) == survivors and set(complaints) <= set(lines), lines
    assert (root / "minigen/toy.py").read_text() == TOY
    if survivors == 0:
        assert len(lines) == 4 and all(line.endswith("killed (assertion)") for line in lines), lines


def test_prove_wants_an_assertion_not_a_crash(tmp_path):
    code = "def f(x):\n    return x.upper()  # eq: toy\n"
    complaints = prove.prove(["toy"], checkout(tmp_path, code, TEST.format("f('a')")),
                             log=lambda *a, **k: None)
    assert len(complaints) == 1 and "no assertion notices" in complaints[0]
    assert "no line of code" in prove.prove(["none"], tmp_path, log=lambda *a, **k: None)[0]


@pytest.mark.parametrize("tests, line, complaint", [
    (False, "x = 1  # eq: a, b, c, d", "4 ids"),
    (False, "x = 1  # eq: A B", "cannot read"),
    (False, "# eq: a", "without code"),
    (False, "x = 1  # slide error: 1", "only `eq`"),
    (True, "assert f()  # slide error: one", "cannot read"),
    (True, "x = 1  # eq: a", "no assertion"),
])
def test_malformed_tags_are_named(tmp_path, tests, line, complaint):
    body = f"def test_f():\n    {line}\n    return 1\n"
    root = checkout(tmp_path, *(("", body) if tests else (body, "")))
    assert [complaint in p and ".py:2:" in p for p in scan(root).problems] == [True]


def test_tags_are_comments_at_the_end_of_lines(tmp_path):
    code = 'S = "# eq: no"\n\n\nclass A:\n    def f(self):\n        return 1  # eq: a, b  # noqa\n'
    test = "import numpy as np\n\n\ndef test_f():\n    np.testing.assert_allclose(1, 1,\n" \
           "                               atol=0)  # eq: a  # slide error: 3\n"
    found = scan(checkout(tmp_path, code, test))
    assert not found.problems and set(found.code) == {"a", "b"} and set(found.errata) == {3}
    assert str(found.code["a"][0]) == "minigen/toy.py:6" and found.code["a"][0].name == "A::f"
    tag = found.checks["a"][0]
    assert (tag.name, tag.line, tag.first, tag.last) == ("test_f", 6, 4, 6)


def test_entries_read_as_they_are_written():
    e = equations()["vae-elbo"]
    assert [x.number for x in e.errata] == [2, 23, 25] and families()[e.family].startswith("Variat")
    assert "Content generation from language" in str(e.places[0])
    formula, words = equations()["discriminative-model"].parts[0::2], e.parts
    assert all(is_formula for is_formula, _ in formula + words)
    assert [x.number for x in errata()] == list(range(1, 26))
    for e in equations().values():
        assert e.latex.count("$") % 2 == 0 and e.latex.count("{") == e.latex.count("}"), e.id
        assert e.statement.endswith(".") and "\\" not in e.unicode + e.statement, e.id
        assert all(0 <= p.lecture < len(lectures()) and p.heading for p in e.places), e.id


def test_list_counts_every_equation(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(id in out for id in equations())
    assert "266 equations on the slides, 85 added: 351 of 351 are computed and checked." in out
    assert main(["list", "--family", "autoencoder", "--lecture", "MODERN"]) == 0
    out = capsys.readouterr().out
    assert "ae-single-hidden" in out and "ae-conv-shape" not in out and "vae" not in out


def test_list_finds_words_on_slides_and_in_statements(capsys):
    assert main(["list", "FORMALISM", "bound"]) == 0
    out = capsys.readouterr().out
    assert "vae-elbo " in out and "gan-minimax" not in out
    assert "log p_θ(x) ≥ 𝓛(x, θ, φ)" in out and "minigen/models/vae/vae.py" in out


def test_list_follows_a_lecture_slide_by_slide(capsys):
    assert main(["list", "--lecture", "1"]) == 0
    out = capsys.readouterr().out
    places = [place for e in equations().values() for place in e.places if place.lecture == 1]
    headings = [place.heading for place in sorted(places, key=lambda place: place.line)]
    at = [out.find(f"\n{heading}\n") for heading in dict.fromkeys(headings)]
    assert -1 not in at and at == sorted(at) and len(at) > 10


def test_show_prints_formula_source_erratum_and_code(capsys):
    assert main(["show", "tconv-output-size"]) == 0
    out = capsys.readouterr().out
    tag = scan().code["tconv-output-size"][0]
    for part in ("o = (i − 1)s − 2p + k + p_out", "“Transposed Convolution”", "Slide error 1",
                 f"{tag.path}:{tag.first}", f"▶ {tag.line:>4}", "def conv_transpose_output_size",
                 "return (i - 1) * s"):
        assert part in out, part


def test_show_says_what_a_publication_shows(capsys):
    assert main(["show", "vae-elbo"]) == 0
    assert "source: Kingma" in capsys.readouterr().out


@pytest.mark.parametrize("argv, message", [
    (["show", "vae-elb"], "vae-elbo"), (["prove", "ae-los"], "ae-loss"),
    (["list", "--family", "va"], "vae"), (["list", "--lecture", "9"], "2 “Modern"),
    (["list", "elbo", "zzz"], "no equation has “elbo zzz”"),
])
def test_unknown_names_suggest_the_nearest(capsys, argv, message):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_without_a_checkout_it_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tags, "__file__", str(tmp_path / "minigen" / "lecture" / "tags.py"))
    assert main(["list"]) == 2
    assert "clone" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        lecture.checkout()


def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "minigen.lecture", "show", "vae-elbo"],
                            cwd=lecture.checkout(), capture_output=True, text=True)
    assert result.returncode == 0 and "𝓛(x, θ, φ)" in result.stdout, result.stderr


def test_drawn_equations_have_checks_that_can_fail():
    """One mutant of each line of ten; all mutants of all take an hour: `prove` without ids."""
    drawn = np.random.default_rng(7).permutation(list(equations()))[:10]
    assert prove.prove(drawn.tolist(), max_mutants=1) == []
