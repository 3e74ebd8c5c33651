"""Nightshift's local stack: the real servers and processes on one machine, without Docker.

Nothing in ``app``, ``tasks``, ``workers`` or ``config`` imports this package. It builds the environment those
processes read, starts them under supervisor, and stops them again.
"""
