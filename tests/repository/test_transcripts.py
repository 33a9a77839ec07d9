"""The main README's transcripts are played.

A console block without a terminal is for setting up and shows no output. The files in /tmp/naive are the
reader's, and saved before the page is played.
"""

import contextlib

import pytest
from repository.readme import blocks, files_to_save
from repository.terminal import Reader
from support.cluster import Cluster
from support.network import free_port
from support.output import FINISHED
from support.processes import BATCH, PRODUCER


def test_each_transcript_names_its_terminal():
    for block in blocks("console"):
        is_set_up = not any(line.startswith("$ ") for line in block.lines)
        assert block.terminals or is_set_up, f"README.md, line {block.number}: which terminal?"
        assert is_set_up or block.section <= 7, f"README.md, line {block.number}: no test plays it"


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
