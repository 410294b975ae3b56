"""Guesses are slowed down by address; nobody who has shown the right token is."""

from __future__ import annotations

from gesso.runtime.gate.throttle import ADDRESSES, FREE, INTERVAL, TRUSTED, WINDOW, Throttle

EVE, ME = "198.51.100.7", "203.0.113.9"


def _guessed(throttle: Throttle, address: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        throttle.refused(address, now)


def test_ten_guesses_a_minute_are_free() -> None:
    throttle = Throttle()
    assert throttle.delay(EVE, 0.0) == 0.0
    assert FREE == 10
    _guessed(throttle, EVE, FREE)
    assert [throttle.delay(EVE, 1.0) for _ in range(50)] == [0.0] * 50
    _guessed(throttle, EVE, 1)
    throttle.delay(EVE, 1.0)
    assert throttle.delay(EVE, 1.0) != 0.0


def test_then_one_decision_a_second_and_the_others_are_refused_unseen() -> None:
    throttle = Throttle()
    _guessed(throttle, EVE, FREE + 1)
    assert [throttle.delay(EVE, 5.0) for _ in range(4)] == [0.0, INTERVAL, None, None]
    assert throttle.delay(EVE, 5.5) is None
    assert throttle.delay(EVE, 6.0) == 1.0
    assert throttle.delay(EVE, 9.0) == 0.0


def test_it_ends_a_minute_after_the_guesses() -> None:
    throttle = Throttle()
    _guessed(throttle, EVE, FREE + 1, now=0.0)
    assert [throttle.delay(EVE, WINDOW - 0.1) for _ in range(3)][-1] is None
    assert [throttle.delay(EVE, WINDOW) for _ in range(9)] == [0.0] * 9
    _guessed(throttle, EVE, FREE, now=WINDOW)
    assert [throttle.delay(EVE, WINDOW) for _ in range(9)] == [0.0] * 9


def test_other_addresses_are_not_slowed() -> None:
    throttle = Throttle()
    _guessed(throttle, EVE, 100)
    assert [throttle.delay(ME, 1.0) for _ in range(9)] == [0.0] * 9


def test_an_address_that_has_shown_the_right_token_is_not_slowed_for_an_hour() -> None:
    throttle = Throttle()
    throttle.accepted(ME, 0.0)
    _guessed(throttle, ME, 100, now=TRUSTED - 30)
    assert [throttle.delay(ME, TRUSTED - 1) for _ in range(9)] == [0.0] * 9
    assert [throttle.delay(ME, TRUSTED) for _ in range(3)] == [0.0, 1.0, None]


def test_the_right_token_ends_it_at_once() -> None:
    throttle = Throttle()
    _guessed(throttle, EVE, 100)
    throttle.accepted(EVE, 1.0)
    assert [throttle.delay(EVE, 1.0) for _ in range(9)] == [0.0] * 9


def test_only_what_caddy_added_counts_as_the_address() -> None:
    throttle = Throttle()
    for number in range(FREE + 1):
        throttle.refused(f"10.0.0.{number}, {EVE}", 0.0)
    assert [throttle.delay(EVE, 0.0) for _ in range(3)][-1] is None
    assert throttle.delay("10.0.0.1", 0.0) == 0.0


def test_an_ipv6_customer_is_one_client() -> None:
    throttle = Throttle()
    for number in range(FREE + 1):
        throttle.refused(f"2001:db8:1:2::{number:x}", 0.0)
    assert [throttle.delay("2001:db8:1:2:ffff::1", 0.0) for _ in range(3)][-1] is None
    assert throttle.delay("2001:db8:1:3::1", 0.0) == 0.0
    _guessed(throttle, EVE, FREE + 1)
    assert [throttle.delay(f"::ffff:{EVE}", 0.0) for _ in range(3)][-1] is None


def test_the_tables_are_bounded_and_guesses_do_not_push_out_trust() -> None:
    throttle = Throttle()
    throttle.accepted(ME, 0.0)
    _guessed(throttle, ME, FREE + 1)
    for number in range(3 * ADDRESSES):
        throttle.refused(f"10.1.{number >> 8}.{number & 255}", 0.0)
    _guessed(throttle, ME, FREE + 1)
    assert throttle.delay(ME, 0.0) == 0.0
    for number in range(3 * ADDRESSES):
        throttle.accepted(f"10.1.{number >> 8}.{number & 255}", 0.0)
    assert len(throttle._refused) == len(throttle._trusted) == ADDRESSES
    assert [throttle.delay(ME, 0.0) for _ in range(3)][-1] is None, "the oldest go first"


def test_an_unknown_address_counts_as_one() -> None:
    throttle = Throttle()
    _guessed(throttle, "", FREE)
    _guessed(throttle, "nonsense", 1)
    assert [throttle.delay("", 0.0) for _ in range(3)][-1] is None
