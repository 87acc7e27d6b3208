"""The measure of moontide's cost, in short: everything arrives, at the pace of the endpoint.

The promised bounds are those of ``make overhead`` on a machine that does nothing else; here others may work beside.
"""

from tests.measure.load import Round
from tests.measure.overhead import DIRECT, PROCESSES, THROUGH, Size, first_token, measure, token_rates


def test_a_short_measure_through_the_whole_stack() -> None:
    result = measure(Size(streams=8, tokens=100, rounds=1, requests=10))
    assert result["paced_tokens_per_second"] == 400
    assert 0.8 < result["rate_ratio"] < 1.05
    assert 0 < result["first_token_p50_difference_seconds"] < 0.1
    assert set(result["processor_seconds_per_1000_tokens"]) == set(PROCESSES)
    assert all(0 <= seconds < 5 for seconds in result["processor_seconds_per_1000_tokens"].values())


def test_rates_are_all_tokens_by_all_seconds_and_the_first_rounds_warm_up() -> None:
    rounds = [Round(name, [seconds], 100, 2.0) for name in (DIRECT, THROUGH) for seconds in (9.0, 1.0, 2.0, 3.0)]
    assert first_token(rounds, warm_up=1) == {DIRECT: 2.0, THROUGH: 2.0}
    assert token_rates(rounds) == {DIRECT: 50.0, THROUGH: 50.0}
