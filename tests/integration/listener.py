"""Who listens on a port of this machine."""

import psutil


def listener(address: str) -> psutil.Process | None:
    """Return the process that listens at `host:port`; None when it runs on another machine."""
    port = int(address.rpartition(":")[2])
    pids = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid
    }
    return psutil.Process(pids.pop()) if pids else None
