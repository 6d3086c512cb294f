"""The contract as buf judges it (buf.yaml), by the command that `make buflint` runs."""

import shutil
import subprocess

import pytest

from infra.gen_protos import ROOT

pytestmark = pytest.mark.integration
LIMIT_S = 120


@pytest.fixture(scope="module")
def buf():
    """The command of `make buflint`, without its last word."""
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed; it comes with node")
    said = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "buflint"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    *command, word = said.stdout.split()
    assert word == "lint"
    try:
        subprocess.run([*command, "--version"], check=True, capture_output=True, timeout=LIMIT_S)
    except subprocess.SubprocessError as error:
        pytest.skip(f"npx cannot fetch buf ({error}); is the npm registry within reach?")
    return command


def lint(buf, folder):
    return subprocess.run(
        [*buf, "lint"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S
    )


@pytest.mark.timeout(3 * LIMIT_S)
def test_the_contract_passes_lint(buf):
    said = lint(buf, ROOT)

    assert (said.returncode, said.stdout) == (0, ""), said.stderr


@pytest.mark.timeout(3 * LIMIT_S)
def test_what_lint_forbids_is_found(buf, tmp_path):
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    for path in (ROOT / "protos/rec/v1").glob("*.proto"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("TIER_LIGHT", "LIGHT"))

    said = lint(buf, tmp_path)

    assert said.returncode != 0
    assert 'Enum value name "LIGHT" should be prefixed with "TIER_"' in said.stdout
