from infra.gen_protos import ROOT, generate


def test_committed_code_matches_the_protos(tmp_path):
    generate(tmp_path)

    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    assert len(fresh) >= 3 * 5
    assert fresh == {path: (ROOT / path).read_text() for path in fresh}


def test_no_generated_file_is_without_its_proto():
    generated = {path.name.split("_pb2")[0] for path in (ROOT / "protos").rglob("*_pb2*.py")}

    assert generated == {path.stem for path in (ROOT / "protos").rglob("*.proto")}
