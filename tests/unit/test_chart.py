"""Charts draw what was measured: to scale, open where nothing is known, and never more."""

from __future__ import annotations

from cloud.admin.chart import Chart, Line


def drawn(points: list[tuple[float, float]], most: float = 0.0) -> str:
    svg = Chart("CPU", [Line("used", points, "1 %")], most=most).svg
    return svg.partition(' d="')[2].partition('"')[0]


def test_a_line_goes_from_left_to_right_and_its_highest_value_is_at_the_top() -> None:
    assert drawn([(0.0, 0.0), (0.05, 5.0), (0.1, 10.0)]) == "M0.0 47.0h0L12.0 24.0L24.0 1.0"


def test_the_scale_may_be_wider_than_the_values() -> None:
    assert drawn([(0.0, 5.0)], most=10.0) == "M0.0 24.0h0"


def test_values_above_the_expected_scale_stay_inside() -> None:
    assert drawn([(0.0, 20.0)], most=10.0) == "M0.0 1.0h0"


def test_nothing_is_drawn_where_nothing_is_known() -> None:
    assert drawn([(0.0, 0.0), (0.5, 0.0)]) == "M0.0 47.0h0M120.0 47.0h0"
    assert drawn([]) == ""


def test_a_title_cannot_break_out_of_the_picture() -> None:
    assert "<b>" not in Chart('"><b>', []).svg
