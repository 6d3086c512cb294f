import pytest

from stream.bench.soak import Look, judged


def looks(rss_of):
    return [Look(at_s, rss_of(at_s), 10) for at_s in range(600)]


def test_memory_that_grows_only_at_first_is_flat():
    result = judged(looks(lambda at_s: min(at_s, 200)), 1_200_000, 300)

    assert result.ok
    assert result.figures["mib_per_min"] == 0


def test_a_leak_that_goes_on_is_found():
    result = judged(looks(lambda at_s: 200 + at_s / 30), 1_200_000, 300)

    assert not result.ok
    assert result.figures["mib_per_min"] == pytest.approx(2)
