"""Addresses on the site: of a lecture, a source file, an equation."""

import re

from minigen.lecture import equations, lectures

__all__ = ["ADDED", "DERIVED", "ERRATA", "INDEX", "equation_address", "file_page",
           "lecture_page", "places_of"]

INDEX, ADDED, DERIVED, ERRATA = "index.html", "added.html", "derivations.html", "errata.html"


def lecture_page(number):
    """The address of a lecture's page."""
    return re.sub(r"[^a-z0-9]+", "-", lectures()[number].title.lower()).strip("-") + ".html"


def file_page(path):
    """The address of a source file's page."""
    return f"{path.replace('/', '.')}.html"


def equation_address(id):
    """The address of the equation with this id, None if there is none."""
    e = equations().get(id)
    return e and f"{lecture_page(e.places[0].lecture) if e.places else ADDED}#{id}"


def places_of(places):
    """Places on the slides in the form that the templates need, each heading once."""
    headings = dict.fromkeys((place.lecture, place.heading) for place in places)
    return [{"address": lecture_page(lecture), "title": lectures()[lecture].title,
             "heading": heading} for lecture, heading in headings]
