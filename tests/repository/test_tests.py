"""What tests/README.md says about the tests."""

import re

from support.processes import ROOT


def test_every_test_that_the_table_of_promises_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "tests/README.md").read_text(encoding="utf-8")))
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*/test_*.py"))
    assert len(named) > 20 and not named - set(re.findall(r"^def (test_\w+)", code, re.M))
