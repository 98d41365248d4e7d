"""The documentation site: it builds without a warning, its links lead somewhere, it needs no network,
and the pages that are generated are those in the repository. Building it runs the notebooks."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from tests.support import ROOT
from tests.test_browser import browser, text_of  # noqa: F401

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built pages."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", folder / "doctrees"]
    done = subprocess.run(
        [sys.executable, *map(str, words), DOCS, folder / "html"],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


class Page(HTMLParser):
    """ids: anchors. links: hrefs of links. loads: what the browser loads besides. text: all of it."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.text = set(), [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        of_link = attributes.get("href") if tag == "link" else None
        if attributes.get("src") or of_link:
            self.loads.append(attributes.get("src") or of_link)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_of_the_guide_is_in_the_navigation(site, pages):
    linked = {unquote(urlsplit(link).path) for link in pages[site / "index.html"].links}
    sources = [*DOCS.glob("*.md"), *DOCS.glob("notebooks/*.ipynb")]
    built = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in sources}
    assert built - linked <= {"index.html"}


def test_links_lead_to_pages_and_headings_that_are_there(pages):
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].ids if target in pages else ()
            if not target.is_file() or (
                anchors and parts.fragment and unquote(parts.fragment) not in anchors
            ):
                wrong.append((path.name, link))
    assert not wrong


def test_no_page_loads_anything_from_the_network(site, pages):
    for page in pages.values():
        assert not [load for load in page.loads if urlsplit(load).scheme not in ("", "data")]
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?https?:", sheet.read_text())


def test_the_notebooks_show_what_they_computed(site, pages):
    network = pages[site / "notebooks" / "own_network.html"].text
    assert re.search(r"exact loss curve on \[0, 0\.5\]: .* before the step, lowest ", network)
    assert "evaluated loss curve" in network
    launch = pages[site / "notebooks" / "reading_a_launch.html"].text
    assert "168 studies" in launch
    assert "sr-STE takes a better step than STE" in launch
    for name in ("own_network", "which_estimator", "reading_a_launch"):
        text = pages[site / "notebooks" / f"{name}.html"].text
        assert "Warning" not in text
        assert "Traceback" not in text


def test_the_api_has_every_public_name(site, pages):
    import srste

    text = pages[site / "api.html"].text
    assert all(name in text for name in srste.__all__)


def test_the_generated_pages_are_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import generate

    for name, page in generate.PAGES.items():
        assert (DOCS / name).read_text() == page(), f"run `python docs/generate.py` for {name}"
    pictures = re.findall(r"\]\((images/[^)]+)\)", (DOCS / "estimators.md").read_text())
    assert pictures
    assert all((DOCS / picture).is_file() for picture in pictures)


@pytest.mark.browser
@pytest.mark.parametrize("width", [900, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_as_files_in_a_browser(browser, site, width, scheme):  # noqa: F811
    """Without a server: no page is wider than the window, every picture is there, the search finds."""
    browser.set_window_size(width, 1000)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    for page in [*sorted(site.glob("*.html")), *sorted(site.glob("notebooks/*.html"))]:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert browser.execute_script(broken) == [], page.name


@pytest.mark.browser
def test_the_search_works_as_files(browser, site):  # noqa: F811
    browser.get(f"{site.as_uri()}/search.html?q=stochastic+rounding")
    text_of(browser, "Search finished", "Estimators", seconds=20)
