"""The streaming worker in normal operation."""

import signal

from support import output
from support.processes import STREAMING


def test_it_prints_three_lines_for_each_message_up_to_the_one_in_progress_at_a_signal(new_workload):
    workload = new_workload(WORK_SECONDS=0.2)
    workload.publish(6)
    worker = workload.start(STREAMING)
    worker.wait_for(output.SENDING, count=2)
    worker.stop_and_check(signal_number=signal.SIGINT)
    lines = [line for email in workload.published[:2] for line in output.lines_for_message(email)]
    assert (worker.out, worker.err) == ([output.STARTING_LINE[STREAMING], *lines, output.GOODBYE_LINE], [])
    assert workload.committed() == 2
