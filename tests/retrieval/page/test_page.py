"""The page in a real browser: what a reader sees and does (tests/browser.py says which browser)."""

import asyncio

import pytest
from playwright.async_api import expect

from protos.rec.v1.recommend_pb2 import ItemSource, Source
from tests.browser import a_page
from tests.retrieval.page.page_world import (
    feed_of,
    film,
    like_and_follow,
    person,
    published,
    titles,
)
from tests.retrieval.test_web import EVIL

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

EVIL_NAME = "<b onclick=alert(1)>&amp;"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


async def test_history_interests_and_feed_of_the_user_in_the_address_stand_side_by_side(page):
    await expect(page.locator("#history .event")).to_have_count(2)
    assert await page.locator(".interest h3").all_text_contents() == ["Sci-Fi", "Crime"]
    assert await page.locator(".weight").all_text_contents() == ["75%", "50%"]
    assert await titles(page) == ["Alien", "Fargo", "Brazil"]
    assert await page.title() == "ada · Freshet"


async def test_every_item_says_which_interest_found_it_and_because_of_what(page):
    reasons = await page.locator(".why").all_inner_texts()

    # Nobody is shown an item because of what he dismissed.
    assert reasons[0] == "Sci-Fi because you liked Heat"
    assert reasons[1] == "Crime near this interest"


async def test_an_item_that_has_its_place_as_a_new_one_says_so(world, page):
    film_of_today = film("today", because=["heat"], source=ItemSource.ITEM_SOURCE_NEW)
    world.recommender.push(feed_of([film_of_today]))

    await expect(page.locator('[data-item="today"] .because')).to_have_text("new in the catalogue")


async def test_a_click_is_seen_at_once_and_sent_once_however_often_it_is_clicked(world, page):
    world.gateway.gate.clear()
    item = page.locator('[data-item="fargo"]')

    await item.locator('[data-action="like"]').click()
    await expect(item.locator(".state")).to_have_text("liked")
    await item.focus()
    await page.keyboard.press("l")
    await item.locator('[data-action="like"]').dispatch_event("click")
    world.gateway.gate.set()
    await page.locator('[data-item="alien"] [data-action="dismiss"]').click()

    events = await published(world, 2)
    assert [(one.item_id, one.action) for one in events] == [
        ("fargo", "like"),
        ("alien", "dismiss"),
    ]
    assert events[0].recommendation_id == "r"


async def test_the_feed_shows_what_is_new_what_moved_and_what_went(world, page):
    await like_and_follow(world, page)

    assert await titles(page) == ["Network", "Brazil", "Alien"]
    assert await page.locator(".moved").all_text_contents() == ["new", "↑ 1", "↓ 2"]
    await expect(page.locator("#changes")).to_have_text("1 new · 2 moved · 1 gone: Fargo")
    await expect(page.locator("#history .fresh .title")).to_have_text("Fargo")


async def test_the_milliseconds_stand_hop_by_hop_and_from_the_click(world, page):
    await like_and_follow(world, page)

    hops = await page.locator("#legend .hop").all_text_contents()
    assert hops == [
        "folded", "requested", "encoded", "published", "received", "searched", "pushed",
    ]  # fmt: skip
    assert await page.locator("#legend b").all_text_contents() == ["5.0"] * 7
    assert await page.locator("#bar i").count() == 7
    await expect(page.locator("#pulse-words")).to_contain_text("from “Fargo” to this feed")
    await expect(page.locator("#pulse-words")).to_contain_text("ms from your click")


async def test_a_screen_reader_hears_a_change_politely_and_once(world, page):
    await like_and_follow(world, page)

    spoken = page.locator('[aria-live="polite"]')
    await expect(spoken).to_have_text(
        "The feed changed 35 milliseconds after Fargo: 1 new item, 2 moved, 1 gone."
    )
    label = await page.locator('[data-item="network"]').get_attribute("aria-label")
    assert label == "1. Network, Sci-Fi, near this interest, new"


async def test_an_event_that_fails_says_so_at_its_item_and_can_be_sent_again(world, page):
    await world.stop("gateway")
    item = page.locator('[data-item="fargo"]')

    await item.locator('[data-action="like"]').click()
    await expect(item.locator(".state")).to_contain_text(
        "The like was not sent: the gateway does not"
    )
    await expect(page.locator("#spoken")).to_contain_text("The like was not sent")
    await world.start("gateway")
    async with asyncio.timeout(20):
        is_sent = False
        while not is_sent:  # gRPC takes a moment to find the gateway again
            async with page.expect_response("**/api/events") as answered:
                await item.get_by_role("button", name="Try again").click()
            is_sent = (await answered.value).ok

    (event,) = await published(world)
    assert (event.item_id, event.action) == ("fargo", "like")


async def test_what_is_sent_again_is_the_same_event_and_counts_once(world, page):
    world.gateway.are_lost = True
    item = page.locator('[data-item="fargo"]')
    await item.locator('[data-action="like"]').click()
    await expect(item.locator(".state")).to_contain_text("the gateway: Kafka does not answer")
    world.gateway.are_lost = False

    await item.get_by_role("button", name="Try again").click()

    first, second = await published(world, 2)
    assert first.event_id == second.event_id != ""
    await expect(item.locator(".state")).to_have_text("liked")


async def test_an_event_that_no_feed_follows_is_said_to_be_stored(world, timed_page):
    item = timed_page.locator('[data-item="fargo"]')
    await item.locator('[data-action="like"]').click()
    await published(world)
    await expect(item.locator(".state")).to_have_text("liked")

    await timed_page.clock.run_for(6_000)

    await expect(item.locator(".state")).to_contain_text("the feed has not followed yet")


async def test_while_the_recommender_is_away_the_page_says_so_and_it_comes_back(world, page):
    await world.stop("recommender")

    await expect(page.locator("#notice")).to_contain_text("The feed is interrupted")
    await expect(page.locator("#notice")).to_contain_text("What stands below is from")
    await expect(page.locator("#link")).to_have_text("reconnecting")
    assert await titles(page) == ["Alien", "Fargo", "Brazil"]
    await world.start("recommender")

    await expect(page.locator("#link")).to_have_text("live", timeout=20_000)
    await expect(page.locator("#notice")).to_be_hidden()


async def test_a_degraded_feed_says_why(world, page):
    reason = "interests of an older model or record"
    world.recommender.push(feed_of([film("alien")], source=Source.SOURCE_LAST_KNOWN, reason=reason))

    await expect(page.locator("#degraded")).to_have_text(f"{reason.capitalize()}.")
    await expect(page.locator("#degraded")).to_be_visible()
    await expect(page.locator("#source")).to_have_text("from last known interests")


async def test_a_user_nobody_knows_sees_what_is_trending_and_how_to_begin(browser, world):
    world.recommender.newest = feed_of(
        [film("alien", interest=-1)],
        source=Source.SOURCE_TRENDING,
        reason="nothing is known of this user yet",
    )
    async with a_page(browser, world.at("eve")) as page:
        await expect(page.locator(".because")).to_have_text("trending now")
        await expect(page.locator("#history")).to_contain_text("No events yet")
        await expect(page.locator("#degraded")).to_have_attribute("data-tone", "calm")


async def test_without_any_user_or_item_the_page_says_what_is_missing(browser, world):
    world.recommender.users, world.recommender.newest = {}, feed_of([])
    async with a_page(browser, world.url) as page:
        await expect(page.locator("#feed")).to_contain_text("Nothing to show yet")
        await page.get_by_role("combobox", name="User").fill("")
        await expect(page.locator("#people")).to_contain_text("No users yet")


@pytest.mark.parametrize("width", [320, 390, 820, 1180])
async def test_no_screen_scrolls_sideways_not_even_with_a_title_without_spaces(
    browser, world, width
):
    endless = "Supercalifragilistic" * 20
    world.recommender.users["ada"] = person("ada", (endless, "like"), interests=[[film(endless)]])
    world.recommender.newest = feed_of([film("alien", "Sci-Fi", title=endless)])
    viewport = {"width": width, "height": 844}
    async with a_page(browser, world.at("ada"), viewport=viewport) as page:
        await expect(page.locator(".interest")).to_have_count(1)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_on_a_phone_the_feed_comes_first_and_fingers_can_hit_every_button(browser, world):
    async with a_page(browser, world.at("ada"), **PHONE) as page:
        await expect(page.locator(".interest")).to_have_count(2)
        tops = [
            (await page.locator(f"section.{name}").bounding_box())["y"]
            for name in ("feed", "interests", "history")
        ]
        assert tops == sorted(tops)
        for button in await page.locator(".acts button, #who").all():
            box = await button.bounding_box()
            assert min(box["width"], box["height"]) >= 44


async def test_motion_stops_for_those_who_asked_for_less(browser, world):
    async with a_page(browser, world.at("ada"), reduced_motion="reduce") as page:
        await expect(page.locator(".item")).to_have_count(3)
        await page.evaluate(
            "() => { Element.prototype.animate = () => { throw new Error('it moves') } }"
        )
        world.recommender.push(feed_of([film("brazil"), film("alien"), film("fargo")]))

        await expect(page.locator(".moved").first).to_have_text("↑ 2")


async def test_titles_categories_and_names_are_text_and_never_markup(browser, world):
    recent = person(EVIL_NAME, ("x", "like"))
    recent.recent[0].item.title = EVIL
    recent.interests.add(interest=0, weight=1, items=[film("y", EVIL, title=EVIL)])
    world.recommender.users = {EVIL_NAME: recent}
    world.recommender.newest = feed_of([film("y", EVIL, title=EVIL, because=["x"])], reason=EVIL)
    async with a_page(browser, world.url) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        await expect(page.locator(".because")).to_have_text(f"because you liked {EVIL}")
        await page.get_by_role("combobox", name="User").click()
        await expect(page.get_by_role("option").first).to_contain_text(EVIL_NAME)

        assert await page.locator("img:not([src='icon.svg']), #people b").count() == 0
