"""What many tests share: small models with drawn weights, a small text, the real corpora."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from textgen.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from textgen.models import Model
    from textgen.native.loading import Loading

MakeModel = Callable[..., "Model"]

# The tests' tensors are small: on a busy machine threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nor is anything compiled beside them, and then found by one test and not by the one before.
# (Processes that run the tests side by side inherit this environment.)
COMPILER = os.environ.setdefault("CC_OF_TESTS", shutil.which(os.environ.get("CC", "cc")) or "")
os.environ["CC"] = "no compiler"
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir(), "no cache of textgen"))

TEXT = """the cat that the dogs chased sat down.
"no," said the cat, "i will not."
the dogs (who were tired) slept.

a cat is a cat.
the dogs that chased the cat were tired, and the cat was not.
"""


@pytest.fixture
def make_model() -> MakeModel:
    """Makes a small LSTM whose weights are drawn, biases too, wide enough to have opinions."""

    def make(
        vocabulary: int = 11,
        hidden: tuple[int, ...] = (7, 5),
        embedding: int | None = 6,
        *,
        tie: bool = False,
        seed: int = 0,
        spread: float = 3.0,
        dtype: torch.dtype | None = None,
    ) -> Model:
        import torch

        from textgen.models import build

        config = ModelConfig(
            hidden_size=hidden, embedding_size=embedding, tie=tie, vocabulary_size=vocabulary
        )
        model = build(config)
        generator = torch.Generator().manual_seed(seed)
        model.initialize(generator)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1:
                    parameter.normal_(0, 0.3, generator=generator)
                elif name == "output.weight":
                    parameter.mul_(spread)
        return model.to(dtype or torch.float32).eval()

    return make


@pytest.fixture
def model(make_model: MakeModel) -> Model:
    """Eleven ids, layers of 7 and 5 units, float32."""
    return make_model()


@pytest.fixture
def text_ids() -> npt.NDArray[np.uint16]:
    """A few sentences as character ids: <UNK> 0, <EOS> (newline) 1, then the characters."""
    ids = {"\n": 1} | {c: id for id, c in enumerate(sorted(set(TEXT) - {"\n"}), start=2)}
    return np.array([ids[c] for c in TEXT], np.uint16)


@pytest.fixture(scope="session")
def compiler() -> str:
    """The C compiler, where there is one."""
    if not COMPILER:
        pytest.skip("no C compiler")
    return COMPILER


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Loading:
    """The compiled code."""
    from textgen.native.loading import Loading

    loading = Loading(tmp_path_factory.mktemp("compiled"), [compiler])
    assert loading.wait() is not None, "it does not compile"
    return loading


@pytest.fixture
def compiled(loaded: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and draws are those of compiled code."""
    monkeypatch.setattr("textgen.native.loading.loading", lambda: loaded)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled code takes two threads wherever it has the choice."""
    import torch

    monkeypatch.setattr("textgen.models.compiled_stepper._BYTES_A_THREAD", 1)
    monkeypatch.setattr("textgen.native.drawing._NUMBERS_A_THREAD", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora, where the environment names one."""
    named = os.environ.get("TEXTGEN_CORPORA")
    if not named:
        pytest.skip("TEXTGEN_CORPORA names no folder with tinyshakespeare.txt and its like")
    return Path(named)


@pytest.fixture
def random_ids() -> Callable[..., npt.NDArray[Any]]:
    """Draws ids of a vocabulary: random_ids(count, vocabulary, seed)."""

    def draw(count: int, vocabulary: int = 11, seed: int = 0) -> npt.NDArray[np.uint16]:
        return np.random.default_rng(seed).integers(0, vocabulary, count).astype(np.uint16)

    return draw
