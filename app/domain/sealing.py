"""Sealing: what is kept for a while but must not be readable in a copy of the database."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from Crypto.Cipher import AES

if TYPE_CHECKING:
    from Crypto.Cipher._mode_gcm import GcmMode

_PURPOSE = b"nightshift sealed content"
_NONCE_BYTES = 12
_TAG_BYTES = 16


def seal(content: bytes, *, secret: str, label: str) -> bytes:
    """Encrypt and authenticate with AES-256-GCM: nonce, tag, ciphertext.

    Args:
        label: what the content belongs to; the same is needed to open it.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext, tag = _cipher(secret, nonce, label).encrypt_and_digest(content)
    return nonce + tag + ciphertext


def unseal(sealed: bytes, *, secret: str, label: str) -> bytes:
    """Open what ``seal`` made.

    Raises:
        ValueError: it was sealed with another secret or label, or was changed.
    """
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    return _cipher(secret, nonce, label).decrypt_and_verify(rest[_TAG_BYTES:], rest[:_TAG_BYTES])


def _cipher(secret: str, nonce: bytes, label: str) -> GcmMode:
    key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(label.encode())
    return cipher
