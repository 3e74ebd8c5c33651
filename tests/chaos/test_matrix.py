"""The fault matrix, row by row, on a stack behind proxies: ``make chaos``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from chaos_rig import ChaosRig
from fault_lab import FaultLab, write_table
from proxied_stack import proxied_stack
from seeded_work import crashing, good
from sqlalchemy import text

from app.wiring import build_wiring
from config.settings import Settings

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]
RESULTS = Path(__file__).parents[2] / ".nightshift" / "chaos"
KILL_WITHIN_S = 10.0
OUTAGE_S = 5.0
BUSY_ANSWER = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def module_lab() -> Iterator[FaultLab]:
    with proxied_stack(NIGHTSHIFT_CHUNK_MAX_ITEMS="5") as stack:
        wiring = build_wiring(Settings.from_environ(stack.direct_settings))
        lab = FaultLab(ChaosRig(stack, wiring), stack)
        yield lab
        write_table(lab.measured, RESULTS)
        wiring.database.close()


@pytest.fixture
def lab(module_lab: FaultLab) -> Iterator[FaultLab]:
    """The lab with every worker well."""
    n_workers = len(module_lab.rig.settings.queues)
    alive = "SELECT count(*) AS n FROM workers WHERE seen_at > now() - interval '6 seconds'"
    module_lab.stack.wait_until(lambda: module_lab.rig.sql(alive)[0]["n"] == n_workers, timeout_s=60, what="workers")
    yield module_lab
    for proxy in module_lab.stack.proxies.values():
        proxy.heal()


# -- processes


def test_no_fault(lab: FaultLab) -> None:
    with lab.fault(
        0, "none", injected="nothing", happens="what the measuring itself takes, under load", within_s=KILL_WITHIN_S
    ) as fault:
        lab.load(fault)
        fault.is_over()


def test_killed_child(lab: FaultLab) -> None:
    with lab.fault(
        1,
        "a device worker's child dies mid-chunk",
        injected="`kill -9` of the child",
        happens="Celery forks another, RabbitMQ gives it the message, it takes the chunk over; one death is counted",
        within_s=KILL_WITHIN_S,
    ) as fault:
        queue = lab.load(fault)["queue"]
        os.kill(lab.rig.child_of(queue), signal.SIGKILL)
        fault.is_over(queue=queue)


def test_killed_worker(lab: FaultLab) -> None:
    with lab.fault(
        2,
        "a whole device worker dies mid-chunk",
        injected="`kill -9` of the parent",
        happens="the child dies with it, the supervisor starts another, which takes the chunk over",
        within_s=KILL_WITHIN_S,
    ) as fault:
        queue = lab.load(fault)["queue"]
        child = psutil.Process(lab.rig.child_of(queue))
        lab.stack.kill(queue)
        fault.is_over(queue=queue)
        lab.stack.wait_until(lambda: not child.is_running(), timeout_s=5, what="the end of the orphaned child")


def test_killed_between_commit_and_acknowledgement(lab: FaultLab) -> None:
    with lab.fault(
        3,
        "a worker dies between its commit and its acknowledgement",
        injected="SIGSTOP to the parent until the chunk is `done`, then `kill -9`",
        happens="the message comes again and finds the chunk done; nothing is computed twice",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault)
        lab.stack.kill(chunk["queue"], signal.SIGSTOP)
        is_done = "SELECT attempt FROM chunks WHERE id = :id AND state = 'done'"
        lab.stack.wait_until(lambda: bool(lab.rig.sql(is_done, id=chunk["id"])), timeout_s=20, what="its commit")
        lab.stack.kill(chunk["queue"])
        fault.is_over(queue=chunk["queue"])
    assert lab.rig.sql(is_done, id=chunk["id"]) == [{"attempt": 1}]


def test_killed_before_the_chord_counts(lab: FaultLab) -> None:
    with lab.fault(
        4,
        "a worker dies after its commit and before its chord counts it",
        injected="Redis stopped (SIGSTOP) until the chunk is `done`, then `kill -9` of the child",
        happens="the callback never comes; the dispatcher finishes the job",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault)
        lab.stack.kill("redis", signal.SIGSTOP)
        is_done = "SELECT 1 FROM chunks WHERE id = :id AND state = 'done'"
        lab.stack.wait_until(lambda: bool(lab.rig.sql(is_done, id=chunk["id"])), timeout_s=20, what="its commit")
        os.kill(lab.rig.child_of(chunk["queue"]), signal.SIGKILL)
        lab.stack.kill("redis", signal.SIGCONT)
        fault.is_over()


def test_killed_while_finalising(lab: FaultLab) -> None:
    with lab.fault(
        5,
        "the control worker dies while it closes a job",
        injected="the job's row locked until the finaliser waits for it, then `kill -9` of the control worker",
        happens="its transaction is rolled back; the message comes again, or the dispatcher sends it",
        within_s=KILL_WITHIN_S,
    ) as fault:
        items = [good("only", delay_s=1.0)]
        job_id = lab.rig.submit(items)
        fault.jobs[job_id] = items
        chunk = lab.rig.wait_until_running(job_id)
        with lab.rig.wiring.database.begin() as connection:
            connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR KEY SHARE"), {"id": job_id})
            waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
            lab.stack.wait_until(lambda: bool(lab.rig.sql(waits)), timeout_s=20, what="somebody who waits")
            lab.stack.kill("control")
        fault.is_over()
    assert chunk["job_id"] == job_id


@pytest.mark.parametrize(
    ("row", "process", "happens"),
    [
        (5, "control", "prepare and finish are tokens and locks in Postgres; the dispatcher sends them again"),
        (
            6,
            "dispatcher",
            "its advisory lock ends with its session; the successor counts and publishes what is missing",
        ),
        (
            7,
            "rabbitmq",
            "jobs are accepted; running chunks are committed; what was published again finds its chunk done",
        ),
        (12, "redis", "waves go out without chords; the dispatcher finishes the jobs"),
        (13, "postgres", "the API answers 503; running chunks are committed when it is back"),
        (14, "s3", "uploads answer 503; chunks are handed back and granted again"),
        (21, "beat", "nothing waits for it"),
        (2, "api", "a job is one commit: it is there or it is not"),
        (2, "flower", "nothing waits for it"),
    ],
)
def test_killed_process(lab: FaultLab, row: int, process: str, happens: str) -> None:
    with lab.fault(
        row, f"{process} dies", injected="`kill -9` under load", happens=happens, within_s=_limit_of(process)
    ) as fault:
        lab.load(fault)
        pid = lab.stack.kill(process)
        fault.is_over()
        lab.stack.wait_for_new_pid(process, pid)


def _limit_of(process: str) -> float:
    """Servers start in their own time."""
    return 30.0 if process in {"rabbitmq", "s3"} else KILL_WITHIN_S


def test_killed_in_the_middle_of_a_wave(lab: FaultLab) -> None:
    with lab.fault(
        6,
        "the dispatcher dies in the middle of publishing a wave",
        injected="the proxy lets 300 more bytes of each connection to RabbitMQ through; `kill -9` when grants wait",
        happens="the successor finds fewer messages than grants and publishes again after the grant patience (5 s)",
        within_s=20.0,
    ) as fault:
        lab.load(fault)
        lab.stack.proxies["rabbitmq"].stall(300)
        overdue = "SELECT 1 FROM chunks WHERE state = 'granted' AND granted_at < now() - interval '3 seconds'"
        lab.stack.wait_until(lambda: bool(lab.rig.sql(overdue)), timeout_s=30, what="a grant that nobody got")
        lab.stack.kill("dispatcher")
        lab.stack.proxies["rabbitmq"].heal()
        lab.stack.proxies["rabbitmq"].cut()
        fault.is_over()


# -- RabbitMQ


def test_broker_restarted(lab: FaultLab) -> None:
    with lab.fault(
        7,
        "RabbitMQ is restarted under load",
        injected="`rabbitmqctl stop_app`, 5 s, `start_app`",
        happens="jobs are accepted meanwhile; processes connect again by themselves",
        within_s=15.0,
    ) as fault:
        lab.load(fault)
        lab.broker("stop_app")
        late = [good("accepted-without-broker")]
        fault.jobs[lab.rig.submit(late)] = late
        time.sleep(OUTAGE_S)
        lab.broker("start_app")
        fault.is_over()


@pytest.mark.parametrize("kind", ["black hole", "half-open"])
def test_broker_partitioned(lab: FaultLab, kind: str) -> None:
    with lab.fault(
        8,
        f"RabbitMQ is cut off: {kind}",
        injected="the proxy passes nothing on for 30 s",
        happens="publishing raises after 8 s, heartbeats end the connections; jobs are accepted meanwhile",
        within_s=45.0,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["rabbitmq"]
        proxy.black_hole() if kind == "black hole" else proxy.half_open()
        time.sleep(30)
        late = [good("accepted-without-broker")]
        fault.jobs[lab.rig.submit(late)] = late
        proxy.heal()
        fault.is_over()


@pytest.mark.parametrize(("row", "what"), [(9, "memory"), (19, "disk")])
def test_broker_alarm(lab: FaultLab, row: int, what: str) -> None:
    alarm, calm = {
        "memory": (("set_vm_memory_high_watermark", "0.000001"), ("set_vm_memory_high_watermark", "0.4")),
        "disk": (("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "200MB")),
    }[what]
    with lab.fault(
        row,
        f"RabbitMQ blocks every publisher: {what} alarm",
        injected=f"`rabbitmqctl {' '.join(alarm)}` for 10 s",
        happens="publishing raises after 8 s instead of hanging; jobs are accepted meanwhile",
        within_s=15.0,
    ) as fault:
        lab.load(fault)
        lab.broker(*alarm)
        try:
            late = [good("accepted-under-alarm")]
            fault.jobs[lab.rig.submit(late)] = late
            time.sleep(10)
        finally:
            lab.broker(*calm)
        fault.is_over()


def test_broker_wiped(lab: FaultLab) -> None:
    with lab.fault(
        10,
        "RabbitMQ loses everything: queues, messages, policy",
        injected="`rabbitmqctl delete_vhost`, made again empty, `nightshift topology`",
        happens="processes declare their queues again; the dispatcher publishes everything unfinished",
        within_s=30.0,
    ) as fault:
        lab.load(fault)
        lab.broker("delete_vhost", "nightshift")
        lab.broker("add_vhost", "nightshift")
        for user, rights in (("nightshift", (".*", ".*", ".*")), ("flower", ("", "", ".*"))):
            lab.broker("set_permissions", "-p", "nightshift", user, *rights)
        lab.stack.stack.prepare_servers()
        fault.is_over()


def test_queues_purged(lab: FaultLab) -> None:
    with lab.fault(
        10,
        "the device queues are purged",
        injected="`queue.purge` of every device queue while messages wait",
        happens="the dispatcher counts fewer messages than grants and publishes again after the grant patience (5 s)",
        within_s=15.0,
    ) as fault:
        lab.load(fault)
        lab.stack.wait_until(lambda: lab.rig.purge_device_queues() > 0, timeout_s=20, what="a message to throw away")
        fault.is_over()


# -- Redis


def test_redis_flushed(lab: FaultLab) -> None:
    with (
        lab.fault(
            12,
            "Redis is emptied",
            injected="FLUSHALL again and again while the job runs",
            happens="callbacks are lost; the dispatcher finishes the job",
            within_s=KILL_WITHIN_S,
        ) as fault,
        lab.rig.redis() as counters,
    ):
        lab.load(fault)
        (job_id,) = fault.jobs
        lab.stack.wait_until(
            lambda: bool(counters.flushall()) and lab.rig.has_ended(job_id), timeout_s=60, what="the job's end"
        )
        fault.is_over()


@pytest.mark.parametrize("kind", ["refuses", "black hole"])
def test_redis_away(lab: FaultLab, kind: str) -> None:
    with lab.fault(
        12,
        f"Redis is away for 30 s: {kind}",
        injected="the proxy",
        happens="jobs run and end while it is away",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["redis"]
        proxy.refuse() if kind == "refuses" else proxy.black_hole()
        away_until_s = time.monotonic() + 30
        for job_id, items in fault.jobs.items():
            lab.rig.check(job_id, items)
        time.sleep(max(0.0, away_until_s - time.monotonic()))
        proxy.heal()
        fault.is_over()


def test_redis_full(lab: FaultLab) -> None:
    with (
        lab.fault(
            12,
            "Redis refuses every write",
            injected="`CONFIG SET maxmemory 1` for the length of a job",
            happens="waves go out without chords; the job ends",
            within_s=KILL_WITHIN_S,
        ) as fault,
        lab.rig.redis() as redis,
    ):
        redis.config_set("maxmemory", 1)
        try:
            lab.load(fault)
            for job_id, items in fault.jobs.items():
                lab.rig.check(job_id, items)
        finally:
            redis.config_set("maxmemory", 512 * 2**20)
        fault.is_over()


# -- Postgres


def test_backends_terminated(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "every database session is ended",
        injected="`pg_terminate_backend` of all, five times",
        happens="pools connect again, commits are tried again after reading",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        for _ in range(5):
            lab.rig.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            time.sleep(0.3)
        fault.is_over()


def test_answers_of_commits_lost(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "the answers of commits are lost",
        injected="the proxy holds Postgres's answers for 0.5 s, then cuts; five times",
        happens="whether a commit took place is read before it is tried again",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["postgres"]
        for _ in range(5):
            proxy.hold_answers()
            time.sleep(0.5)
            proxy.cut()
            proxy.heal()
            time.sleep(0.5)
        fault.is_over()


def test_database_away(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "Postgres is away for 5 s",
        injected="the proxy refuses",
        happens="the API answers 503 with Retry-After; what workers computed is committed when it is back",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        lab.stack.proxies["postgres"].refuse()
        with lab.stack.client() as client:
            answer = client.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "inputs": []})
        time.sleep(OUTAGE_S)
        lab.stack.proxies["postgres"].heal()
        fault.is_over()
    assert (answer.status_code, "Retry-After" in answer.headers) == (httpx.codes.SERVICE_UNAVAILABLE, True)


def test_database_silent(lab: FaultLab) -> None:
    with lab.fault(
        13,
        "Postgres falls silent for 10 s",
        injected="the proxy passes nothing on",
        happens="everybody waits and goes on",
        within_s=20.0,
    ) as fault:
        lab.load(fault)
        lab.stack.proxies["postgres"].black_hole()
        time.sleep(10)
        lab.stack.proxies["postgres"].heal()
        fault.is_over()


# -- object store


@pytest.mark.parametrize("kind", ["refuses", "answers 500", "cuts answers short", "falls silent", "is slow"])
def test_store_fault(lab: FaultLab, kind: str) -> None:
    with lab.fault(
        14,
        f"the object store {kind}",
        injected="the proxy, for 10 s",
        happens="chunks are tried again or handed back; no job ends with an object missing",
        within_s=20.0,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["s3"]
        {
            "refuses": proxy.refuse,
            "answers 500": lambda: proxy.say(BUSY_ANSWER),
            "cuts answers short": lambda: proxy.truncate(200),
            "falls silent": proxy.black_hole,
            "is slow": lambda: proxy.delay(1.0),
        }[kind]()
        time.sleep(10)
        proxy.heal()
        fault.is_over()


# -- messages, leases, items


def test_stale_worker(lab: FaultLab) -> None:
    with lab.fault(
        16,
        "a frozen worker wakes after its lease",
        injected="SIGSTOP to a worker until another took its chunk over, then SIGCONT",
        happens="its lease (30 s) runs out, the chunk is granted elsewhere; what the stale worker writes is refused",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault, delay_s=0.2)
        lab.signal_worker(chunk["queue"], signal.SIGSTOP)
        taken = "SELECT 1 FROM chunks WHERE id = :id AND attempt > :attempt"
        lab.stack.wait_until(
            lambda: bool(lab.rig.sql(taken, id=chunk["id"], attempt=chunk["attempt"])), timeout_s=60, what="a take-over"
        )
        lab.signal_worker(chunk["queue"], signal.SIGCONT)
        fault.is_over()


def test_poison(lab: FaultLab) -> None:
    with lab.fault(
        17,
        "an item kills its worker each time",
        injected="an item that segfaults",
        happens="after two deaths the chunk is halved until the item stands alone and fails as `worker_crash`",
        within_s=KILL_WITHIN_S,
    ) as fault:
        items = [good("a"), good("b"), crashing("poison"), good("c")]
        job_id = lab.rig.submit(items)
        lab.stack.wait_until(lambda: lab.rig.has_ended(job_id), timeout_s=120, what="the poison's conviction")
        fault.jobs[job_id] = items
        fault.is_over()


def test_duplicates(lab: FaultLab) -> None:
    with lab.fault(
        15,
        "a message comes four times",
        injected="published three times by hand while its chunk runs",
        happens="one run; the others find nothing to do",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault)
        lab.rig.send_again(chunk, times=3)
        fault.is_over()
    assert lab.rig.sql("SELECT attempt FROM chunks WHERE id = :id", id=chunk["id"]) == [{"attempt": 1}]


# -- deployments


def test_rolling_restart(lab: FaultLab) -> None:
    with lab.fault(
        32,
        "every process is restarted under load",
        injected="SIGTERM to one after the other",
        happens="running chunks stop at their next micro-batch, keep what they finished and hand back the rest",
        within_s=15.0,
    ) as fault:
        lab.load(fault, n_items=150)
        for name in (*lab.rig.settings.queues, "control", "dispatcher", "beat", "api"):
            lab.stack.restart(name)
        fault.is_over()
    deaths = "SELECT coalesce(max(worker_deaths), 0) AS n FROM chunks WHERE job_id = ANY(:ids)"
    assert lab.rig.sql(deaths, ids=list(fault.jobs)) == [{"n": 0}]


def test_no_worker_for_three_days(lab: FaultLab) -> None:
    with lab.fault(
        33,
        "no worker for three days",
        injected="workers stopped, FLUSHALL, every time in the rows three days back, workers started",
        happens="nothing has run out; work goes on when a worker is back",
        within_s=30.0,
    ) as fault:
        lab.load(fault)
        queues = lab.rig.settings.queues
        lab.stop_programs(queues)
        with lab.rig.redis() as redis:
            redis.flushall()
        (job_id,) = fault.jobs
        lab.rig.sql("UPDATE jobs SET created_at = created_at - interval '3 days' WHERE id = :id", id=job_id)
        lab.rig.sql("UPDATE chunks SET granted_at = granted_at - interval '3 days' WHERE job_id = :id", id=job_id)
        lab.start_programs(queues)
        fault.is_over()
