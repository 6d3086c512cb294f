"""The page's connection: two tabs, a machine that slept, a tab that nobody looks at."""

import pytest
from playwright.async_api import expect

from tests.browser import a_page
from tests.retrieval.page.page_world import feed_of, film, like_and_follow, until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


async def test_two_tabs_both_follow(browser, world, page):
    async with a_page(browser, world.at("ada")) as other:
        await expect(other.locator(".item")).to_have_count(3)
        await like_and_follow(world, page)

        await expect(other.locator("#feed .title").first).to_have_text("Network")
        await expect(other.locator("#pulse-words")).to_have_text("from “Fargo” to this feed")


async def test_a_connection_that_fell_silent_while_the_machine_slept_is_opened_again(
    world, timed_page
):
    world.recommender.newest = feed_of([film("network")])

    await timed_page.clock.fast_forward("08:00:00")

    await expect(timed_page.locator("#feed .title")).to_have_text(["Network"])


async def test_a_tab_that_nobody_looks_at_gives_its_connection_back_until_it_is_seen(
    world, timed_page
):
    await set_hidden(timed_page, True)
    await timed_page.clock.run_for(50_000)
    await hear_a_beat(timed_page, world)
    await timed_page.clock.run_for(15_000)
    await expect(timed_page.locator("#link")).to_have_text("paused")
    await streams(world, 0)

    await set_hidden(timed_page, False)

    await expect(timed_page.locator("#link")).to_have_text("live")
    await streams(world, 1)


async def hear_a_beat(page, world):
    world.recommender.push(feed_of([film("network")]))
    await expect(page.locator("#feed .title")).to_have_text(["Network"])


async def set_hidden(page, is_hidden):
    await page.evaluate(
        """is_hidden => {
            Object.defineProperty(document, "hidden", { get: () => is_hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


async def streams(world, n):
    """Wait until n feeds are open."""
    await until(lambda: len(world.recommender.streams) == n)
