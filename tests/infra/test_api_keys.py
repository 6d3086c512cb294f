import os

import pytest
from typer.testing import CliRunner

from infra.api_keys import (
    LOOK_EVERY_S,
    ApiKey,
    KeyFile,
    digest_of,
    make_key,
    parse_keys,
)
from infra.keys_command import app
from protos.errors import InvalidInput, NotReady
from tests.clock import Clock

SHOP = f'[[key]]\nname = "shop"\nsha256 = "{digest_of("s")}"\ntenants = ["shop", "outlet"]\n'
OWN = f'[[key]]\nname = "own"\nsha256 = "{digest_of("o")}"\ntenants = ["*"]\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(SHOP + OWN)
    return path


def rewrite(path, text):
    """As an editor does; a clock that stands still would hide it."""
    path.write_text(text)
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later, later))


def test_a_key_acts_for_its_tenants_and_no_others():
    key = parse_keys(SHOP)[digest_of("s")]

    assert key == ApiKey("shop", frozenset({"shop", "outlet"}))
    assert key.may_act_for({"shop"})
    assert not key.may_act_for({"shop", "other"})
    assert not key.may_act_for({"default"})
    assert parse_keys(OWN)[digest_of("o")].may_act_for({"anything", "at", "all"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"give one \[\[key\]\] or more"),
        ("[[key", "it is no TOML"),
        (SHOP + "[other]\n", "and nothing else"),
        (SHOP + SHOP, r"\[\[key\]\] number 2: 'shop', or its sha256, is there twice"),
        (SHOP.replace('name = "shop"\n', ""), "number 1: it has name, sha256, tenants"),
        (SHOP + 'scope = "x"\n', "number 1: it has name, sha256, tenants"),
        (SHOP.replace(digest_of("s"), "s"), "number 1: sha256 is not 64 lower-case hex digits"),
        (SHOP.replace(digest_of("s"), digest_of("")), "number 1: sha256 is that of no key"),
        (SHOP.replace('["shop", "outlet"]', "[]"), "number 1: tenants is not a list"),
        (SHOP.replace('["shop", "outlet"]', '"shop"'), "number 1: tenants is not a list"),
        (SHOP.replace('"outlet"', '"Outlet"'), "number 1: tenant 'Outlet' must match"),
        (SHOP.replace('"outlet"', '""'), "number 1: tenants has ''"),
        (SHOP.replace('"shop"\n', '"my shop"\n'), "number 1: name 'my shop' must match"),
        (SHOP + "expires = 2030-01-31\n", "number 1: expires 2030-01-31 is no moment with a zone"),
        (SHOP + "expires = 2030-01-31T00:00:00\n", "number 1: expires .* is no moment with a zone"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(text, said):
    with pytest.raises(InvalidInput, match=said):
        parse_keys(text)


@pytest.mark.parametrize("text", [None, "", "[[key", b"\xff"])
def test_a_file_that_cannot_be_used_fails_the_start(path, text):
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(NotReady, match=r"FRESHET_API_KEYS: .*keys\.toml"):
        KeyFile(path)


def test_a_key_ends_when_it_expires(path):
    path.write_text(SHOP + "expires = 1970-01-01T00:01:40Z\n")
    clock = Clock()
    keys = KeyFile(path, now=clock)

    clock.now_s = 99.9
    assert keys.find(digest_of("s")) is not None
    clock.now_s = 100.0
    assert keys.find(digest_of("s")) is None


def test_a_key_is_revoked_and_a_new_one_known_without_a_restart(path):
    clock = Clock()
    keys = KeyFile(path, clock=clock)
    rewrite(path, OWN.replace(digest_of("o"), digest_of("n")))

    assert keys.find(digest_of("s")) is not None
    clock.now_s += LOOK_EVERY_S
    assert keys.find(digest_of("s")) is None
    assert keys.find(digest_of("n")) is not None


@pytest.mark.parametrize("text", ["", "[[key", None])
def test_a_file_that_breaks_keeps_the_old_keys_and_is_logged_once(path, text, capsys):
    clock = Clock()
    keys = KeyFile(path, clock=clock)
    path.unlink()
    if text is not None:
        path.write_text(text)

    for _ in range(3):
        clock.now_s += LOOK_EVERY_S
        assert keys.find(digest_of("s")) is not None
    assert capsys.readouterr().out.count("api_keys_kept_as_they_were") == 1

    rewrite(path, OWN)
    clock.now_s += LOOK_EVERY_S
    assert keys.find(digest_of("s")) is None


def test_keys_differ_and_have_256_bits():
    keys = {make_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(len(key.removeprefix("freshet_")) * 6 >= 256 for key in keys)


def run(*words):
    return CliRunner().invoke(app, ["new", *words])


def test_the_command_prints_the_key_once_and_keeps_its_hash_alone(tmp_path):
    path = tmp_path / "etc" / "keys.toml"

    result = run("shop", "--tenant", "b", "--tenant", "a", "--file", str(path))

    key = result.stdout.strip()
    assert result.exit_code == 0
    assert key not in path.read_text()
    assert key not in result.stderr
    assert KeyFile(path).find(digest_of(key)) == ApiKey("shop", frozenset({"a", "b"}))


def test_the_command_appends_and_leaves_what_is_there(path, monkeypatch):
    monkeypatch.setenv("FRESHET_API_KEYS", str(path))
    path.write_text(f"# ours\n{OWN}")
    path.chmod(0o640)

    key = run("late", "--tenant", "*", "--expires", "2030-01-31").stdout.strip()

    found = parse_keys(path.read_text())
    assert path.read_text().startswith(f"# ours\n{OWN}")
    assert found[digest_of(key)].expires_s == 1_896_048_000  # 2030-01-31T00:00:00Z
    assert digest_of("o") in found
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shop", "--tenant", "a"], "'shop', or its sha256, is there twice"),
        (["new one", "--tenant", "a"], "name 'new one' must match"),
        (["n", "--tenant", "No"], "tenant 'No' must match"),
    ],
)
def test_the_command_refuses_and_changes_nothing(path, words, said):
    before = path.read_text()

    result = run(*words, "--file", str(path))

    assert isinstance(result.exception, InvalidInput)
    assert said in str(result.exception)
    assert path.read_text() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_command_does_not_add_to_a_file_that_is_broken(path):
    path.write_text("[[key")

    result = run("n", "--tenant", "a", "--file", str(path))

    assert isinstance(result.exception, InvalidInput)
    assert path.read_text() == "[[key"


def test_the_command_asks_which_file():
    assert "--file, or FRESHET_API_KEYS" in str(run("n", "--tenant", "a").exception)
