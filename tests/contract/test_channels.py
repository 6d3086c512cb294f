import re

from infra.gen_protos import ROOT

PACKAGES = ("stream", "encoder", "retrieval", "infra")


def test_every_client_goes_through_the_door():
    # Milvus' health is asked in the clear: its certificates are not ours.
    may = {"infra/channels.py": 2, "infra/stack/probes.py": 1}
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if calls := re.findall(r"\b(?:in)?secure_channel\(", path.read_text()):
                found[str(path.relative_to(ROOT))] = sum(c.startswith("in") for c in calls)

    assert found == may
