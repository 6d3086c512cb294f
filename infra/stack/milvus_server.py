"""One real Milvus 2.3.5 standalone, from the binaries in the PyPI package `milvus`.

The package's own command, milvus-server, is not used: it forks `milvus run standalone`, does not
notice when that dies, and takes the next port without a word where one is busy. Its parts are:
the binaries are unpacked once into the user's cache (246 MB, 5 s), its template makes milvus.yaml,
and supervisord runs the binary itself.

Found by running it:
* The embedded etcd listens on 2379 and 2380 whatever etcd_port says, so a second Milvus dies at
  its start; only a configuration file named by ETCD_CONFIG_PATH moves it.
* Milvus listens on all interfaces, and no setting changes that (etcd stays on loopback).
* Nothing deregisters at the end: SIGTERM waits for gracefulStopTimeout and aborts. Until the dead
  sessions run out, a restarted Milvus answers "collection not loaded": with the default ttl of
  30 s for 35 s, or for 67 s on other ports; with 5 s for 8-10 s, or 15 s. So ttl is 5 and the stop
  is a SIGKILL; what was written stands in the write-ahead logs of etcd and rocksmq.
* Ready 2-3 s after its start with an empty folder, 3-9 s with data; 210-250 MB resident.
"""

import hashlib
import lzma
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from infra.stack.probes import Probe
from infra.stack.services import LOOPBACK, Service
from protos.errors import NotReady

# By the names that the package's template has for them; etcd_port is etcd_client's here.
COMPONENT_PORTS = (
    "proxy_internal_port",
    "root_coord_port",
    "query_coord_port",
    "query_node_port",
    "index_coord_port",
    "index_node_port",
    "data_coord_port",
    "data_node_port",
)
OTHER_PORTS = ("metrics", "etcd_client", "etcd_peer")
_ROLES = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")


def require_package() -> Path:
    """Return the folder of the `milvus` package's data files.

    Raises:
        NotReady: it is not installed.
    """
    spec = find_spec("milvus")
    if spec is None or spec.origin is None:
        raise NotReady("the milvus package is not installed; run: pip install 'freshet[stack]'")
    return Path(spec.origin).parent / "data"


def ensure_binaries(data: Path, tell: Callable[[str], None]) -> Path:
    """Return the folder with Milvus and its libraries, unpacked now if it is missing."""
    archives = sorted((data / "bin").glob("*.lzma"))
    names = "\n".join(f"{archive.name} {archive.stat().st_size}" for archive in archives)
    key = hashlib.sha256(names.encode()).hexdigest()[:16]
    target = platformdirs.user_cache_path("freshet") / "milvus" / key
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as folder:
        part = Path(folder) / "bin"
        part.mkdir()
        for archive in archives:
            tell(archive.stem)
            _unpack(archive, part / archive.stem)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # else another launcher was faster
                raise
    return target


def _unpack(archive: Path, target: Path) -> None:
    with lzma.open(archive) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 2**20)
    target.chmod(0o755)


def milvus_service(
    data: Path, binaries: Path, folder: Path, *, port: int, ports: dict[str, int]
) -> Service:
    """Write the configuration under `folder` and return its row.

    Args:
        port: of the proxy, where clients connect.
        ports: one for each of COMPONENT_PORTS and OTHER_PORTS.
    """
    _write_configuration(folder, port, ports)
    shutil.copy(data / "glog.conf", folder / "configs" / "glog.conf")
    etcd = folder / "configs" / "etcd.yaml"
    etcd.write_text(etcd_yaml(ports["etcd_client"], ports["etcd_peer"]))
    return Service(
        name="milvus",
        command=(str(binaries / "milvus"), "run", "standalone"),
        address=f"http://{LOOPBACK}:{port}",
        # All components; the proxy alone says SERVING while the others still start.
        probe=Probe("http", f"http://{LOOPBACK}:{ports['metrics']}/healthz"),
        environment={
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(ports["metrics"]),
            "MILVUS_RUN_DIR": str(folder / "run"),
            "MILVUSCONF": str(folder / "configs"),
            "ETCD_CONFIG_PATH": str(etcd),
            "LD_LIBRARY_PATH": str(binaries),
        },
        directory=folder,
        stop_signal="KILL",
        note="milvus listens on all interfaces, without a password (it has no setting for less)",
    )


def etcd_yaml(client_port: int, peer_port: int) -> str:
    """Return the configuration of Milvus' embedded etcd."""
    client, peer = f"http://{LOOPBACK}:{client_port}", f"http://{LOOPBACK}:{peer_port}"
    return (
        "name: default\n"
        f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: default={peer}\n"
        "auto-compaction-mode: revision\nauto-compaction-retention: '1000'\n"
    )


def _write_configuration(folder: Path, port: int, ports: dict[str, int]) -> None:
    # The import makes two server objects that nobody uses, so it is not made before it is needed.
    from milvus import MilvusServerConfig

    config = MilvusServerConfig(data_dir=str(folder))
    config.resolve_storage()
    config.set("proxy_port", port)
    config.set("etcd_port", ports["etcd_client"])
    for name in COMPONENT_PORTS:
        config.set(name, ports[name])
    for role in _ROLES:
        config.set(f"{role}.ip", LOOPBACK)
    config.set("common.session.ttl", 5)
    config.set("common.gracefulStopTimeout", 1)
    # Rows that are not sealed yet would be searched by a rough index, which finds three quarters of
    # what there is; without it they are searched one by one.
    config.set("queryNode.segcore.interimIndex.enableIndex", False)
    # Its log is what supervisord keeps of its output; files of its own would be 20 x 300 MB.
    config.set("system_log_path", "")
    config.set("etcd_log_path", "stdout")
    config.set("etcd_log_level", "error")
    config.set("log.level", "error")
    config.write_config()
