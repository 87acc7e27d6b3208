"""A derived result's name depends on each of its four fields, and on nothing else."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.blobs.derived import derived_key

fields = st.tuples(st.text(max_size=6), st.text(max_size=6), st.binary(max_size=6), st.text(max_size=6))


@given(one=fields, two=fields)
@settings(max_examples=200, deadline=None)
def test_equal_keys_exactly_for_equal_fields(
    one: tuple[str, str, bytes, str], two: tuple[str, str, bytes, str]
) -> None:
    assert (derived_key(*one) == derived_key(*two)) == (one == two)


def test_fields_do_not_run_together() -> None:
    assert derived_key("ab", "c", b"", "1") != derived_key("a", "bc", b"", "1")


def test_the_name_is_stable_over_releases() -> None:
    spelled_out = b"\2\0\0\0\0\0\0\0ab" + b"\1\0\0\0\0\0\0\0c" + bytes(8) + b"\1\0\0\0\0\0\0\x001"
    assert derived_key("ab", "c", b"", "1") == hashlib.sha256(spelled_out).hexdigest()
