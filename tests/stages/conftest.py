"""One small run shared by the tests of the stages."""

import pytest

from tests.support.smoke import run_until


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """World, pre-trained and fine-tuned model, and preference pairs of the smoke recipe."""
    run = tmp_path_factory.mktemp("small") / "run"
    run_until(run, "pairs_dropout")
    return run
