import json

import pytest

from infra.endpoints import STACK_FILE, Endpoints
from protos.errors import NotReady


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch):
    for name in Endpoints().environment():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("FRESHET_STATE", raising=False)


@pytest.fixture
def recorded(tmp_path):
    addresses = {"kafka_bootstrap": "127.0.0.1:29092", "encoder": "127.0.0.1:25052"}
    (tmp_path / STACK_FILE).write_text(json.dumps({"endpoints": addresses}))
    return tmp_path


def test_without_anything_the_defaults_hold(tmp_path):
    assert Endpoints.load(tmp_path) == Endpoints()


def test_a_running_stack_comes_before_the_defaults(recorded):
    found = Endpoints.load(recorded)

    assert found.kafka_bootstrap == "127.0.0.1:29092"
    assert found.web == Endpoints().web


def test_the_environment_comes_before_a_running_stack(recorded, monkeypatch):
    monkeypatch.setenv("FRESHET_KAFKA_BOOTSTRAP", "broker.example:9092")

    found = Endpoints.load(recorded)

    assert found.kafka_bootstrap == "broker.example:9092"
    assert found.encoder == "127.0.0.1:25052"


def test_an_empty_variable_is_as_none(recorded, monkeypatch):
    monkeypatch.setenv("FRESHET_ENCODER", "")

    assert Endpoints.load(recorded).encoder == "127.0.0.1:25052"


def test_the_state_folder_is_the_one_in_the_environment(recorded, monkeypatch):
    monkeypatch.setenv("FRESHET_STATE", str(recorded))

    assert Endpoints.load().encoder == "127.0.0.1:25052"


def test_an_address_of_a_later_version_is_ignored(tmp_path):
    (tmp_path / STACK_FILE).write_text(json.dumps({"endpoints": {"teleporter": "x:1"}}))

    assert Endpoints.load(tmp_path) == Endpoints()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"endpoints": 3}', "{"])
def test_a_broken_record_says_what_to_do(tmp_path, text):
    (tmp_path / STACK_FILE).write_text(text)

    with pytest.raises(NotReady, match="run: freshet down"):
        Endpoints.load(tmp_path)


def test_its_environment_leads_back_to_the_same_addresses(tmp_path, monkeypatch):
    addresses = Endpoints(kafka_bootstrap="a:1", milvus_uri="http://b:2", web="c:3")
    for name, value in addresses.environment().items():
        monkeypatch.setenv(name, value)

    assert Endpoints.load(tmp_path) == addresses
