"""Regenerate protos/rec/v1/*_pb2*: `python -m infra.gen_protos [out_dir]`.

The include root is the repository root, so a file's import path equals its Python path and its
descriptor name ("protos/rec/v1/...") is ours alone. With `-I protos` a file of ours could collide
with the bare names (common.proto, schema.proto, ...) that pymilvus registers in the same process.
"""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(out: Path) -> None:
    """Write the messages, their type stubs and the service stubs under `out`."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    targets = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{ROOT}", *targets, *sources]) != 0:
        raise SystemExit("protoc refused the .proto files; its message stands above")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
