"""The campaigns of ``make torture`` with counts that fit a test: none of them finds a fault."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


@pytest.mark.skipif(os.name != "posix", reason="forks, kills and limits as POSIX has them")
def test_no_kill_full_disk_or_damage_loses_a_run_and_no_sabotage_goes_unnoticed(
    tmp_path: Path,
) -> None:
    out = tmp_path / "torture.json"
    command = [sys.executable, str(RUN), "--small", "--out", str(out)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    campaigns = (
        "resume",
        "kills",
        "corruption",
        "mutations",
        "descriptors",
        "full disk",
        "sabotage",
    )
    assert {name: report[name]["faults"] for name in campaigns} == dict.fromkeys(campaigns, 0)
    assert report["corruption"]["flipped bits"] > 50
