"""The site in a browser: from the index to an equation to its code, by search, on a phone."""

import pytest
from browser import CHROMIUM, browser

from minigen.lecture import addresses

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")

UNRENDERED = r"""[...document.querySelectorAll("math")].filter(m => m.clientHeight < 5 ||
    m.textContent.includes("\\") || m.querySelector("merror, [mathvariant]")).length"""


@pytest.fixture(scope="module")
def tab():
    """One tab for all tests; an error or warning in its console fails the test that caused it."""
    with browser() as tab:
        yield tab


@pytest.fixture(autouse=True)
def calm(tab):
    tab.problems.clear()
    tab.size(1280)
    yield
    assert tab.problems == []


def here(tab):
    """The file name and anchor of the tab's address."""
    return tab.run("location.href.split('/').pop()")


def test_from_the_index_to_an_equation_to_its_code(tab, site):
    tab.open(f"file://{site.out}/index.html")
    link = "a[href$='#vae-kl-closed-form']"
    tab.run(f'document.querySelector("summary:has(+ ul {link})").click()')
    tab.follow(f'document.querySelector("{link}").click()')
    assert here(tab) == addresses.equation_address("vae-kl-closed-form")
    top = tab.run("document.getElementById('vae-kl-closed-form').getBoundingClientRect().top")
    assert 0 <= top < 200
    assert tab.run("document.querySelector('#vae-kl-closed-form math').clientHeight") > 10
    tab.follow("document.querySelector('#vae-kl-closed-form .source a').click()")
    assert here(tab).startswith("minigen.models.vae.vae.py.html#L")
    line = tab.run("document.querySelector('.line:target').textContent")
    assert "# eq: vae-kl-closed-form" in line
    tab.follow("document.querySelector('.line:target a').click()")
    assert here(tab) == addresses.equation_address("vae-kl-closed-form")


def test_search_finds_and_leads(tab, site):
    tab.open(f"file://{site.out}/index.html")
    for key in ("/", *"reparam"):
        tab.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        tab.send("Input.dispatchKeyEvent", type="keyUp", key=key)
    assert tab.run("document.getElementById('query').value") == "reparam"
    assert tab.run("document.querySelector('#results [role=status]').textContent") == "1 found:"
    assert tab.run("document.querySelector('#results a b').textContent") == "vae-reparam"
    tab.follow("document.getElementById('search').requestSubmit()")
    assert here(tab) == addresses.equation_address("vae-reparam")
    tab.run("query.value = 'zyxw'; render()")
    assert tab.run("document.querySelector('#results p').textContent") == "Nothing found."


def test_a_symbol_lights_up_in_formulas_and_in_code(tab, site):
    tab.open(f"file://{site.out}/{addresses.lecture_page(4)}")
    tab.run("document.querySelector('[data-choose=ᾱ]').click()")
    lit = "[...document.querySelectorAll('.lit')].map(use => use.textContent)"
    seen = set(tab.run(lit))
    assert {"α¯", "alpha_bar"} <= seen <= {"α¯", "ᾱ", "alpha_bar", "alpha_bar_prev"}
    colour = "getComputedStyle(document.querySelector('mover.lit')).backgroundColor"
    assert tab.run(colour) == "rgb(255, 216, 77)"
    assert "in formulas" in tab.run("document.querySelector('.chosen').textContent")
    tab.run("document.querySelector('[data-choose=ᾱ]').click()")
    assert tab.run(lit) == []


def test_every_page_fits_a_phone_and_makes_no_complaint(tab, site):
    tab.size(390, 844)
    for path in sorted(site.out.glob("*.html")):
        tab.open(f"file://{path}")
        assert tab.run("document.documentElement.scrollWidth") == 390, path.name
        assert tab.run(UNRENDERED) == 0, path.name
        assert tab.problems == [], path.name


def test_dark_mode_changes_the_colours(tab, site):
    background = "getComputedStyle(document.body).backgroundColor"
    colours = []
    for scheme in ("light", "dark"):
        tab.send("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.open(f"file://{site.out}/index.html")
        colours.append(tab.run(background))
    tab.send("Emulation.setEmulatedMedia", features=[])
    assert colours == ["rgb(253, 252, 249)", "rgb(22, 24, 28)"]


def test_the_keyboard_reaches_what_scrolls_and_skips_the_head(tab, site):
    tab.size(390, 844)
    tab.open(f"file://{site.out}/{addresses.lecture_page(4)}")
    tab.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)
    assert tab.run("document.activeElement.className") == "skip"
    wide = "[...document.querySelectorAll('pre, .formula')].filter(e => e.scrollWidth > " \
           "e.clientWidth && e.offsetParent && e.tabIndex !== 0).length"
    assert tab.run(wide) == 0
