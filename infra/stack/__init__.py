"""The local stack: a real Kafka, a real Milvus and Freshet's own processes on one machine.

`freshet up` (launcher.py) claims a state folder (state.py), chooses ports (ports.py), makes the
table of services (services.py, with kafka_server.py and milvus_server.py), and hands it to
supervisord (supervision.py), which starts, watches and restarts them. The launcher decides the
order by health (probes.py) and follows the logs (log_stream.py). Everything started carries
FRESHET_STATE_ID in its environment; by that, guard.py, `freshet down` and the next `freshet up`
find and stop whatever a crash has left (leftovers.py).
"""
