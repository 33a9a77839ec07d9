"""Time limits, in seconds. When you change one in a script, change it here, too."""

# In the scripts
CONNECT_SECONDS = 20  # bootstrap_timeout_ms: a script that finds no broker gives up
METADATA_SECONDS = 10  # metadata_max_age_ms: a worker looks for new partitions this often
RETRY_SECONDS = 2  # the streaming worker's pause after a failed commit
STORE_SECONDS = 30  # get(timeout=...): how long the producer waits for an acknowledgement
BATCH_SECONDS = 5  # how long the batch worker collects a batch

# Promises
REPORT_SECONDS = 30  # a failure to connect or to join is reported
TAKEOVER_SECONDS = 20  # a killed worker's successor is at work: its session (10 s), then a rebalance
EXIT_SECONDS = 10  # exit after a signal and the work: a failed commit, RETRY_SECONDS, a last commit, close()
REBALANCE_EXIT_SECONDS = 35  # the same during a rebalance, where kafka-python waits 30 s for a commit
IDLE_EXIT_SECONDS = 1  # exit of an idle worker: poll() returns within 0.5 s, then close()
