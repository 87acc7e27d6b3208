from schemas.blobs import BlobRef
from shared.language.kept import Kept


def ref(name: str) -> BlobRef:
    return BlobRef(key=name, size_bytes=4)


def test_what_was_made_of_a_payload_is_the_same_object_again() -> None:
    kept, value = Kept[list[int]](), [1]
    assert kept.get(ref("a")) is None
    kept.keep(ref("a"), value, 4)
    kept.keep(b"inline", value, 6)
    assert kept.get(ref("a")) is value
    assert kept.get(b"inline") is value
    assert kept.get(ref("b")) is None


def test_the_one_unused_for_longest_goes_first_and_bytes_stay_bounded() -> None:
    kept = Kept[str](max_bytes=10)
    for name in ("a", "b"):
        kept.keep(ref(name), name, 4)
    assert kept.get(ref("a")) == "a"
    kept.keep(ref("c"), "c", 4)
    assert (kept.get(ref("a")), kept.get(ref("b")), kept.get(ref("c"))) == ("a", None, "c")
    kept.keep(ref("huge"), "huge", 11)
    assert kept.get(ref("huge")) is None
    assert kept.get(ref("c")) == "c"
