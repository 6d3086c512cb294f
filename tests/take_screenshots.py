"""Take the README's pictures of the page anew: `python -m tests.take_screenshots [USER]`.

Wants a running Freshet with a replayed data set (`make demo`) and a browser (tests/browser.py). It
likes items as that user, for real: the pictures show what the system did. Writes docs/img/.
"""

import asyncio
import sys
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from infra.endpoints import Endpoints
from tests.browser import a_browser, a_page

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "img"
DEFAULT_USER = "1"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
MOVED_S = 0.7
"""Until the items that moved have arrived at their places."""


async def main(user: str) -> None:
    url = f"http://{Endpoints.load().web}/?user={user}"
    async with a_browser() as browser:
        await wide(browser, url)
        await phone(browser, url)
    print(f"look at them: {FOLDER}/page*.png")


async def wide(browser: Browser, url: str) -> None:
    """The whole page after a like, and in the dark the feed alone after another."""
    async with a_page(browser, url) as page:
        await like(page, rank=3)
        await page.screenshot(path=FOLDER / "page.png")
    viewport = {"width": 1440, "height": 760}
    async with a_page(browser, url, viewport=viewport, color_scheme="dark") as page:
        await like(page, rank=5)
        box = await page.locator("section.feed").bounding_box()
        assert box is not None
        await page.evaluate("top => scrollTo(0, top - 84)", box["y"])
        clip = {"x": box["x"] - 16, "y": 68, "width": box["width"] + 32, "height": 692}
        await page.screenshot(path=FOLDER / "page-changed.png", clip=clip)


async def phone(browser: Browser, url: str) -> None:
    async with a_page(browser, url, **PHONE, device_scale_factor=2) as page:
        await like(page, rank=2)
        await page.evaluate("scrollTo(0, 0)")
        await page.screenshot(path=FOLDER / "page-narrow.png")


async def like(page: Page, *, rank: int) -> None:
    """Like the item at a rank, from 1, and wait until the changed feed lies still."""
    await expect(page.locator("#history .event").first).to_be_visible()
    await page.locator(".item").nth(rank - 1).locator('[data-action="like"]').click()
    await expect(page.locator("#pulse-words")).to_contain_text("from your click")
    await page.mouse.move(0, 0)
    await asyncio.sleep(MOVED_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_USER))
