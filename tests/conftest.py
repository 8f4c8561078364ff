"""What every test shares. Set before torch is imported: one thread (results do not depend on the cores) and no network."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["QWENVL_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# What is found out about this machine is kept in the checkout: found out once for all runs of the tests, and of nobody else's use.
os.environ.setdefault("QWENVL_CACHE", str(Path(__file__).resolve().parent.parent / ".cache"))
os.environ["DO_NOT_TRACK"] = "true"  # daft and ray report their use over the network

import numpy as np
import torch
from hypothesis import settings

# Examples are the same in every run: a failure on one machine is a failure on all.
settings.register_profile("qwenvl", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("qwenvl")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test draws the same numbers in every run, whichever ran before it in the same worker."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Files that tests read."""
    return REPOSITORY / "tests" / "data"


@pytest.fixture(scope="session")
def git(repository: Path) -> str:
    """The path of git, in a checkout. Tests of what is tracked are skipped in an unpacked archive."""
    program = shutil.which("git")
    if program is None or not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    return program


@pytest.fixture(scope="session")
def scene_sources() -> None:
    """The fonts and names that scenes are drawn with. Tests that draw are skipped on a machine without them."""
    from qwenvl.data.synth import fonts, names
    from qwenvl.types import QwenVLError

    try:
        fonts.require()
        names.noun("dog", "en")
    except QwenVLError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def figure_sources(scene_sources: None) -> None:
    """Figures are drawn with the fonts of pages of text too."""
    import numpy as np

    from qwenvl.data.synth.figures.lettering import draw_family
    from qwenvl.data.synth.fonts import FontError

    try:
        draw_family(np.random.default_rng(0))
    except FontError as error:
        pytest.skip(str(error))
