import json

import pytest
from typer.testing import CliRunner

from infra import bench, cli
from infra.bench import Result
from infra.settings import SharedSettings
from protos.errors import NotReady


class OneEntry:
    """Stands for an installed entry point."""

    def __init__(self, name, target, module="somewhere.module"):
        self.name, self.module, self._target = name, module, target

    def load(self):
        if isinstance(self._target, Exception):
            raise self._target
        return self._target


def register(monkeypatch, module, *entries):
    monkeypatch.setattr(module, "entry_points", lambda group: list(entries))


def greet(name: str) -> None:
    """Say hello."""
    print(f"hello {name}")


def test_a_package_adds_its_command(monkeypatch):
    register(monkeypatch, cli, OneEntry("greet", greet))

    result = CliRunner().invoke(cli.build_app(["greet"]), ["greet", "reader"])

    assert (result.exit_code, result.output) == (0, "hello reader\n")


def test_only_the_command_that_is_asked_for_is_imported(monkeypatch):
    register(monkeypatch, cli, OneEntry("greet", greet), OneEntry("broken", RuntimeError("no")))

    cli.build_app(["greet", "x"])

    with pytest.raises(RuntimeError):
        cli.build_app([])


def test_a_part_that_is_not_installed_says_how_to_get_it(monkeypatch, capsys):
    missing = ModuleNotFoundError(name="torch")
    register(monkeypatch, cli, OneEntry("train", missing, "encoder.train_command"))
    monkeypatch.setattr("sys.argv", ["freshet", "train"])

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    assert stopped.value.code == 1
    assert "pip install 'freshet[encoder]'" in capsys.readouterr().err


def test_an_error_of_ours_is_one_sentence_without_a_traceback(monkeypatch, capsys):
    def fail() -> None:
        raise NotReady("no bundle; run: freshet train ml-100k")

    register(monkeypatch, cli, OneEntry("fail", fail))
    monkeypatch.setattr("sys.argv", ["freshet", "fail"])

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: no bundle; run: freshet train ml-100k\n"


def test_a_setting_out_of_range_names_the_field(monkeypatch, capsys):
    def fail() -> None:
        SharedSettings(n_partitions=0)

    register(monkeypatch, cli, OneEntry("fail", fail))
    monkeypatch.setattr("sys.argv", ["freshet", "fail"])

    with pytest.raises(SystemExit):
        cli.main()

    assert "n_partitions: Input should be greater" in capsys.readouterr().err


def test_a_benchmark_ends_with_one_json_line(monkeypatch, capsys):
    def measure(quick: bool) -> Result:
        print("some progress")
        return Result(figures={"p50_ms": 1.5}, bar={"p50_ms": "< 60"}, ok=True)

    register(monkeypatch, bench, OneEntry("mill", measure))

    bench.bench("mill", quick=True)

    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["name"] == "mill"
    assert report["figures"] == {"p50_ms": 1.5}
    assert report["quick"] is True
    assert {"against", "bar", "ok", "machine", "commit", "seconds"} <= set(report)


def test_benchmarks_are_listed_for_programs_too(monkeypatch, capsys):
    register(monkeypatch, bench, OneEntry("b", None), OneEntry("a", None))

    bench.bench(None, as_json=True)

    assert json.loads(capsys.readouterr().out) == ["a", "b"]
