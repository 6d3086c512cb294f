import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from infra.stack.probes import Probe
from infra.stack.services import Service
from infra.stack.state import StateFolder
from infra.stack.supervision import GUARD, quoted, render_config

AWKWARD = [
    "plain",
    "two words",
    "50% off %(here)s",
    "semi ; colon",
    "hash # tag",
    "it's",
    'say "so"',
    " ; # ;# both",
    "a=b",
    "",
]


def read_as_supervisord_does(line: str, tmp_path: Path) -> list[str]:
    """Return the words of a command after its file format, %-expansion and shlex."""
    path = tmp_path / "supervisord.conf"
    path.write_text(f"[program:x]\ncommand = {line}\n")
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read(path)
    return shlex.split(parser["program:x"]["command"] % {})


@pytest.mark.parametrize("word", AWKWARD)
def test_any_argument_survives_the_configuration_file(word, tmp_path):
    line = quoted(("run", word, "end"), {})

    assert read_as_supervisord_does(line, tmp_path) == ["run", word, "end"]


@pytest.mark.parametrize("value", AWKWARD)
def test_any_value_of_the_environment_survives_too(value, tmp_path):
    code = "import os; print(os.environ['FRESHET_X'], end='')"
    line = quoted((sys.executable, "-c", code), {"FRESHET_X": value})
    words = read_as_supervisord_does(line, tmp_path)

    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert done.stdout == value


def test_each_service_and_the_guard_become_a_program(tmp_path):
    state = StateFolder.at(tmp_path)
    services = [
        Service("kafka", ("java", "kafka.Kafka"), "a:1", Probe("tcp", "a:1"), stop_s=15),
        Service(
            "milvus",
            ("milvus",),
            "b:2",
            Probe("tcp", "b:2"),
            directory=state.path / "milvus",
            stop_signal="KILL",
        ),
    ]

    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(render_config(services, state))

    programs = {name.removeprefix("program:") for name in parser if name.startswith("program:")}
    assert programs == {"kafka", "milvus", GUARD}
    assert parser["program:kafka"]["stopwaitsecs"] == "15"
    assert parser["program:milvus"]["stopsignal"] == "KILL"
    assert parser["program:milvus"]["directory"] == "%(ENV_FRESHET_STATE)s/milvus"
    stops = sorted(programs, key=lambda name: -int(parser[f"program:{name}"]["priority"]))
    assert stops == ["milvus", "kafka", GUARD]


def test_services_wait_to_be_started_and_the_guard_does_not(tmp_path):
    service = Service("web", ("web",), "a:1", Probe("tcp", "a:1"))

    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(render_config([service], StateFolder.at(tmp_path)))

    assert parser["program:web"]["autostart"] == "false"
    assert parser[f"program:{GUARD}"]["autostart"] == "true"
