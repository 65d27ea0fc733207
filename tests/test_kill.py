"""The whole chain under SIGKILL."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_with_the_summary_of_one_left_alone(tmp_path):
    command = [sys.executable, "-m", "tests.kill_run", "--folder", str(tmp_path), "--kills", "10"]
    printed = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True).stdout
    outcome = json.loads(printed.splitlines()[-1])
    assert outcome["kills"] == 10
    assert outcome["differ"] == []
