"""What the scripts print: templates of lines (..._LINE), patterns for re.search(), and what a line says."""

import ast
import re

from support.limits import HEARTBEAT_SECONDS

# Standard output
TOPIC_EXISTS_LINE = "Topic {} is already created"
PUBLISHED_LINE = "Published message to message broker. User email: {}"
WORKER_LINES = {
    "streaming_worker": [
        "starting streaming consumer worker",
        "sending email to {email}",
        "updating user {email} status to Waiting Confirmation",
        "finished processing message",
    ],
    "batch_worker": [
        "starting batch consumer worker",
        "received {count} message{s}, inserting into the queue buffer",
        "processing message in queue buffer",
        "sending email to user {emails}",
        "updating status to Waiting Confirmation for users {emails}",
        "finished processing messages",
    ],
}
GOODBYE_LINE = "End of the program. I was killed gracefully"

PUBLISHED, STARTING, READ = "^Published", "^starting", "^read"  # READ: bare_loop.py
# The first word of each line about an email or a batch; most are the same in both workers.
WORK = {name: [f"^{line.split()[0]}" for line in lines[1:]] for name, lines in WORKER_LINES.items()}
RECEIVED, PROCESSING, SENDING, UPDATING, FINISHED = WORK["batch_worker"]
START_LINE = {name: lines[0] for name, lines in WORKER_LINES.items()}

# Standard error
NOT_CONNECTED, WORKER_HINT = "Unable to bootstrap", "Check BOOTSTRAP_SERVERS"
COMMIT_FAILED, REDELIVERED = "^Commit failed", "will be delivered again"
BROKER_IS_BLAMED = "up?"  # "Is localhost:9092 up?", or the producer's "Is the broker up?"
INVALID_LINE = "skipping invalid email address: {}, partition {}, offset {}"
CANNOT_JOIN_LINE = (
    f"Group group1: no heartbeat for over {HEARTBEAT_SECONDS} s, retrying. "
    "See broker log and advertised address."
)


def email_of(number):
    return f"user{number}@gmail.com"


PRODUCER_EMAILS = [email_of(number) for number in range(10)]
PRODUCER_LINES = [PUBLISHED_LINE.format(email) for email in PRODUCER_EMAILS]


def lines_for_message(email):
    """Return the lines of the streaming worker about the message with this email."""
    return [line.format(email=email) for line in WORKER_LINES["streaming_worker"][1:]]


def lines_for_batch(emails):
    """Return the lines of the batch worker about these emails, received in one poll()."""
    values = {"emails": emails, "count": len(emails), "s": "s" * (len(emails) > 1)}
    return [line.format(**values) for line in WORKER_LINES["batch_worker"][1:]]


def emails_published(lines):
    """Return the emails that the producer reports as published in these lines."""
    pattern = PUBLISHED_LINE.format("(.*)")
    return [match[1] for line in lines if (match := re.fullmatch(pattern, line))]


def emails_begun(line):
    """Return the emails in this line if it is the one with which a worker begins to process them, or []."""
    if match := re.fullmatch(r"sending email to user (\[.*\])", line):
        return ast.literal_eval(match[1])
    match = re.fullmatch("sending email to (.*)", line)
    return [match[1]] if match else []


def emails_finished(lines):
    """Return the emails whose processing has finished, according to these lines of a worker."""
    finished, begun = [], []
    for line in lines:
        begun = emails_begun(line) or begun
        if re.search(FINISHED, line):
            finished += begun
    return finished


def number_received(line):
    """Return how many messages the batch worker has polled according to this line: 0 for most lines."""
    match = re.match(r"received (\d+)", line)
    return int(match[1]) if match else 0
