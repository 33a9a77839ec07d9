"""The main README's transcripts are played.

A console block without a terminal is for setting up and shows no output. The files in /tmp/naive are the
reader's, and saved before the page is played.
"""

import contextlib

import pytest
from repository.readme import Block, blocks, files_to_save
from repository.terminal import BROKER, Reader, Step, texts_of, with_exits
from support.cluster import Cluster
from support.network import free_port
from support.output import FINISHED
from support.processes import BATCH, PRODUCER


def test_each_transcript_names_its_terminal():
    for block in blocks("console"):
        is_set_up = not any(line.startswith("$ ") for line in block.lines)
        assert block.terminals or is_set_up, f"README.md, line {block.number}: which terminal?"
        assert is_set_up or block.section <= 7, f"README.md, line {block.number}: no test plays it"


def test_the_player_of_transcripts_knows_when_to_wait_and_when_to_kill():
    lines = ["$ python a.py", "...", "^C^Cone", "^C"]
    assert texts_of(lines) == ["$ python a.py", "...", "(no line)", "^C", "^C", "one", "^C", "(no line)"]
    assert texts_of(["^Cone"]) == ["(no line)", "^C", "one"]
    assert texts_of(["^C^\\Quit…"]) == ["(no line)", "^C", "(no line)", "^\\", "Quit…"]
    assert texts_of(["one", "^Z", "[1]+  Stopped"]) == ["one", "^Z", "", "[1]+  Stopped"]
    run = "$ (python a.py & sleep 9; kill -9 $! )"
    after_9_seconds = [run, "one", "...", run]
    assert texts_of(after_9_seconds) == after_9_seconds
    after_its_last_line = ["$ (python a.py & read; kill -9 $! )", "...", "one", "^J"]
    assert texts_of([run, "...", "one", "$ python b.py"]) == [*after_its_last_line, "$ python b.py"]


def test_the_player_of_transcripts_checks_the_exit_code_of_each_command_but_the_broker():
    first, second, third, fourth = (Block("", [], number) for number in (1, 5, 7, 9))
    broker = Step("1", first, BROKER, f"$ {BROKER}")
    suspended = Step("1", first, BROKER, "[1]+  Stopped")
    a, b = Step("2", second, "python a.py", "one"), Step("2", third, "python b.py", "$ python b.py")
    last = Step("2", fourth, "python b.py", "Quit…")
    killed = Step("2", fourth, "python b.py", "(exited with code 131)")
    exited = Step("2", second, "python a.py", "(exited with code 0)")
    stopped = Step("1", first, BROKER, "(exited with code 14…)")
    steps = [broker, suspended, a, b, last]
    assert list(with_exits(steps)) == [broker, suspended, stopped, a, exited, b, last, killed]


@pytest.fixture
def reader(tmp_path):
    (tmp_path / "naive").mkdir()
    with contextlib.closing(Reader(free_port(), tmp_path)) as reader:
        for name, code in files_to_save().items():
            (tmp_path / "naive" / name).write_text(reader.adapted(code), encoding="utf-8")
        yield reader


@pytest.mark.long(120)
@pytest.mark.timeout(300)
@pytest.mark.not_on_external_broker
def test_the_transcripts_of_sections_1_to_5_match_what_happens(reader):
    reader.play(range(6))


@pytest.mark.long(100)
@pytest.mark.timeout(300)
@pytest.mark.not_on_external_broker
def test_the_transcripts_of_sections_6_and_7_match_what_happens(reader, start_script):
    reader.play([0])
    address = f"localhost:{reader.port}"
    start_script(PRODUCER, address).wait_for_exit()
    Cluster(address).publish("user_signups", ["ada@example.com", "bob@site.org"])
    worker = start_script(BATCH, address)  # section 5, too, leaves twelve messages, all of them committed
    worker.wait_for(FINISHED)
    worker.stop_and_check()
    reader.play([6, 7])
