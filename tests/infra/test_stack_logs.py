from contextlib import closing

import pytest

from infra.stack.log_stream import LogStream, last_lines


class Written:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))


@pytest.fixture
def written():
    return Written()


def append(path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_lines_come_with_their_services_name(tmp_path, written):
    with closing(LogStream(tmp_path, ["kafka", "web"], written)) as stream:
        append(tmp_path / "kafka.log", "one\n")
        append(tmp_path / "web.log", "two\n")
        stream.pump()

    assert written.lines == [("kafka", "one"), ("web", "two")]


def test_what_was_there_before_is_not_repeated(tmp_path, written):
    append(tmp_path / "web.log", "old\n")

    with closing(LogStream(tmp_path, ["web"], written)) as stream:
        append(tmp_path / "web.log", "new\n")
        stream.pump()
        stream.pump()

    assert written.lines == [("web", "new")]


def test_half_a_line_waits_for_its_other_half(tmp_path, written):
    with closing(LogStream(tmp_path, ["web"], written)) as stream:
        append(tmp_path / "web.log", "hal")
        stream.pump()
        append(tmp_path / "web.log", "f\n")
        stream.pump()

    assert written.lines == [("web", "half")]


def test_a_rotated_log_loses_no_line(tmp_path, written):
    log = tmp_path / "web.log"
    append(log, "old\n")

    with closing(LogStream(tmp_path, ["web"], written)) as stream:
        append(log, "last of the old file\n")
        log.rename(tmp_path / "web.log.1")
        append(log, "first of the new\n")
        stream.pump()

    assert written.lines == [("web", "last of the old file"), ("web", "first of the new")]


def test_a_line_that_never_ends_does_not_fill_the_memory(tmp_path, written):
    with closing(LogStream(tmp_path, ["web"], written)) as stream:
        for _ in range(3):
            append(tmp_path / "web.log", "x" * 2**20)
            stream.pump()
        append(tmp_path / "web.log", "\n")
        stream.pump()

    assert [len(line) for _, line in written.lines] == [20_000]


def test_the_last_lines_of_a_log(tmp_path):
    append(tmp_path / "web.log", "a\nb\nc\n")

    assert last_lines(tmp_path / "web.log", 2) == ["b", "c"]
    assert last_lines(tmp_path / "web.log", 2, after_bytes=len("a\nb\n")) == ["c"]
    assert last_lines(tmp_path / "none.log", 2) == []
