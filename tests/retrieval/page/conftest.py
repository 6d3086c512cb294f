"""A browser, a world of a few films, and its page."""

import pytest_asyncio
from playwright.async_api import expect

from tests.browser import a_browser, a_page
from tests.retrieval.page.page_world import feed_of, film, page_world, person


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with a_browser() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def world():
    async with page_world() as made:
        alien, fargo = film("alien", "Sci-Fi"), film("fargo", "Crime")
        ada = person("ada", ("heat", "like"), ("jaws", "dismiss"), interests=[[alien], [fargo]])
        made.recommender.users = {"ada": ada, "alan": person("alan"), "bob": person("bob")}
        made.recommender.newest = feed_of(
            [
                film("alien", "Sci-Fi", because=["jaws", "heat"]),
                film("fargo", "Crime", interest=1, because=["jaws"]),
                film("brazil", "Sci-Fi", because=["heat"]),
            ]
        )
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def timed_page(browser, world):
    """A page whose time passes as the test says."""
    async with a_page(browser, "about:blank") as opened:
        await opened.clock.install()
        await opened.goto(world.at("ada"))
        await expect(opened.locator(".item")).to_have_count(3)
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser, world):
    async with a_page(browser, world.at("ada")) as opened:
        await expect(opened.locator(".item")).to_have_count(3)
        await expect(opened.locator(".interest")).to_have_count(2)
        yield opened
