"""Time limits of the scripts, in seconds, and the promises that follow from them.

When you change one in a script, change it here, too; test_limits.py checks that they agree.
"""

# In the scripts
CONNECT_SECONDS = 20  # bootstrap_timeout_ms: a script that finds no broker gives up
SESSION_SECONDS = 10  # session_timeout_ms: the group evicts a worker that sends no heartbeat
METADATA_SECONDS = 10  # metadata_max_age_ms: a worker looks for new partitions this often
HEARTBEAT_SECONDS = 5  # a worker whose last heartbeat is older than this has no contact with its group,
SILENT_POLLS = 40  # and says so after this many polls without a message
POLL_SECONDS = 0.5  # poll(timeout_ms=...)
COMMIT_SECONDS = 2  # commit(timeout_ms=...)
RETRY_SECONDS = 2  # the streaming worker's pause after a failed commit
CLOSE_SECONDS = 1  # close(timeout_ms=...)
STORE_SECONDS = 30  # get(timeout=...): how long the producer waits for an acknowledgement
BATCH_SECONDS = 5  # how long the batch worker collects a batch

# Promises
REPORT_SECONDS = 30  # a failure to connect or to join is reported: CONNECT_SECONDS, or as above
TAKEOVER_SECONDS = 20  # a killed worker's successor is at work: SESSION_SECONDS, then a rebalance
EXIT_SECONDS = 10  # exit after a signal and the work: a commit, RETRY_SECONDS, the last commit, close()
REBALANCE_EXIT_SECONDS = 35  # the same during a rebalance, where kafka-python waits 30 s for a commit
IDLE_EXIT_SECONDS = 1  # exit of an idle worker: poll() returns within 0.5 s, then close()
