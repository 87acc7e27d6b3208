"""Old bytes are read by today's code, and today's bytes by code that knows only the old fields."""

from typing import Any

import pytest

from .samples import all_messages, decoded, encoded, encoder, plain
from .store_wire import FOLDER, missing, stored

MESSAGES = all_messages()
KEPT = sorted({path.name.split(".")[0] for path in FOLDER.glob("*.json")})


def contains(whole: Any, part: Any) -> bool:
    """Whether every field of ``part`` is in ``whole`` with the same value, at every depth."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(contains, whole, part))
    return type(whole) is type(part) and whole == part


@pytest.mark.parametrize("name", KEPT)
def test_every_kept_message_still_exists(name: str) -> None:
    assert name in MESSAGES, "a message that was ever sent stays readable (schemas/README.md)"


@pytest.mark.parametrize("name", KEPT)
def test_old_bytes_are_read_and_nothing_old_is_lost_on_the_way_back(name: str) -> None:
    kind = MESSAGES[name]
    encode = encoder(kind)
    for data in stored(name):
        message = decoded(kind, data)
        assert contains(plain(kind, encode(message)), plain(kind, data))


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_unknown_fields_of_newer_senders_are_ignored(name: str) -> None:
    kind = MESSAGES[name]
    encode = encoder(kind)
    for data in encoded(kind):
        newer = encode({**plain(kind, data), "field_of_tomorrow": [1, {"a": None}]})
        assert decoded(kind, newer) == decoded(kind, data)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_todays_bytes_are_kept(name: str) -> None:
    assert not missing(name, MESSAGES[name]), "run python -m tests.contract.store_wire"


def test_tags_are_unique_and_never_change() -> None:
    tags = [kind.__struct_config__.tag for kind in MESSAGES.values() if kind.__struct_config__.tag]
    assert len(tags) == len(set(tags))


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_messages_are_frozen_and_named_by_keyword(name: str) -> None:
    config = MESSAGES[name].__struct_config__
    assert config.frozen
    assert not config.array_like, "fields travel by name, so that they can be added"
    assert not config.forbid_unknown_fields
    with pytest.raises(TypeError):
        MESSAGES[name](*range(len(MESSAGES[name].__struct_fields__)))


def test_the_comparison_sees_what_it_must_see() -> None:
    assert contains({"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"c": 2}]})
    assert not contains({"a": 1}, {"a": 1.0})
    assert not contains({"a": [1, 2]}, {"a": [1]})
    assert not contains({"a": 1}, {"b": 1})
