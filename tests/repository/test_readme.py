"""The main README: its code stands in the scripts, and its links and commands are right."""

import re
import textwrap

from repository.readme import NAIVE, README, blocks
from support.processes import ROOT

SET_UP = "python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt && .venv/bin/python "


def test_each_python_block_appears_verbatim_in_its_script():
    quoted = [block for block in blocks("python") if not block.file.startswith(NAIVE)]
    assert quoted
    for block in quoted:
        script = (ROOT / block.file).read_text(encoding="utf-8")
        code = "\n".join(block.lines) + "\n"
        assert any(f"\n{textwrap.indent(code, ' ' * depth)}" in script for depth in range(0, 20, 4)), (
            f"README.md, line {block.number}: not like this in {block.file}"
        )


def test_the_demo_and_test_commands_are_quoted_verbatim():
    for command in ("tests/demo.py", "-m pytest tests"):
        assert [SET_UP + command] in [block.lines for block in blocks("console")]
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


def test_code_fits_on_github_without_scrolling():
    code = "\n".join(re.findall(r"^```\w+(.*?)^```$", README, re.M | re.S))
    assert [line for line in code.splitlines() if len(line) > 108] == []
