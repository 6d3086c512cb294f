from infra.hops import hop_durations
from protos.rec.v1.interests_pb2 import Hop


def test_each_hop_is_measured_from_the_one_before():
    hops = [Hop(name="accepted", at_us=1_000), Hop(name="folded", at_us=3_500)]

    durations = hop_durations(hops, received_us=4_000)

    assert durations == {"folded": (3_500 - 1_000) / 1000, "delivered": (4_000 - 3_500) / 1000}


def test_no_hops_have_no_durations():
    assert hop_durations([]) == {}
