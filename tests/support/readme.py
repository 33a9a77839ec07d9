"""The main README, and what a reader's terminal finds."""

import os
import re
import sys
from pathlib import Path

from support.processes import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS, NAIVE = "localhost:9092", "/tmp/naive"  # the broker, and the folder for what the reader writes
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an active environment


def blocks(language):
    """[(the paragraph above it, lines, line number)] of all blocks in that language."""
    found = []
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", README, re.M | re.S):
        before = README[: match.start()]
        above = re.split("\n\n|```\n", before.rstrip("\n"))[-1]
        code = match[1].replace(" \\\n    ", " ")  # a command on two lines
        found.append((above, code.splitlines(), before.count("\n") + 2))
    return found


def code_blocks():
    """[(file named above it, lines, line number)] of all blocks of Python but the recipes."""
    found = []
    for above, lines, number in blocks("python"):
        names = re.findall(r"`([\w/]+\.py)`", above)
        assert names, f"README.md, line {number}: name its file above the block, or mark a recipe"
        found.append((names[-1], lines, number))
    return found


def recipe(name, language="python"):
    """Return the block with `recipe=name` and that language."""
    [(_, lines, _)] = blocks(f"{language} recipe={name}")
    return "\n".join([*lines, ""])


def change_in_diff(name):
    """Return the change that a diff in the README shows: (what it replaces, replacement)."""
    lines = recipe(name, "diff").splitlines(keepends=True)
    return tuple("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))


def files_to_save():
    """{name: code} of the files that the reader saves in /tmp/naive."""
    files = {Path(name).name: "\n".join(lines) for name, lines, _ in code_blocks() if NAIVE in name}
    parts = {r"^    group_id=.*\n": "careful-settings", r"^for message (.*\n)*?(?=^\S)": "careful-loop"}
    careful = files["worker.py"]
    for replaced, name in parts.items():
        careful, count = re.subn(replaced, lambda _, name=name: recipe(name), careful, flags=re.M)
        assert count == 1, f"README.md, section 4: what does {name} replace?"
    return {**files, "careful.py": careful}


def terminals_of(above):
    """Return the numbers of the terminals with which the paragraph above a block begins."""
    return re.findall(r"\*\*Terminal (\d)", above)


def section_of(number):
    """Return the number of the section to which that line of the README belongs."""
    above = "\n".join(README.splitlines()[:number])
    return int(re.findall(r"^## (\d+)", above, re.M)[-1])


def matches(line, text):
    """Return whether the line is what the README shows, in which "…" stands for any text."""
    return bool(re.fullmatch(re.escape(text).replace("…", ".*"), line or ""))
