"""The headless browser that all tests of pages share."""

from __future__ import annotations

import shutil

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


LOW_CONTRAST = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).slice(0, 4).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (let one = node; one; one = one.parentElement) {
      const colour = channels(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || !node.offsetWidth || node.disabled) continue;
    const pair = [light(channels(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) low.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`);
  }
  return low;
}"""

UNMARKED = """() => {
  const look = () => {
    const one = document.activeElement, style = getComputedStyle(one);
    if (one === document.body || one.tagName === "TABLE") return true;
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  };
  return look() ? null : document.activeElement.outerHTML.slice(0, 120);
}"""
"""The element that has the focus and does not show it."""


@pytest.fixture
def low_contrast():
    """A function that gives the texts of a page whose contrast is below 4.5 (WCAG 2.1, AA)."""
    return lambda page: page.evaluate(LOW_CONTRAST)


@pytest.fixture
def unmarked_focus():
    """A function that goes through a page by Tab, and gives the elements that do not show that they have the focus."""

    def walk(page, presses: int) -> list[str]:
        found = []
        for _ in range(presses):
            page.keyboard.press("Tab")
            found.append(page.evaluate(UNMARKED))
        return [one for one in found if one]

    return walk
