"""The page by keys: the picker, the address, the feed, and where the focus goes."""

import pytest
from playwright.async_api import expect

from tests.retrieval.page.page_world import (
    feed_of,
    film,
    published,
)

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


async def test_the_picker_is_a_combobox_that_keys_alone_can_use(page):
    picker = page.get_by_role("combobox", name="User")
    await page.keyboard.press("/")
    await expect(picker).to_be_focused()
    await picker.fill("a")
    await expect(picker).to_have_attribute("aria-expanded", "true")
    assert await page.get_by_role("option").all_inner_texts() == [
        "ada\n2 events", "alan\n0 events", "“a”\nnew user",
    ]  # fmt: skip

    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    active = await picker.get_attribute("aria-activedescendant")
    await expect(page.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    await page.keyboard.press("Enter")

    await expect(page).to_have_title("alan · Freshet")
    await expect(picker).to_have_attribute("aria-expanded", "false")


async def test_escape_leaves_the_picker_with_nothing_changed(page):
    picker = page.get_by_role("combobox", name="User")
    await picker.fill("bo")
    await expect(page.get_by_role("option").first).to_be_visible()

    await page.keyboard.press("Escape")
    await expect(page.locator("#people")).to_be_hidden()
    await page.keyboard.press("Escape")

    await expect(picker).to_have_value("ada")
    assert await page.title() == "ada · Freshet"


async def test_a_name_that_was_begun_and_left_gives_way_to_the_user_who_is_shown(page):
    picker = page.get_by_role("combobox", name="User")
    await picker.fill("bo")

    await page.keyboard.press("Tab")

    await expect(picker).to_have_value("ada")


async def test_back_returns_to_the_user_before_and_an_address_leads_to_its_user(world, page):
    picker = page.get_by_role("combobox", name="User")
    await picker.fill("bob")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(world.at("bob"))

    await page.go_back()

    await expect(page).to_have_title("ada · Freshet")
    await expect(picker).to_have_value("ada")
    await expect(page.locator("#history .event")).to_have_count(2)


async def test_the_skip_link_leads_to_the_feed_and_to_no_other_user(page):
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the feed")).to_be_focused()
    await page.keyboard.press("Enter")

    await expect(page.locator("#feed")).to_be_focused()
    assert await page.title() == "ada · Freshet"


async def test_everything_in_the_feed_can_be_done_by_keys(world, page):
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await expect(page.locator('[data-item="fargo"]')).to_be_focused()
    outline = await page.locator('[data-item="fargo"]').evaluate("e => getComputedStyle(e).outline")
    assert "2px" in outline
    await page.keyboard.press("x")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")

    done = [(event.item_id, event.action) for event in await published(world, 3)]
    assert done == [("fargo", "dismiss"), ("alien", "click"), ("brazil", "like")]


async def test_focus_goes_with_its_item_and_where_that_is_gone_to_its_place(world, page):
    await page.locator('[data-item="brazil"]').focus()
    world.recommender.push(feed_of([film("brazil"), film("alien"), film("fargo")]))
    await expect(page.locator("#feed .title").first).to_have_text("Brazil")
    await expect(page.locator('[data-item="brazil"]')).to_be_focused()

    world.recommender.push(feed_of([film("network"), film("alien"), film("fargo")]))

    await expect(page.locator('[data-item="network"]')).to_be_focused()
