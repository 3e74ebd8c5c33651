"""What the local stack says when it cannot go on."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot start or go on; the message is a sentence for the person at the terminal."""


class NotReady(Exception):
    """A server does not answer yet; the message is what the last attempt met."""
