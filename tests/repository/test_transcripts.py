"""The main README's transcripts are played.

A console block without a terminal is for setting up and shows no output. The files in /tmp/naive are the
reader's, and saved before the page is played.
"""

import contextlib

import pytest
from broker import free_port
from support.cluster import Cluster
from support.output import FINISHED
from support.processes import BATCH, PRODUCER
from support.readme import blocks, files_to_save, section_of, terminals_of
from support.terminal import BROKER, Session, steps_of, with_ends


def test_each_transcript_names_its_terminal():
    for above, lines, number in blocks("console"):
        is_set_up = not any(line.startswith("$ ") for line in lines)
        assert terminals_of(above) or is_set_up, f"README.md, line {number}: which terminal?"
        assert is_set_up or section_of(number) <= 7, f"README.md, line {number}: no test plays it"


def test_the_player_of_transcripts_knows_when_to_wait_and_when_to_kill():
    block = ["$ python a.py", "...", "^C^Cone", "^C"]
    assert steps_of(block) == ["$ python a.py", "...", "(no line)", "^C", "^C", "one", "^C", "(no line)"]
    assert steps_of(["^Cone"]) == ["(no line)", "^C", "one"]
    run = "$ (python a.py & sleep 9; kill -9 $! )"
    after_9_seconds = [run, "one", "...", run]
    assert steps_of(after_9_seconds) == after_9_seconds
    after_its_last_line = ["$ (python a.py & read; kill -9 $! )", "...", "one", "^J"]
    assert steps_of([run, "...", "one", "$ python b.py"]) == [*after_its_last_line, "$ python b.py"]


def test_the_player_of_transcripts_checks_how_each_command_but_the_broker_ends():
    a, b = ("2", 5, "python a.py", "one"), ("2", 7, "python b.py", "$ python b.py")
    steps = [("1", 1, BROKER, f"$ {BROKER}"), a, b, ("2", 9, "python b.py", "Killed")]
    killed = ("2", 9, "python b.py", "(ended with exit code 137)")
    ended = ("2", 5, "python a.py", "(ended with exit code 0)")
    assert list(with_ends(steps)) == [*steps[:2], ended, *steps[2:], killed]


@pytest.fixture
def session(tmp_path):
    (tmp_path / "naive").mkdir()
    with contextlib.closing(Session(free_port(), tmp_path)) as session:
        for name, code in files_to_save().items():
            (tmp_path / "naive" / name).write_text(session.adapted(code), encoding="utf-8")
        yield session


@pytest.mark.long(120)
@pytest.mark.timeout(300)
@pytest.mark.not_on_external_broker
def test_the_transcripts_of_sections_1_to_5_match_what_happens(session):
    session.play(range(6))


@pytest.mark.long(100)
@pytest.mark.timeout(300)
@pytest.mark.not_on_external_broker
def test_the_transcripts_of_sections_6_and_7_match_what_happens(session, start):
    session.play([0])
    address = f"localhost:{session.port}"
    assert start(PRODUCER, address).wait() == 0
    Cluster(address).publish("user_signups", ["ada@example.com", "bob@site.org"])
    worker = start(BATCH, address)  # section 5, too, leaves twelve sign-ups, all of them committed
    worker.wait_for(FINISHED)
    worker.stop_and_check()
    session.play([6, 7])
