import pytest

from infra.endpoints import Endpoints
from infra.stack.kafka_server import (
    ensure_jars,
    jar_folder,
    java_version,
    require_java,
    server_properties,
)
from infra.stack.launcher import Silent
from infra.stack.milvus_server import etcd_yaml
from infra.stack.plan import check_requirements, find_externals, make_plan, moved_ports, parse_names
from infra.stack.ports import PortReservations
from infra.stack.probes import Probe
from infra.stack.services import NAMES
from infra.stack.state import StateFolder
from protos.errors import InvalidInput, NotReady

OWN = frozenset(NAMES) - {"kafka", "milvus"}


@pytest.fixture
def state(tmp_path):
    folder = StateFolder.at(tmp_path / ".freshet")
    folder.claim()
    folder.bundle.mkdir()
    (folder.bundle / "config.json").write_text("{}")
    return folder


def plan_for(wanted, state, tmp_path, addresses=None, **options):
    with PortReservations("test", tmp_path) as ports:
        return make_plan(frozenset(wanted), state, ports, addresses or {}, Silent(), **options)


def test_parts_are_named_by_commas():
    assert parse_names("kafka, milvus") == {"kafka", "milvus"}
    assert parse_names(None) == set(NAMES)


@pytest.mark.parametrize("text", ["kafak", "kafka,web,page", ",", ""])
def test_an_unknown_part_is_refused_with_the_known_ones(text):
    with pytest.raises(InvalidInput, match="kafka, milvus, encoder"):
        parse_names(text)


def test_a_given_kafka_is_not_started(state, tmp_path):
    plan = plan_for(["kafka"], state, tmp_path, {"kafka_bootstrap": "broker.example:9092"})

    assert plan.services == ()
    assert plan.externals[0].probe == Probe("kafka", "broker.example:9092")
    assert plan.endpoints.kafka_bootstrap == "broker.example:9092"


def test_what_is_given_but_not_wanted_is_not_asked():
    assert find_externals(frozenset({"web"}), {"kafka_bootstrap": "a:1"}) == ()


def test_every_own_process_listens_on_loopback_at_a_port_of_its_own(state, tmp_path):
    plan = plan_for(OWN, state, tmp_path, default_ports=False)

    ports = []
    for service in plan.services:
        for name, value in service.environment.items():
            if name.endswith("_LISTEN"):
                assert value.startswith("127.0.0.1:")
            if name.endswith(("_LISTEN", "_METRICS_PORT")):
                ports.append(value.rpartition(":")[2])
    assert len(set(ports)) == len(ports) == 9  # five processes, four of them with a server


def test_the_addresses_of_a_plan_are_those_of_its_services(state, tmp_path):
    plan = plan_for(OWN, state, tmp_path, default_ports=False)

    by_name = {service.name: service for service in plan.services}
    assert plan.endpoints.encoder == by_name["encoder"].environment["FRESHET_ENCODER_LISTEN"]
    assert plan.endpoints.web == by_name["web"].address
    assert plan.endpoints.milvus_uri == Endpoints().milvus_uri


def test_the_encoder_gets_the_bundle_of_this_state_folder(state, tmp_path):
    plan = plan_for(["encoder"], state, tmp_path)

    assert plan.services[0].environment["FRESHET_ENCODER_BUNDLE"] == str(state.path / "bundle")


def test_a_missing_model_says_how_to_train_one(tmp_path):
    state = StateFolder.at(tmp_path)

    with pytest.raises(NotReady, match=r"no model bundle in .*/bundle; run: freshet train ml-100k"):
        check_requirements(frozenset({"encoder"}), state)


def test_a_port_that_moved_is_said(state, tmp_path):
    plan = plan_for(["web"], state, tmp_path, default_ports=False)

    address = plan.services[0].address
    assert moved_ports(plan) == [f"port 8080 is taken; web is at {address}"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_202"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("no such thing", 0),
    ],
)
def test_the_version_of_java_is_read(text, version):
    assert java_version(text) == version


def test_a_missing_java_says_what_to_install(monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(NotReady, match="java 17 is not on PATH; install it"):
        require_java()


def test_an_old_java_says_what_to_install(monkeypatch, tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019' >&2\n")
    java.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NotReady, match="is java 11, Kafka needs 17 or newer; install it"):
        require_java()


class MavenStandIn:
    """An `mvn` on PATH that writes one jar, or fails."""

    def __init__(self, folder, monkeypatch) -> None:
        self._folder = folder
        self.pom = folder / "pom.xml"
        self.pom.write_text("<project/>")
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def does(self, script: str) -> None:
        mvn = self._folder / "mvn"
        mvn.write_text(f'#!/bin/sh\nfor word in "$@"; do last=$word; done\n{script}\n')
        mvn.chmod(0o755)


@pytest.fixture
def maven(tmp_path, monkeypatch):
    return MavenStandIn(tmp_path, monkeypatch)


WRITES_A_JAR = """
jars=${last#-DoutputDirectory=}
mkdir -p "$jars"
echo "[INFO] Downloaded from central: host/kafka_2.13-4.3.0.jar (5 kB)"
echo x > "$jars/kafka_2.13-4.3.0.jar"
"""


def test_jars_are_fetched_once(maven):
    maven.does(WRITES_A_JAR)
    told = []

    jars = ensure_jars(told.append, maven.pom)
    maven.does("exit 1")

    assert ensure_jars(told.append, maven.pom) == jars == jar_folder(maven.pom)
    assert [path.name for path in jars.iterdir()] == ["kafka_2.13-4.3.0.jar"]
    assert told == ["kafka_2.13-4.3.0.jar"]


def test_a_fetch_that_fails_leaves_nothing_and_says_why(maven):
    maven.does(WRITES_A_JAR + 'echo "[ERROR] host is unreachable"; exit 1')

    with pytest.raises(NotReady, match="could not fetch Kafka: host is unreachable; check that"):
        ensure_jars(lambda name: None, maven.pom)

    assert list(jar_folder(maven.pom).parent.iterdir()) == []


def test_another_pom_is_another_folder(maven):
    before = jar_folder(maven.pom)
    maven.pom.write_text("<project>4.4.0</project>")

    assert jar_folder(maven.pom) != before


def test_a_missing_maven_says_what_to_install(maven, monkeypatch):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(NotReady, match="mvn is not on PATH; install it"):
        ensure_jars(lambda name: None, maven.pom)


def test_kafka_listens_on_loopback_only(tmp_path):
    text = server_properties(tmp_path, port=1111, controller_port=2222)

    assert "listeners=PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222\n" in text
    assert "controller.quorum.voters=1@127.0.0.1:2222\n" in text


def test_the_embedded_etcd_gets_its_own_two_ports():
    text = etcd_yaml(client_port=1111, peer_port=2222)

    assert "listen-client-urls: http://127.0.0.1:1111\n" in text
    assert "listen-peer-urls: http://127.0.0.1:2222\n" in text


def test_a_stack_that_its_own_keys_would_shut_out_is_not_planned(state, tmp_path, monkeypatch):
    monkeypatch.setenv("FRESHET_API_KEYS", str(tmp_path / "keys.toml"))

    with pytest.raises(NotReady, match="set FRESHET_API_KEY beside it"):
        plan_for(["gateway"], state, tmp_path)


def test_the_page_is_asked_by_tls_when_it_speaks_tls(state, tmp_path, monkeypatch):
    for name in ("FRESHET_TLS_CERT", "FRESHET_TLS_KEY", "FRESHET_TLS_CA"):
        monkeypatch.setenv(name, str(tmp_path / "x.pem"))

    plan = plan_for(["web"], state, tmp_path)

    assert plan.services[0].probe.target == f"https://{plan.services[0].address}"
