"""What the scripts print: patterns for re.search(), whole lines (..._LINE), and what is read from them."""

import ast
import re

PUBLISHED, ALREADY_CREATED = "^Published", "already created"  # the producer

STARTING, RECEIVED, PROCESSING = "^starting", "^received", "^processing"  # a worker
SENDING, UPDATING, FINISHED = "^sending", "^updating", "^finished"
READ = "^read"  # bare_loop.py
WORK = {  # a worker's lines after its first, in their order
    "streaming_worker": [SENDING, UPDATING, FINISHED],
    "batch_worker": [RECEIVED, PROCESSING, SENDING, UPDATING, FINISHED],
}
START_LINE = {
    "streaming_worker": "starting streaming consumer worker",
    "batch_worker": "starting batch consumer worker",
}
GOODBYE_LINE = "End of the program. I was killed gracefully"

NOT_CONNECTED, WORKER_HINT = "Unable to bootstrap", "Check BOOTSTRAP_SERVERS"  # on standard error
COMMIT_FAILED, REDELIVERED = "^Commit failed", "will be delivered again"
BROKER_IS_BLAMED, PRODUCER_BLAMES_BROKER = "up?", "Is the broker up?"
INVALID_LINE_START = "skipping invalid email address: "
CANNOT_JOIN_LINE = (
    "Group group1: no heartbeat for over 20 s, retrying. See broker log and advertised address."
)


def email_of(number):
    return f"user{number}@gmail.com"


PRODUCER_EMAILS = [email_of(number) for number in range(10)]
PRODUCER_LINES = [f"Published message to message broker. User email: {email}" for email in PRODUCER_EMAILS]


def line_for_existing_topic(topic):
    return f"Topic {topic} is already created"


def lines_for_message(email):
    """Return the lines of the streaming worker about one sign-up."""
    return [
        f"sending email to {email}",
        f"updating user {email} status to Waiting Confirmation",
        "finished processing message",
    ]


def line_for_received(count):
    return f"received {count} message{'s' * (count > 1)}, inserting into the queue buffer"


def lines_for_batch(emails):
    """Return the lines of the batch worker while it processes these sign-ups."""
    return [
        "processing message in queue buffer",
        f"sending email to user {emails}",
        f"updating status to Waiting Confirmation for users {emails}",
        "finished processing messages",
    ]


def emails_published(lines):
    """Return the emails that the producer reports as published in these lines."""
    return [match[1] for line in lines if (match := re.search(r"^Published .* (\S+@\S+)", line))]


def emails_begun(line):
    """Return the emails in this line if it is the one with which a worker begins to process them, or []."""
    if match := re.search(r"^sending email to user (\[.*\])", line):
        return ast.literal_eval(match[1])
    match = re.search(r"^sending email to (.*)", line)
    return [match[1]] if match else []


def emails_finished(lines):
    """Return the emails whose processing has finished, according to these lines of a worker."""
    finished, begun = [], []
    for line in lines:
        if re.search(FINISHED, line):
            finished += begun
            begun = []
        begun += emails_begun(line)
    return finished


def number_received(lines):
    """Return how many messages a batch worker has polled, according to its lines."""
    return sum(message_count(line) for line in lines if re.search(RECEIVED, line))


def message_count(line):
    """Return how many messages a line is about: the number received or read, or of addresses, or else 1."""
    match = re.match(r"(?:received|read) (\d+)", line)
    return int(match[1]) if match else line.count("@") or 1
