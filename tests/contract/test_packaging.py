from importlib.metadata import entry_points, packages_distributions

import pytest

PACKAGES = ["stream", "encoder", "retrieval", "infra", "protos"]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_owns_our_import_name(package):
    assert set(packages_distributions().get(package, [])) <= {"freshet"}


@pytest.mark.parametrize("group", ["freshet.commands", "freshet.benchmarks"])
def test_every_registered_entry_point_loads(group):
    entries = entry_points(group=group)

    assert entries
    for entry in entries:
        assert callable(entry.load()) or hasattr(entry.load(), "registered_commands")
