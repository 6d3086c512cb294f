import pytest

from infra.attribution import MAX_TAG_BYTES, N_PAIRS, PairLabels, checked_tag
from protos.errors import InvalidInput


def test_a_pair_keeps_its_names_and_what_is_empty_has_one():
    labels = PairLabels()

    assert labels.of("home", "b") == ("home", "b")
    assert labels.of("home", "") == ("home", "none")
    assert labels.of("", "") == ("none", "none")


def test_a_flood_of_names_ends_in_one_pair_and_harms_none_that_was_known():
    labels = PairLabels()
    labels.of("home", "a")

    found = {labels.of(f"forged{number}", "x") for number in range(10 * N_PAIRS)}

    assert len(found) == (N_PAIRS - 1) + 1
    assert ("other", "other") in found
    assert labels.of("home", "a") == ("home", "a")
    assert labels.of("late", "a") == ("other", "other")


@pytest.mark.parametrize("unfit", ["x" * (MAX_TAG_BYTES + 1), "ä" * 33, "a\nb", "\x00", "\u202e"])
def test_an_unfit_name_is_refused_at_the_door_and_counted_as_other(unfit):
    with pytest.raises(InvalidInput, match=r"scenario .* at most 64 bytes of printable"):
        checked_tag(unfit, "scenario")

    labels = PairLabels()
    assert labels.of(unfit, "b") == labels.of("home", unfit) == ("other", "other")


@pytest.mark.parametrize("fit", ["", "x" * MAX_TAG_BYTES, "startseite für Gäste", "首页"])
def test_a_fit_name_passes_as_it_is(fit):
    assert checked_tag(fit, "variant") == fit
