import pytest

from protos.errors import FreshetError
from stream.bench.rates import Sample, Speed, median_speed, speed_of


def test_clock_starts_at_the_first_progress_and_ends_with_the_last_event():
    samples = [
        Sample(at_s=10.0, n_events=0, cpu_s=3.0),
        Sample(at_s=15.0, n_events=100, cpu_s=4.0),
        Sample(at_s=16.0, n_events=400, cpu_s=4.3),
        Sample(at_s=17.0, n_events=500, cpu_s=4.5),
        Sample(at_s=99.0, n_events=500, cpu_s=9.0),
    ]

    speed = speed_of(samples, 500)

    assert speed.events_per_s == (500 - 100) / (17 - 15)
    assert speed.events_per_cpu_s == (500 - 100) / (4.5 - 4.0)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [Sample(1.0, 0, 0.0)],
        [Sample(1.0, 10, 0.0), Sample(2.0, 90, 1.0)],
        [Sample(1.0, 0, 0.0), Sample(2.0, 100, 1.0)],
    ],
    ids=["nothing seen", "no progress", "no end", "all at one look"],
)
def test_no_speed_is_made_up_from_too_few_samples(samples):
    with pytest.raises(FreshetError, match="too few"):
        speed_of(samples, 100)


def test_run_too_short_for_the_processor_clock_divides_by_one_step_of_it():
    samples = [Sample(1.0, 100, 2.0), Sample(2.0, 200, 2.0)]

    assert speed_of(samples, 200).events_per_cpu_s == 100 / 0.01


def test_median_takes_each_figure_by_itself():
    speeds = [Speed(100.0, 30.0), Speed(300.0, 10.0), Speed(200.0, 80.0)]

    assert median_speed(speeds) == Speed(200.0, 30.0)
