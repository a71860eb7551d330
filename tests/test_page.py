"""The site of the lecture: its formulas, listings, links and error messages."""

import json
import re
import sys
from html.parser import HTMLParser

import pytest

from minigen.lecture import addresses, equations, errata, highlight, lectures, scan
from minigen.lecture.__main__ import main
from minigen.lecture.notation import model_taxonomy, symbol_of_name, symbols
from minigen.models import MODELS

mathml = pytest.importorskip("minigen.lecture.mathml", exc_type=ImportError,
                             reason="the site is made with pip install -e '.[lecture]'")


class Page(HTMLParser):
    """A page's ids, links, formulas, and text."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.text = set(), [], path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert attrs.get("id") not in self.ids or "id" not in attrs, attrs
        self.ids.add(attrs.get("id"))
        self.links += [attrs[k] for k in ("href", "src") if k in attrs]
        assert tag != "img" or attrs["alt"]


@pytest.fixture(scope="module")
def pages(site):
    return {path.name: Page(path) for path in site.out.glob("*.html")}


# Formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("latex, has", [
    (r"W^*=\arg\max_W f", "<munder><mi>arg max</mi>"),
    (r"\mathcal N(0,I)", "<mi>𝒩</mi>"), (r"\mathcal L", "<mi>ℒ</mi>"),
    (r"\mathbb E_x", "<mi>𝔼</mi>"), (r"\mathbf 1", "<mn>𝟏</mn>"),
    (r"\mathrm{softmax}(s)", "<mi>softmax</mi>"), (r"\mathrm T", "<mtext>T</mtext>"),
    (r"D_{KL}", "<mi>KL</mi>"), (r"x_{ij}", "<mi>i</mi><mi>j</mi>"),
    (r"p_{data}", "<mi>data</mi>"), (r"\log p", '<mi>log</mi><mspace width="0.167em" />'),
    (r"\log(p)", "<mi>log</mi><mo"), (r"\epsilon", '<mi data-symbol="ε">ϵ</mi>'),
    (r"\bar\alpha_t", 'data-symbol="ᾱ"><mi>α</mi>'),
])
def test_latex_becomes_mathml(latex, has):
    assert has in mathml.formula(latex)


def test_what_cannot_be_rendered_is_an_error():
    with pytest.raises(ValueError, match="cannot render"):
        mathml.formula(r"\unknowncommand x")


def test_every_formula_is_rendered():
    for e in equations().values():
        assert not re.search(r"\\|mathvariant|\$", mathml.render_mixed(e.parts)), e.id


# Code -----------------------------------------------------------------------------------------


def test_code_is_marked_and_tags_are_links(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('def f(eps):\n    """ε <\n    b"""\n    return x_t  # eq: one, two\n')
    lines = highlight.highlighted(path, {"one": "there#one"}.get)
    assert lines[0].endswith('(<span data-symbol="ε">eps</span>):')
    assert lines[1:3] == ['    <span class="s">"""<span data-symbol="ε">ε</span> &lt;</span>',
                          '<span class="s">    b"""</span>']
    assert '<span data-symbol="x">x_t</span>' in lines[3]
    assert '# eq: <a href="there#one">one</a>, two</span>' in lines[3] and len(lines) == 4


def test_names_in_code_stand_for_symbols():
    names = ["x", "x_t", "alpha_bar", "alpha_bar_prev", "alpha", "exp", "max"]
    assert [symbol_of_name(name) for name in names] == ["x", "x", "ᾱ", "ᾱ", "α", None, None]


# The site -------------------------------------------------------------------------------------


def test_it_is_written_quickly(site):
    assert site.seconds < 20


def test_every_equation_stands_beside_its_code(pages):
    found = scan()
    for id, e in equations().items():
        for place in e.places:
            assert id in pages[addresses.lecture_page(place.lecture)].ids, id
        page, _, anchor = addresses.equation_address(id).partition("#")
        article = pages[page].text.split(f'<article class="equation" id="{anchor}"')[1]
        article = article.split("</article>")[0]
        for tag in found.code[id]:
            assert f'class="line hit" data-n="{tag.line}"' in article, tag
            assert f'href="{addresses.file_page(tag.path)}#L' in article, tag
            file = pages[addresses.file_page(tag.path)].text
            assert f'class="line hit" data-n="{tag.line}" id="L{tag.line}"' in file, tag
        tagged = {*found.code[id], *found.checks[id]}
        assert article.count('class="line hit"') >= len(tagged), id


def test_lectures_are_in_the_order_of_the_slides(pages):
    for i in range(len(lectures())):
        text = pages[addresses.lecture_page(i)].text
        ids = re.findall(r'<article class="equation" id="([^"]+)', text)
        lines = [next(p.line for p in equations()[id].places if p.lecture == i) for id in ids]
        assert lines == sorted(lines) and len(set(ids)) == len(ids)


def test_every_link_leads_somewhere(site, pages):
    for name, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if not link.startswith("data:"):
                assert (site.out / (target or name)).is_file(), (name, link)
                assert not anchor or anchor in pages[target or name].ids, (name, link)


def test_the_map_has_every_model(pages):
    kinds = model_taxonomy()
    kinds += [inner for kind in kinds for inner in kind.kinds]
    assert {model for kind in kinds for _, models in kind.families for model in models} == \
        set(MODELS)
    for target in MODELS.values():
        path = target.partition(":")[0].replace(".", "/") + ".py"
        assert addresses.file_page(path) in pages["index.html"].links


def test_slide_errors_say_what_shows_them(pages):
    text, found = pages["errata.html"].text, scan()
    for e in errata():
        row = text.split(f'id="error-{e.number}"')[1].split("</article>")[0]
        tests = found.errata[e.number]
        assert ("shown by a test" in row) is bool(tests), e.number
        assert ('class="line hit"' in row) is bool(tests), e.number
        assert bool(e.source) == ("Source:" in row), e.number
        assert ("not yet" in row) == (not tests and not e.source), e.number


def test_a_run_gives_its_pictures_and_numbers(pages, site):
    assert (site.out / "pictures" / "vae-glyphs" / "manifold.png").is_file()
    there = addresses.equation_address("vae-2d-manifold").partition("#")[0]
    assert "pictures/vae-glyphs/manifold.png" in pages[there].links
    model = pages["minigen.models.vae.vae.py.html"]
    assert "pictures/vae-glyphs/samples.png" in model.links and "107.4" in model.text


def test_derivations_show_both_sides(pages):
    text = pages["derivations.html"].text
    assert text.count('class="derivation"') == 5
    assert "≠" in text and "errata.html#error-13" in text


def test_the_search_index_can_be_read(site):
    text = (site.out / "search-index.js").read_text(encoding="utf-8")
    entries = json.loads(text.removeprefix("const INDEX = ").removesuffix(";\n"))
    names = [entry["name"] for entry in entries]
    assert {*equations(), "elbo", "slide error 25", "minigen/ops/conv.py"} <= {*names}
    assert len(names) == len(set(names))


def test_the_notation_table_has_no_symbol_twice():
    for field in ("formula", "code"):
        ways = [way for s in symbols() for way in getattr(s, field)]
        assert len(ways) == len(set(ways))


@pytest.mark.parametrize("files, message", [
    ({}, "no folder with a demo's pictures"),
    ({"vae/config.json": '{"system": "vae", "options": {"data": "glyphs"}}'}, "no folder"),
    ({"other/config.json": '[]', "other/a.png": ""}, "no folder"),
])
def test_runs_without_pictures(tmp_path, capsys, files, message):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(["page", "--out", str(tmp_path / "site"), "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "site").exists()


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["page", "--out", str(tmp_path / "file" / "site")]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1


def test_without_its_libraries_the_page_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "minigen.lecture.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["page", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "'.[lecture]'" in error and error.count("\n") == 1


def test_bars_of_norms_are_of_one_height():
    bars = re.findall("<mo[^>]*>‖</mo>", mathml.formula(r"\|x - x'\|^2"))
    assert len(bars) == 2 and all('stretchy="false"' in bar for bar in bars)
