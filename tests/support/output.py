"""What the scripts print: lines or templates (X_LINE), parts (X_TEXT), patterns (X); and how to parse it."""

import ast
import re

# Standard output
TOPIC_EXISTS_LINE = "Topic {} is already created"
PUBLISHED_LINE = "Published message to message broker. User email: {}"
STARTING_LINES = {
    "streaming_worker": "starting streaming consumer worker",
    "batch_worker": "starting batch consumer worker",
}
MESSAGE_SENDING_LINE = "sending email to {}"
MESSAGE_LINES = [
    MESSAGE_SENDING_LINE,
    "updating user {} status to Waiting Confirmation",
    "finished processing message",
]
RECEIVED_LINE = "received {} message{}, inserting into the queue buffer"
BATCH_SENDING_LINE = "sending email to user {}"
BATCH_LINES = [
    "processing message in queue buffer",
    BATCH_SENDING_LINE,
    "updating status to Waiting Confirmation for users {}",
    "finished processing messages",
]
GOODBYE_LINE = "End of the program. I was killed gracefully"

# The first word of a line tells it from the others; both workers send, update and finish.
PUBLISHED, STARTING = "^Published", "^starting"
RECEIVED, PROCESSING, SENDING, UPDATING, FINISHED = [
    f"^{line.split()[0]}" for line in [RECEIVED_LINE, *BATCH_LINES]
]
FIRST = f"{PUBLISHED}|{STARTING}"  # a script's first line on a topic that it creates
DELIVERED = f"{RECEIVED}|{SENDING}"  # a worker's first line about a message
WORK_PATTERNS = {  # a worker's lines after its first, in their order
    "streaming_worker": [SENDING, UPDATING, FINISHED],
    "batch_worker": [RECEIVED, PROCESSING, SENDING, UPDATING, FINISHED],
}

# Standard error: a pattern, texts that are parts of lines, lines
COMMIT_FAILED = "^Commit failed"
NOT_CONNECTED_TEXT, HINT_TEXT = "Unable to bootstrap", "Check BOOTSTRAP_SERVERS"
REDELIVERED_TEXT = "will be delivered again"
BLAMES_BROKER_TEXT = "up?"  # "Is localhost:9092 up?", or the producer's "Is the broker up?"
INVALID_LINE = "skipping invalid email address: {}, partition {}, offset {}"
WAITING_LINE = "Waiting for group {}. Check the broker, its address, slow workers."
EVICTED_LINE = "Evicted from group {}, rejoining. Expect a redelivery."


def email_of(number):
    return f"user{number}@gmail.com"


PRODUCER_EMAILS = [email_of(number) for number in range(10)]
PRODUCER_LINES = [PUBLISHED_LINE.format(email) for email in PRODUCER_EMAILS]


def lines_for_message(email):
    """Return the lines of the streaming worker about the message with this email."""
    return [line.format(email) for line in MESSAGE_LINES]


def lines_for_batch(emails):
    """Return the lines of the batch worker about these emails, received in one poll()."""
    received = RECEIVED_LINE.format(len(emails), "s" * (len(emails) > 1))
    return [received, *(line.format(emails) for line in BATCH_LINES)]


def value_in(line, template):
    """Return what the line has in place of the template's first {}, or None if it is another line."""
    match = re.fullmatch(re.escape(template).replace(r"\{\}", "(.*)"), line)
    return match and match[1]


def emails_begun(line):
    """Return the emails in this line if it is the one with which a worker begins to process them, or []."""
    if (batch := value_in(line, BATCH_SENDING_LINE)) and batch.startswith("["):
        return ast.literal_eval(batch)
    email = value_in(line, MESSAGE_SENDING_LINE)
    return [email] if email else []
