import socket

import grpc
import pytest

from protos.rec.v1.encoder_pb2 import GetModelInfoRequest
from protos.rec.v1.encoder_pb2_grpc import EncoderServiceStub
from stream.bench.contest import WorkerRun
from stream.bench.rates import Speed
from stream.bench.speed import judged
from stream.bench.stub_process import stub_encoder_process


def speeds(*, worker, faust):
    return {
        "worker": [Speed(worker, 2 * worker)] * 2,
        "faust": [Speed(faust, faust)] * 2,
        "two_workers": [Speed(1.5 * worker, worker)],
        "faust_with_table": [Speed(500.0, 700.0)],
        "aiokafka_in_memory": [Speed(30_000.0, 40_000.0)],
    }


def runs(coded_share=1.0):
    run = Speed(1.0, 1.0)
    return [WorkerRun(run, 10, coded_share), WorkerRun(run, 20, None)]


@pytest.mark.parametrize(
    ("worker", "coded_share", "ok"), [(4_000, 1.0, True), (3_999, 1.0, False), (9_000, 0.9, False)]
)
def test_bar_is_a_ratio_of_one_with_every_event_coded(worker, coded_share, ok):
    result = judged(speeds(worker=worker, faust=4_000), runs(coded_share), 100)

    assert result.ok is ok


def test_result_has_ratios_of_medians_of_the_same_run():
    result = judged(speeds(worker=6_000.0, faust=4_000.0), runs(), 100)

    assert result.figures["ratio"] == 6_000 / 4_000
    assert result.figures["cpu_ratio"] == 2 * 6_000 / 4_000
    assert result.figures["refreshes"] == [10, 20]
    assert result.against["two_workers_over_one"] == 1.5
    assert result.against["faust_with_table"]["runs_per_s"] == [500]


def test_stub_encoder_process_serves_and_ends_with_its_block():
    with stub_encoder_process() as address, grpc.insecure_channel(address) as channel:
        stub = EncoderServiceStub(channel)
        served = stub.GetModelInfo(GetModelInfoRequest(), timeout=10).model_version

    host, _, port = address.partition(":")
    assert served == "m-1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
