"""The demo, which is the README's first command, and its picture."""

import html
import re
from types import SimpleNamespace

import pytest
from demo import Demo
from support.output import PRODUCER_EMAILS, PRODUCER_LINES
from support.processes import ROOT


@pytest.mark.not_on_external_broker
@pytest.mark.long(50)
def test_the_demo_loses_nothing_and_prints_what_the_picture_shows(start_program):
    program = start_program("demo")
    program.wait_for_exit(seconds=120)
    counts = dict(
        re.findall(r"^ *(published|processed|lost|processed twice) +(\d+) *$", "\n".join(program.out), re.M)
    )
    assert counts == {"published": "30", "processed": "30", "lost": "0", "processed twice": "0"}
    picture = html.unescape((ROOT / "tests/demo.svg").read_text(encoding="utf-8")).replace("\xa0", " ")
    rows = {}
    for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>([^<]*)</text>', picture):
        rows[y] = rows.get(y, "") + text
    pictured = [row.strip() for row in rows.values() if " | " in row and "..." not in row]
    printed = {line.strip() for line in program.out}
    assert len(pictured) > 15 and not set(pictured) - printed, "renew it: python tests/demo.py --picture"


@pytest.mark.parametrize(
    ("processed", "is_as_promised"),
    [(PRODUCER_EMAILS, True), (PRODUCER_EMAILS[1:], False), ([*PRODUCER_EMAILS, PRODUCER_EMAILS[0]], False)],
    ids=["each once", "one lost", "one twice"],
)
def test_the_demo_fails_if_an_email_is_lost_or_processed_twice(processed, is_as_promised):
    demo = Demo("no address", is_picture=False)
    demo.producers = [SimpleNamespace(out=PRODUCER_LINES)]
    demo.workers = [SimpleNamespace(begun=lambda: processed, finished=lambda: processed)]
    assert demo.summarize() == is_as_promised
