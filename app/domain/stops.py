"""Why a running chunk stops before its end."""

from __future__ import annotations

from enum import StrEnum


class Stop(StrEnum):
    """Seen by the lease keeper; the engine stops at its next micro-batch and what it finished is kept.

    What becomes of the rest is decided by the job's row in the transaction that commits, not by this.
    """

    LEASE_LOST = "lease_lost"  # the chunk is another worker's: all of it is in vain
    JOB_STOPPED = "job_stopped"  # cancelled, or its window has closed
    JOB_SET_ASIDE = "job_set_aside"  # paused or held; it may go on later
    REFUSED = "refused"  # nobody would run what is left: it is failed without being tried
    SHUTDOWN = "shutdown"  # this worker is told to leave
