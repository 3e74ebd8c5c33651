"""Keys: unguessable, recognisable, checkable only with the pepper."""

from __future__ import annotations

import pytest

from app.domain.api_keys import hash_key, key_id_of, matches, new_key


def test_a_key_names_its_id_and_matches_only_itself() -> None:
    made, another = new_key(), new_key()
    stored = hash_key(made.text, pepper="p")
    assert key_id_of(made.text) == made.id
    assert made.text.startswith("ns_")
    assert matches(made.text, stored, pepper="p")
    assert not matches(another.text, stored, pepper="p")
    assert not matches(made.text, stored, pepper="q")


def test_a_secret_has_256_bits() -> None:
    assert len(bytes.fromhex(new_key().text.rpartition("_")[2])) == 32


@pytest.mark.parametrize("text", ["", "ns_", "ns_x_y", "sk-123"])
def test_other_texts_are_no_keys(text: str) -> None:
    assert key_id_of(text) is None


@pytest.mark.parametrize("behind", ["0", "\n"])
def test_a_key_with_something_behind_it_is_none(behind: str) -> None:
    assert key_id_of(new_key().text + behind) is None
