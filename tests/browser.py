"""A real browser for tests of the page: Debian's chromium, without a window, driven by Playwright.

Without one the tests skip and say what to install; with FRESHET_REQUIRE_BROWSER=1, as CI sets it,
they fail instead. FRESHET_BROWSER names another Chrome or Chromium than those on the path.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "the page's tests need a browser; install it: apt-get install chromium"
WIDE = {"width": 1440, "height": 900}


def browser_path() -> str:
    """Return the browser's path; skip the test, or fail it where a browser is required."""
    wanted = os.environ.get("FRESHET_BROWSER")
    found = next(filter(None, map(shutil.which, [wanted] if wanted else NAMES)), None)
    if found is None:
        refuse = pytest.fail if os.environ.get("FRESHET_REQUIRE_BROWSER") == "1" else pytest.skip
        refuse(f"{wanted} is no program" if wanted else MISSING)
    return found


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Start one, and close it whatever happens."""
    path = browser_path()
    # Chromium has no sandbox for root, which CI's containers are.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def a_page(browser: Browser, url: str, **options: object) -> AsyncIterator[Page]:
    """Open a page in a profile of its own; a script error on it fails the test."""
    context = await browser.new_context(**{"viewport": WIDE, **options})
    errors: list[str] = []
    context.on("weberror", lambda one: errors.append(str(one.error)))
    context.set_default_timeout(10_000)
    page = await context.new_page()
    try:
        await page.goto(url)
        yield page
    finally:
        await context.close()
    assert errors == []
