"""The main README, and the PATH in a reader's terminal."""

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from support.processes import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS, NAIVE = "localhost:9092", "/tmp/naive"  # the broker, and the folder for what the reader writes
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an active environment

CAREFUL_PARTS = {  # the recipes that turn worker.py into careful.py, with patterns for what they replace
    "careful-settings": r"^    group_id=.*\n",
    "careful-loop": r"^for message (.*\n)*?(?=^\S)",
}


class Block(NamedTuple):
    """A block of the main README: the paragraph above it, its lines, and the number of the first one."""

    above: str
    lines: list
    number: int

    @property
    def file(self):
        """The last file named above it."""
        names = re.findall(r"`([\w/]+\.py)`", self.above)
        assert names, f"README.md, line {self.number}: name its file above the block, or mark a recipe"
        return names[-1]

    @property
    def terminals(self):
        """The numbers of the terminals with which the paragraph above it begins."""
        return re.findall(r"\*\*Terminal (\d)", self.above)

    @property
    def section(self):
        """The number of the section to which it belongs."""
        before = "\n".join(README.splitlines()[: self.number])
        return int(re.findall(r"^## (\d+)", before, re.M)[-1])


def blocks(language):
    """Return the blocks in that language: "python" for all but the recipes, or "python recipe=name"."""
    found = []
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", README, re.M | re.S):
        before = README[: match.start()]
        above = re.split("\n\n|```\n", before.rstrip("\n"))[-1]
        code = match[1].replace(" \\\n    ", " ")  # a command on two lines
        found.append(Block(above, code.splitlines(), before.count("\n") + 2))
    return found


def recipe(name, language="python"):
    """Return the block with `recipe=name` and that language."""
    [block] = blocks(f"{language} recipe={name}")
    return "\n".join([*block.lines, ""])


def files_to_save():
    """{name: code} of the files that the reader saves in /tmp/naive."""
    saved = [block for block in blocks("python") if NAIVE in block.file]
    files = {Path(block.file).name: "\n".join(block.lines) for block in saved}
    careful = files["worker.py"]
    for name, replaced in CAREFUL_PARTS.items():
        careful, count = re.subn(replaced, lambda _, name=name: recipe(name), careful, flags=re.M)
        assert count == 1, f"README.md, section 4: what does {name} replace?"
    return {**files, "careful.py": careful}


def matches(line, text):
    """Return whether the line is what the README shows, in which "…" stands for any text.

    Spaces may be more or fewer: versions of bash differ in the columns of "[1]+  Stopped   command".
    """
    line, text = (re.sub(" +", " ", string or "") for string in (line, text))
    return bool(re.fullmatch(re.escape(text).replace("…", ".*"), line))
