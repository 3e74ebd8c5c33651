"""What is sealed can be opened by its owner and by nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.sealing import seal, unseal


@given(st.binary(max_size=500), st.text(max_size=40))
def test_what_was_sealed_comes_back(content: bytes, label: str) -> None:
    assert unseal(seal(content, secret="pepper", label=label), secret="pepper", label=label) == content


def test_it_does_not_show_its_content_nor_that_two_are_the_same() -> None:
    first, second = (seal(b"ns_secret" * 10, secret="pepper", label="x") for _ in range(2))
    assert b"ns_secret" not in first
    assert first != second


@pytest.mark.parametrize(("secret", "label"), [("another", "x"), ("pepper", "y")])
def test_another_secret_or_label_does_not_open_it(secret: str, label: str) -> None:
    with pytest.raises(ValueError, match="MAC"):
        unseal(seal(b"content", secret="pepper", label="x"), secret=secret, label=label)


@given(st.integers(0, 34), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    sealed = bytearray(seal(b"content", secret="pepper", label="x"))
    sealed[place] ^= change
    with pytest.raises(ValueError, match="MAC"):
        unseal(bytes(sealed), secret="pepper", label="x")


@pytest.mark.parametrize("rubbish", [b"", b"short", b"x" * 28])
def test_rubbish_is_a_value_error(rubbish: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of its checks
        unseal(rubbish, secret="pepper", label="x")
