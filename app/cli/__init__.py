"""The command line, ``nightshift``."""

from app.cli.root import main

__all__ = ["main"]
