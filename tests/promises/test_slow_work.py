"""The work is slow."""

from support.processes import STREAMING


def test_a_backlog_longer_than_max_poll_interval_causes_no_eviction_and_no_repeats(worker_name, new_workload):
    workload = new_workload(WORK_SECONDS=0.4, BUFFER_SIZE=2, max_poll_interval_ms=3000)
    workload.publish(8 if worker_name == STREAMING else 16)  # 8 times 0.8 s
    workload.start(worker_name)
    workload.finish()
    assert workload.errors == []
