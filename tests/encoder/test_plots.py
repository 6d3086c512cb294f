from matplotlib.image import imread

from encoder.plots import plot_differences


def test_a_comparison_has_a_line_for_each_name_and_a_panel_for_each_metric(tmp_path):
    one, two = {"a": [-1.0, 0.0, 2.0]}, {"a": [-1.0, 0.0, 2.0], "b": [0.1, 0.2, 0.3]}

    small = imread(plot_differences({"hr@10": one}, "hybrid", tmp_path / "small.png"))
    large = imread(plot_differences({"hr@10": two, "mrr@10": two}, "us", tmp_path / "large.png"))

    assert small.std() > 0.01
    assert large.shape[0] > small.shape[0]
    assert (large < 0.9).sum() > (small < 0.9).sum()
