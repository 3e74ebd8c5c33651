"""RabbitMQ goes, is cut off, in alarm, or loses what it holds: ``make chaos``."""

from __future__ import annotations

import time

import pytest
from fault_lab import OUTAGE_S, FaultLab
from seeded_work import good

from app.installation.backing import check_topology
from config.settings import Settings

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]


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
        injected="`rabbitmqctl delete_vhost`, made again empty",
        happens="workers declare their queues again, the dispatcher the rest and the policy; it publishes again",
        within_s=30.0,
    ) as fault:
        lab.load(fault)
        lab.broker("delete_vhost", "nightshift")
        lab.broker("add_vhost", "nightshift")
        for user, rights in (("nightshift", (".*", ".*", ".*")), ("flower", ("", "", ".*"))):
            lab.broker("set_permissions", "-p", "nightshift", user, *rights)
        fault.is_over()
    settings = Settings.from_environ(lab.stack.direct_settings)
    lab.stack.wait_until(
        lambda: check_topology(settings).state == "ok", timeout_s=30, what="every queue and the policy"
    )


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


def test_consumer_timeout(lab: FaultLab) -> None:
    queues = lab.rig.settings.queues
    with lab.fault(
        11,
        "RabbitMQ takes a chunk from a worker that is too slow to acknowledge it",
        injected="`consumer_timeout` of 5 s through `rabbitmqctl eval`, a chunk of 15 s; then half an hour again",
        happens="the channel is closed and the message comes again; the chunk is claimed once more or found done",
        within_s=60.0,
    ) as fault:
        lab.set_consumer_timeout(timeout_s=5, looks_every_s=1)
        try:
            for queue in queues:  # a channel keeps the timeout it was opened under
                lab.stack.restart(queue)
            lab.wait_for_workers()
            items = [good(f"slow-{number}", delay_s=3.0) for number in range(5)]
            job_id = lab.rig.submit(items)
            fault.jobs[job_id] = items
            queue = lab.rig.wait_until_running(job_id)["queue"]
            lab.stack.wait_until(
                lambda: "delivery acknowledgement on channel" in lab.stack.log("rabbitmq"),
                timeout_s=60,
                what="the consumer timeout",
            )
        finally:
            lab.set_consumer_timeout(timeout_s=1800, looks_every_s=60)
            for name in queues:
                lab.stack.restart(name)
        fault.is_over()
    assert queue in queues
