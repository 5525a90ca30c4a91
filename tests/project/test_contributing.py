"""What CONTRIBUTING.md gives to copy works as it stands."""

from __future__ import annotations

import re
import textwrap

from tests.book.trial import ROOT


def test_the_chapter_to_copy_plans_trains_and_measures(tmp_path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "EXPERIMENT =" in block]
    names: dict = {}
    exec(textwrap.dedent("   " + code.lstrip()), names)
    configs = names["plan"]("smoke")
    assert len(configs) == 4
    run = names["run"](configs[0].replace(epochs=1), profile="smoke", root=tmp_path)
    assert "outputs/mean" in run.rows()[-1]
