"""The main README: its transcripts are played, and its code stands in the scripts.

A console block without a label is for setting up and shows no output. A block of Python is part of the file
named above it; the files in /tmp/naive are the reader's, and saved before the page is played.
"""

import contextlib
import re
import textwrap
from pathlib import Path

import pytest
from broker import free_port
from support.processes import ROOT
from support.readme import NAIVE, README, blocks, terminals_of
from support.terminal import BROKER, Session, steps_of, with_ends

SET_UP = "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/python "


def code_blocks():
    """[(file named above it, lines, line number)] of all blocks of Python that are part of a file."""
    found = []
    for above, lines, number in blocks("python"):
        names = re.findall(r"`([\w/]+\.py)`", above)
        assert names, f"README.md, line {number}: name its file above the block, or mark a recipe"
        found.append((names[-1], lines, number))
    return found


def test_each_python_block_appears_verbatim_in_its_script():
    quoted = [(name, lines, number) for name, lines, number in code_blocks() if not name.startswith(NAIVE)]
    assert quoted
    for name, lines, number in quoted:
        script = (ROOT / name).read_text(encoding="utf-8")
        indented = [textwrap.indent("\n".join(lines) + "\n", " " * depth) for depth in range(0, 20, 4)]
        assert any(f"\n{block}" in script for block in indented), (
            f"README.md, line {number}: not like this in {name}"
        )


def test_the_demo_and_test_commands_are_quoted_verbatim():
    assert f"\n{SET_UP}tests/demo.py\n" in README
    assert f"`{SET_UP}-m pytest tests`" in README
    assert f"\n{SET_UP}-m pytest tests\n" in (ROOT / ".ci/run").read_text()


def test_no_link_is_broken():
    text = re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 5
    for link in links:
        file, _, line = link.partition("#")
        if not file:
            assert line in anchors, link
        elif line:  # [`name()`](script.py#L9): there the function begins
            [name] = re.findall(rf"\[`(\w+)\(\)`\]\({re.escape(link)}\)", text)
            code = (ROOT / file).read_text(encoding="utf-8").splitlines()
            assert f"def {name}(" in code[int(line.removeprefix("L")) - 1], link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link


def test_each_transcript_names_its_terminal():
    for above, lines, number in blocks("console"):
        is_set_up = not any(line.startswith("$ ") for line in lines)
        assert terminals_of(above) or is_set_up, f"README.md, line {number}: which terminal?"


def test_code_fits_on_github_without_scrolling():
    code = "\n".join(re.findall(r"^```\w+(.*?)^```$", README, re.M | re.S))
    assert [line for line in code.splitlines() if len(line) > 108] == []


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


@pytest.mark.long(150)
@pytest.mark.timeout(360)
@pytest.mark.not_on_external_broker
def test_the_transcripts_match_what_happens(tmp_path):
    (tmp_path / "naive").mkdir()
    with contextlib.closing(Session(free_port(), tmp_path)) as session:
        for name, lines, _ in code_blocks():
            if name.startswith(NAIVE):
                path = tmp_path / "naive" / Path(name).name
                path.write_text(session.adapted("\n".join(lines)), encoding="utf-8")
        session.play()
