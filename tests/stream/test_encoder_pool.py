import asyncio
from collections import Counter

import pytest

from protos.errors import DependencyDown, Overloaded, TooLate
from protos.rec.v1.encoder_pb2 import (
    EncodeItemsResponse,
    ItemText,
    RefreshRequest,
    RefreshResponse,
    UserResult,
    UserState,
)
from stream.encoder_client import Model
from stream.encoder_pool import EncoderPool


def model(version="m1", sequence=1):
    return Model(version, "c", 12, sequence, 4, 4)


class FakeEncoder:
    """Signs its answers with its name."""

    def __init__(self, name, serves=None):
        self.name, self.serves = name, serves or model()
        self.error = None
        self.users = []
        self.is_closed = False

    async def refresh(self, request):
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.users += [user.user_id for user in request.users]
        words = [f"{self.name} {user.user_id} {len(request.items)}" for user in request.users]
        return RefreshResponse(results=[UserResult(reason=word) for word in words])

    async def encode_items(self, items):
        if self.error is not None:
            raise self.error
        return EncodeItemsResponse(model_version=self.name)

    async def model(self):
        if self.error is not None:
            raise self.error
        return self.serves

    async def close(self):
        self.is_closed = True


@pytest.fixture
def members():
    return {name: FakeEncoder(name) for name in ("a:1", "b:2", "c:3")}


@pytest.fixture
def pool(members):
    return EncoderPool(dict(members))


def asked(n_users=60, version="m1", items=()):
    users = [UserState(user_id=f"u{n}", model_version=version) for n in range(n_users)]
    return RefreshRequest(users=users, items=items)


def owners(response):
    return [result.reason.split()[0] for result in response.results]


async def test_answers_come_in_the_order_of_the_users_with_the_items_sent_to_each(pool):
    response = await pool.refresh(asked(items=[ItemText(item_id="i")]))

    words = [result.reason.split() for result in response.results]
    assert [user for _, user, _ in words] == [f"u{n}" for n in range(60)]
    assert {n_items for _, _, n_items in words} == {"1"}


async def test_a_user_stays_with_his_encoder_and_all_have_some(pool):
    first, second = await pool.refresh(asked()), await pool.refresh(asked())

    assert owners(first) == owners(second)
    assert min(Counter(owners(first)).values()) > 60 / 3 / 2


async def test_one_that_dies_moves_its_users_alone(pool, members):
    before = owners(await pool.refresh(asked()))
    members["b:2"].error = DependencyDown("gone")

    after = owners(await pool.refresh(asked()))

    assert "b:2" not in after
    assert all(new == old for old, new in zip(before, after, strict=True) if old != "b:2")
    assert {new for old, new in zip(before, after, strict=True) if old == "b:2"} == {"a:1", "c:3"}


@pytest.mark.parametrize("error", [DependencyDown("gone"), TooLate("hangs")])
async def test_one_that_is_down_is_left_alone_until_it_says_what_it_serves(pool, members, error):
    before = owners(await pool.refresh(asked()))
    members["b:2"].error = error
    await pool.refresh(asked())
    members["b:2"].error = None

    assert "b:2" not in owners(await pool.refresh(asked()))
    await pool.model()

    assert owners(await pool.refresh(asked())) == before


async def test_when_all_are_down_the_last_error_is_raised_and_all_are_tried_again(pool, members):
    for member in members.values():
        member.error = DependencyDown("gone")

    for _ in range(2):
        with pytest.raises(DependencyDown, match="gone"):
            await pool.refresh(asked())
        with pytest.raises(DependencyDown, match="gone"):
            await pool.encode_items([])
        with pytest.raises(DependencyDown, match="gone"):
            await pool.model()

    members["b:2"].error = None
    assert set(owners(await pool.refresh(asked()))) == {"b:2"}


async def test_one_that_is_overloaded_keeps_its_users(pool, members):
    members["b:2"].error = Overloaded("full", retry_after_s=0.1)

    with pytest.raises(Overloaded):
        await pool.refresh(asked())

    members["b:2"].error = None
    assert "b:2" in owners(await pool.refresh(asked()))


async def test_items_are_encoded_by_one_that_is_up(pool, members):
    members["a:1"].error = DependencyDown("gone")

    assert (await pool.encode_items([])).model_version in ("b:2", "c:3")


async def test_the_model_that_most_serve_is_asked_for_and_only_of_them(pool, members):
    members["a:1"].serves = model("m2", 2)
    assert (await pool.model()).model_version == "m1"
    assert set(owners(await pool.refresh(asked()))) == {"b:2", "c:3"}

    members["b:2"].serves = model("m2", 2)
    assert (await pool.model()).model_version == "m2"
    assert set(owners(await pool.refresh(asked(version="m2")))) == {"a:1", "b:2"}


async def test_of_as_many_the_newest_model_counts(pool, members):
    members["a:1"].serves = model("m2", 2)
    members["c:3"].error = DependencyDown("gone")

    assert (await pool.model()).model_version == "m2"


async def test_all_are_closed(pool, members):
    await pool.close()

    assert all(member.is_closed for member in members.values())
