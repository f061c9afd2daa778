"""The page in a real browser: what it looks like, what it asks for, and that it needs no script and no style sheet."""

from __future__ import annotations

import re
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.chromium import Chromium, find
from helpers.written_reports import Written

from bninspect.reports import html, json_document

PROGRAM = find()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.tensorflow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
]
STRICTEST = "default-src 'none'; sandbox"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM) as running:
        yield running


@pytest.fixture
def page(report_of_samples: Written) -> Path:
    return report_of_samples.path("html")


@pytest.fixture
def served(page: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of the page under the strictest policy, and the paths that were asked for."""
    asked: list[str] = []
    data = page.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Security-Policy", STRICTEST)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/report", asked
        server.shutdown()
        thread.join()


def colours(path: Path) -> int:
    """Return roughly how many colours a picture has: what its first rows hold, as they are stored."""
    data, place, pixels = path.read_bytes(), 8, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            pixels += data[place + 8 : place + 8 + length]
        place += 12 + length
    return len(set(re.findall(b"(?s)...", zlib.decompress(pixels)[:300_000])))


def test_it_is_drawn_light_dark_and_narrow(browser: Chromium, page: Path, tmp_path: Path) -> None:
    backs = []
    for dark, width in ((False, 1200), (True, 1200), (False, 390)):
        browser.look(width=width, dark=dark)
        browser.open(page.as_uri())
        picture = tmp_path / f"{width}-{dark}.png"
        browser.screenshot(picture)
        assert browser.said() == []
        assert browser.requested() == [page.as_uri()]
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        backs.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert browser.evaluate("getComputedStyle(document.querySelector('h1')).fontWeight") == "700"
        assert colours(picture) > 20
    assert backs[0] == backs[2] == "rgb(255, 255, 255)"
    assert backs[1] != backs[0]


def test_text_can_be_read_on_its_ground(browser: Chromium, page: Path) -> None:
    """Contrast of at least 4.5 to 1 for every text, light and dark (WCAG 2.2, 1.4.3)."""
    for dark in (False, True):
        browser.look(dark=dark)
        browser.open(page.as_uri())
        found = browser.evaluate(_CONTRASTS)
        assert len(found) > 50
        assert min(found.values()) >= 4.5, sorted(found.items(), key=lambda pair: pair[1])[:3]


def test_everything_drawn_lies_within_its_picture(browser: Chromium, page: Path) -> None:
    browser.look()
    browser.open(page.as_uri())
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    outside = browser.evaluate(_OUTSIDE)
    assert outside["drawn"] > 1000
    assert outside["out"] == []


def test_every_picture_has_words_for_those_who_do_not_see_it(browser: Chromium, page: Path) -> None:
    browser.look()
    browser.open(page.as_uri())
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    pictures = [node for node in nodes if node.get("role", {}).get("value") in {"image", "img", "graphics-document"}]
    count = browser.evaluate("document.querySelectorAll('svg').length")
    assert len(pictures) == count > 50
    assert all(len(node["name"]["value"]) > 10 for node in pictures)


def test_it_needs_no_script(browser: Chromium, page: Path) -> None:
    browser.look()
    browser.open(page.as_uri())
    shown = browser.evaluate("document.body.innerText")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page.as_uri())
        assert browser.evaluate("document.body.innerText") == shown
        assert "FAIL" in shown
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_it_can_be_read_under_the_strictest_policy(
    browser: Chromium, page: Path, served: tuple[str, list[str]]
) -> None:
    address, asked = served
    browser.look()
    browser.open(page.as_uri())
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    words = set(browser.evaluate("document.body.innerText").split())
    browser.open(address)
    assert asked == ["/report"]
    assert browser.evaluate("document.styleSheets.length") == 0
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert set(browser.evaluate("document.body.innerText").split()) == words
    sizes = browser.evaluate("[...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect().height)")
    assert min(sizes) >= 14


def test_names_of_a_hostile_file_run_nothing(browser: Chromium, report_of_samples: Written, tmp_path: Path) -> None:
    evil = "</style></title><script>console.log(1)</script><img src=x onerror=console.log(2)>"
    text = report_of_samples.text("json").replace("batch_normalization", evil.replace('"', '\\"'))
    path = tmp_path / "evil.html"
    path.write_text(html.render(json_document.parse(text)))
    browser.look()
    browser.open(path.as_uri())
    assert browser.said() == []
    assert browser.requested() == [path.as_uri()]
    assert browser.evaluate("document.querySelectorAll('script, img').length") == 0
    assert evil in browser.evaluate("document.body.textContent")


def test_all_is_unfolded_on_paper(browser: Chromium, page: Path) -> None:
    browser.look()
    browser.open(page.as_uri())
    folded = browser.evaluate("document.querySelectorAll('details:not([open])').length")
    assert folded > 5
    on_screen = browser.evaluate("document.body.scrollHeight")
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert (
            browser.evaluate("document.body.scrollHeight") > on_screen * 1.5
        )  # what fails is unfolded on the screen already
        heights = "[...document.querySelectorAll('details svg')].map(one => one.getBoundingClientRect().height)"
        assert min(browser.evaluate(heights)) > 10
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_no_table_is_cut_on_paper(browser: Chromium, page: Path) -> None:
    browser.look(width=718)  # A4 between the browser's margins
    browser.open(page.as_uri())
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        wide = "[...document.querySelectorAll('table')].filter(one => one.scrollWidth > one.parentElement.clientWidth)"
        assert browser.evaluate("document.querySelectorAll('table').length") > 50
        assert browser.evaluate(f"{wide}.map(one => one.innerText)") == []
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_what_passed_can_be_hidden(browser: Chromium, page: Path) -> None:
    browser.look()
    browser.open(page.as_uri())
    shown = "[...document.querySelectorAll('.model, .models tbody tr')].filter(one => one.checkVisibility()).length"
    passed = browser.evaluate("document.querySelectorAll('.model.pass').length")
    whole = browser.evaluate(shown)
    assert whole > 2 * passed > 0
    browser.evaluate("document.getElementById('show-wrong').click()")
    assert browser.evaluate(shown) == whole - 2 * passed


def test_the_first_screen_of_a_telephone_says_why(browser: Chromium, page: Path) -> None:
    browser.look(width=400, height=800)
    browser.open(page.as_uri())
    first = browser.evaluate("document.querySelector('.models tbody tr td:last-child').getBoundingClientRect().bottom")
    assert first < 800


def test_a_link_unfolds_its_layer(browser: Chromium, page: Path) -> None:
    browser.look()
    browser.open(page.as_uri())
    closed = "[...document.querySelectorAll('details.layer:not([open]) > div')].map(one => one.id)"
    target = browser.evaluate(closed)[-1]
    browser.evaluate(f"document.querySelector('a[href=\"#{target}\"]').click()")
    assert browser.evaluate(f"document.getElementById('{target}').parentElement.open") is True


_CONTRASTS = """
(() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).map(Number);
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts.slice(0, 3).map(v => linear(v / 255));
    return {value: 0.2126 * r + 0.7152 * g + 0.0722 * b, clear: parts.length > 3 && parts[3] === 0};
  };
  const found = {};
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || one.tagName === 'title') continue;
    const style = getComputedStyle(one);
    let ground = one;
    while (ground && light(getComputedStyle(ground).backgroundColor).clear) ground = ground.parentElement;
    const text = light(one instanceof SVGElement ? style.fill : style.color).value;
    const back = light(getComputedStyle(ground).backgroundColor).value;
    const ratio = (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
    const name = `${one.tagName} ${one.className.baseVal ?? one.className} ${style.color} ${one.textContent}`;
    found[name] = Math.min(ratio, found[name] ?? 99);
  }
  return found;
})()
"""

_OUTSIDE = """
(() => {
  const out = [];
  let drawn = 0;
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    for (const part of svg.querySelectorAll('path, line, rect, text')) {
      const box = part.getBoundingClientRect();
      drawn += 1;
      const across = box.left < frame.left - 1 || box.right > frame.right + 1;
      if (across || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        out.push(`${part.outerHTML.slice(0, 90)} in ${svg.querySelector('title').textContent}`);
    }
  }
  return {drawn, out};
})()
"""
