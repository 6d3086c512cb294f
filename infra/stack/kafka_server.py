"""One real Apache Kafka broker (KRaft, combined mode), from jars that Maven resolves once.

The jars lie in the user's cache, in a folder named after the hash of infra/kafka/pom.xml: state
folders and clones share them, and a new version is a new folder.
Measured on two cores (Kafka 4.3.0, Java 17): 3-5 s from start to the first answered request, a
second to format a new folder, 320-350 MB resident.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path

import platformdirs

from infra.stack.probes import Probe
from infra.stack.services import LOOPBACK, Service
from protos.errors import NotReady

POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
MIN_JAVA = 17
HEAP_MB = 350
FETCH_S = 1200

# Warnings only: at info one start is 1,500 lines. "Performing controller activation" is a warning
# at every start.
_LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d{HH:mm:ss.SSS} %p %c{1}: %m%n"
  Loggers:
    Root:
      level: warn
      AppenderRef:
        ref: out
    Logger:
      name: org.apache.kafka.controller.QuorumController
      level: error
"""


def require_java() -> Path:
    """Return the java to use: JAVA_HOME's, else the one on PATH.

    Raises:
        NotReady: there is none, or it is too old.
    """
    install = f"install it, e.g. apt-get install openjdk-{MIN_JAVA}-jre-headless"
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if found is None:
        raise NotReady(f"java {MIN_JAVA} is not on PATH; {install}")
    try:
        asked = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise NotReady(f"{found} does not run ({error}); {install}, or set JAVA_HOME") from error
    version = java_version(asked.stderr)
    if version < MIN_JAVA:
        raise NotReady(f"{found} is java {version}, Kafka needs {MIN_JAVA} or newer; {install}")
    return Path(found)


def java_version(text: str) -> int:
    """Return the major version in what `java -version` prints; 0 when there is none."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else 0


def jar_folder(pom: Path = POM) -> Path:
    """Return where the jars of this pom belong."""
    key = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    return platformdirs.user_cache_path("freshet") / "kafka" / key


def ensure_jars(tell: Callable[[str], None], pom: Path = POM) -> Path:
    """Return the folder with Kafka's jars, fetched now if they are missing.

    A folder under its final name is complete: it is filled under another and renamed.

    Args:
        tell: gets a short line for each file that Maven fetches.

    Raises:
        NotReady: mvn is missing or fails.
    """
    target = jar_folder(pom)
    if target.is_dir():
        return target
    mvn = shutil.which("mvn")
    if mvn is None:
        raise NotReady("mvn is not on PATH; install it, e.g. apt-get install maven")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
        part = Path(folder) / "jars"
        _run_maven([mvn, "-B", "-f", str(pom)], part, tell)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # else another launcher was faster
                raise
    return target


def _run_maven(maven: list[str], jars: Path, tell: Callable[[str], None]) -> None:
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    last: deque[str] = deque(maxlen=200)
    process = subprocess.Popen(
        [*maven, *goal],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            for line in process.stdout or ():
                last.append(line.rstrip())
                if "Downloaded from" in line or "Copying " in line:
                    tell(_file_name(line))
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0 or not any(jars.glob("kafka_*.jar")):
        cause = next((line for line in last if "ERROR" in line), "no jar of Kafka came")
        raise NotReady(
            f"Maven could not fetch Kafka: {cause.removeprefix('[ERROR]').strip()}; "
            "check that Maven reaches a repository (~/.m2/settings.xml), and try again"
        )


def _file_name(line: str) -> str:
    found = re.search(r"([\w.-]+\.(?:jar|pom))\b", line)
    return found.group(1) if found else line.strip()


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """Return the broker's configuration.

    Internal topics get few partitions: one user's machine, and each costs files and start time.
    Topics are created on purpose (kafka_topics.py), as a misspelt name with the wrong number of
    partitions would put users on wrong ones.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(data).replace("\\", "\\\\"),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "8",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def kafka_service(
    java: Path, jars: Path, folder: Path, *, port: int, controller_port: int
) -> Service:
    """Write the configuration under `folder`, format it if it is new, and return its row."""
    folder.mkdir(parents=True, exist_ok=True)
    properties, log4j, logs = folder / "server.properties", folder / "log4j2.yaml", folder / "log"
    properties.write_text(server_properties(logs, port, controller_port))
    log4j.write_text(_LOG4J)
    tool = (str(java), "-cp", f"{jars}/*", f"-Dlog4j2.configurationFile={log4j}")
    if not (logs / "meta.properties").exists():
        _format(tool, properties)
    # One tier of compilation: the second costs a broker on few cores more than it gives back.
    jvm = (
        f"-Xmx{HEAP_MB}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
    )
    return Service(
        name="kafka",
        command=(tool[0], *jvm, *tool[1:], "kafka.Kafka", str(properties)),
        address=f"{LOOPBACK}:{port}",
        probe=Probe("kafka", f"{LOOPBACK}:{port}"),
        start_s=90,
        stop_s=15,
    )


def _format(tool: tuple[str, ...], properties: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # StorageTool reads an id that begins with "-" as an option.
    cluster_id = "F" + cluster_id[1:]
    command = [*tool, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotReady(
            f"Kafka's folder could not be formatted: {' '.join(reason)}; "
            "to begin anew: freshet down --purge"
        )
