"""The page in a real browser: nothing overflows at any width, tables scroll and sort, no script fails, nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distmed.evaluate.report import write_report
from tests.evaluate.report.browser import Page, find, in_browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find() is None, reason="no Chromium here: apt-get install chromium"),
]

WIDTHS = (1280, 768, 390, 320)
# Elements that stick out of the page although nothing around them scrolls, and text too small to read.
FAULTS = """(() => {
  const page = document.documentElement, wide = page.clientWidth, found = [];
  if (page.scrollWidth > wide) found.push('the page scrolls sideways: ' + page.scrollWidth);
  for (const element of document.querySelectorAll('main *')) {
    if (element.closest('.scroll') && !element.matches('.scroll')) continue;
    if (element.closest('thead') || element.closest('details')) continue;
    const box = element.getBoundingClientRect();
    if (box.width && box.right > wide + 1) found.push(element.tagName + '.' + element.className + ' ends at ' + box.right);
  }
  for (const text of document.querySelectorAll('svg.chart text')) {
    const box = text.getBoundingClientRect(), frame = text.closest('svg').getBoundingClientRect();
    const size = parseFloat(getComputedStyle(text).fontSize) * frame.width / 340;
    if (size < 9) found.push('text of ' + size.toFixed(1) + ' px: ' + text.textContent);
    if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push('cut off: ' + text.textContent);
  }
  return found;
})()"""


@pytest.fixture(params=["diagnosis", "exam"])
def page(request: pytest.FixtureRequest) -> Path:
    if request.param == "exam":
        return write_report(request.getfixturevalue("exam"))
    return write_report(request.getfixturevalue("folder")())


def test_nothing_overflows_and_figures_are_legible(page: Path) -> None:
    async def look(tab: Page) -> dict[int, list[str]]:
        found = {}
        for width in WIDTHS:
            await tab.open(page, width)
            found[width] = await tab.run(FAULTS)
        assert tab.errors == []
        assert set(tab.requests) == {page.as_uri()}
        return found

    assert in_browser(look) == {width: [] for width in WIDTHS}


def test_tables_scroll_inside_themselves_on_a_phone(folder: Callable[..., Path]) -> None:
    path = write_report(folder())

    async def look(tab: Page) -> Any:
        await tab.open(path, 390)
        return json.loads(
            await tab.run(
                "(() => { const box = document.querySelector('.filtered').parentElement; box.scrollLeft = 200;"
                "const first = box.querySelector('tbody th').getBoundingClientRect();"
                "return JSON.stringify([box.scrollWidth > box.clientWidth, box.scrollLeft,"
                "Math.round(first.left - box.getBoundingClientRect().left)]) })()"
            )
        )

    scrolls, moved, name_at = in_browser(look)
    assert scrolls
    assert moved == 200
    assert 0 <= name_at <= 2  # the name of the disease stays in sight


def test_the_table_of_diseases_sorts_and_filters(folder: Callable[..., Path]) -> None:
    path = write_report(folder())
    column = "[...document.querySelector('.filtered').tBodies[0].rows].map(r => Number(r.cells[1].dataset.v))"

    async def look(tab: Page) -> Any:
        await tab.open(path, 1280)
        click = "document.querySelector('.filtered thead th:nth-child(2) button').click()"
        await tab.run(click)
        down = await tab.run(column)
        order = await tab.run("document.querySelector('.filtered thead th:nth-child(2)').getAttribute('aria-sort')")
        await tab.run(click)
        up = await tab.run(column)
        await tab.run(
            "(() => { const field = document.querySelector('.filter'); field.value = 'number 7';"
            "field.dispatchEvent(new Event('input')) })()"
        )
        shown = await tab.run("[...document.querySelector('.filtered').tBodies[0].rows].filter(r => !r.hidden).length")
        title = await tab.run("document.title")
        return down, order, up, shown, title

    down, order, up, shown, title = in_browser(look)
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert order == "descending"
    assert shown == 1
    assert title != "owned"
