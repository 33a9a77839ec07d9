"""The main README: its transcripts are played, and its code stands in the scripts.

A console block without a label is for setting up and shows no output. A block of Python is part of the file
named above it; the files in /tmp/naive are the reader's, and saved before the page is played.
"""

import re
import textwrap
from pathlib import Path

import pytest
from broker import free_port
from support.processes import ROOT
from support.readme import ADDRESS, NAIVE, README, blocks, terminals_of
from support.terminal import Session, steps_of

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
    for command in ("tests/demo.py", "-m pytest tests"):
        assert [SET_UP + command] in [lines for _, lines, _ in blocks("console")]
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


def test_the_player_of_transcripts_understands_a_block():
    block = ["$ python a.py", "...", "one", "^C^Ctwo", "...", "^Cthree"]
    assert steps_of(block) == [
        ("type", "python a.py"),
        ("skip_until", "one"),
        ("press_ctrl_c", 2),
        ("expect", "two"),
        ("skip_until_silence",),
        ("press_ctrl_c", 1),
        ("expect", "three"),
    ]
    run = "(python a.py & sleep 9; kill -9 $! )"
    killed = [("type", run), ("be_killed_after", 9), ("skip_until_end",)]
    assert steps_of([f"$ {run}", "...", "$ pkill -STOP -f b"]) == [*killed, ("signal_others", "STOP", "b")]
    assert steps_of([f"$ {run}", "one"]) == [("type", run), ("expect", "one"), ("be_killed_after", 0)]


@pytest.mark.long(150)
@pytest.mark.timeout(360)
@pytest.mark.not_on_external_broker
def test_the_transcripts_match_what_happens(tmp_path):
    port = free_port()
    naive = tmp_path / "naive"
    naive.mkdir()
    for name, lines, _ in code_blocks():
        if name.startswith(NAIVE):
            code = "\n".join(lines).replace(ADDRESS, f"localhost:{port}")
            (naive / Path(name).name).write_text(code, encoding="utf-8")
    session = Session(port, naive)
    try:
        for above, block, number in blocks("console"):
            place = f"README.md, the block at line {number}"
            for name in terminals_of(above):
                session.play(name, block)
        place = "the end of README.md"
        session.expect_end()
    except AssertionError as error:
        raise AssertionError(f"{place}: {error}{session}") from None
    finally:
        session.end()
