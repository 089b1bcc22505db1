"""Clients of the completions protocol, as they are on the package index."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from running import Service, serving, trained

from textgen.language_model import LanguageModel
from textgen.studies.pairs.pairs import Pair, score_pairs

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = trained(tmp_path_factory.mktemp("server"))
    with serving(LanguageModel.load(folder, device="cpu")) as service:
        yield service


@pytest.fixture
def openai_client(service: Service) -> Any:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        yield client


def test_openai_gets_the_text_of_sample_at_once_and_in_parts(
    service: Service, openai_client: Any
) -> None:
    fields = {"model": "mine", "prompt": "Once upon", "max_tokens": 100, "seed": 2}
    expected = [s.text for s in service.model.sample("Once upon", length=100, seed=2, count=2)]
    whole = openai_client.completions.create(**fields, n=2)
    assert [choice.text for choice in whole.choices] == expected
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (9, 200)
    parts = openai_client.completions.create(**fields, stream=True)
    assert "".join(part.choices[0].text for part in parts) == expected[0]
    assert [model.id for model in openai_client.models.list()] == ["mine"]


def test_openai_gets_the_log_probabilities_of_score(service: Service, openai_client: Any) -> None:
    text = "The old man went to the river."
    answer = openai_client.completions.create(
        model="mine", prompt=text, max_tokens=0, echo=True, logprobs=2
    )
    found = answer.choices[0].logprobs
    score = service.model.score(text, eos=False)
    assert sum(found.token_logprobs) == pytest.approx(score.log_prob, abs=1e-4)
    assert "".join(found.tokens) == text


def test_openai_raises_its_own_errors(openai_client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as error:
        openai_client.completions.create(model="mine", prompt="a", temperature=-1)
    assert error.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        openai_client.completions.create(model="other", prompt="a")


def minimal_pairs() -> list[tuple[str, str]]:
    """Good and bad sentences, which differ in a verb or a pronoun."""
    nouns, places = ("king", "fox", "old woman", "boy"), ("river", "forest", "house")
    verbs = (("goes", "go"), ("has gone", "have gone"), ("was sent", "were sent"))
    return [
        (f"The {noun} {good} to the {place}.", f"The {noun} {bad} to the {place}.")
        for noun in nouns
        for place in places
        for good, bad in verbs
    ]


@pytest.mark.parametrize(("batch", "end"), [(1, "\n"), (8, "\n"), (8, "")])
def test_lm_evaluation_harness_comes_to_the_verdicts_of_pairs(
    service: Service, batch: int, end: str
) -> None:
    os.environ.update(OFFLINE)
    pytest.importorskip("lm_eval")
    pytest.importorskip("tenacity")  # of its extra api
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    lm = LocalCompletionsAPI(
        model="mine",
        base_url=f"{service.url}/v1/completions",
        tokenizer_backend="remote",
        batch_size=batch,
        num_concurrent=1,
    )
    pairs = minimal_pairs()
    instances = [
        Instance("loglikelihood", {}, ("", sentence + end), number)
        for number, sentence in enumerate(sentence for pair in pairs for sentence in pair)
    ]
    found = [log_prob for log_prob, _ in lm.loglikelihood(instances, disable_tqdm=True)]
    model = service.model
    scored = score_pairs(
        (Pair(number, *pair) for number, pair in enumerate(pairs, start=1)),
        lambda texts: (score.log_prob for score in model.scores(texts, eos=bool(end))),
    )
    for place, pair in enumerate(scored):
        assert found[2 * place] == pytest.approx(pair.good_log_prob, abs=1e-4)
        assert found[2 * place + 1] == pytest.approx(pair.bad_log_prob, abs=1e-4)
        assert (found[2 * place] > found[2 * place + 1]) == pair.right


def test_llm_writes_the_text_of_sample(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("llm")
    described = {
        "model_id": "mine",
        "model_name": "mine",
        "api_base": f"{service.url}/v1",
        "completion": True,
    }
    # JSON is YAML, too.
    Path(tmp_path, "extra-openai-models.yaml").write_text(json.dumps([described]))
    command = [sys.executable, "-m", "llm", "-m", "mine", "Once upon"]
    for options in ([], ["--no-stream"]):
        made = subprocess.run(
            [*command, "-o", "seed", "3", "-o", "max_tokens", "60", "--key", "none", *options],
            env=os.environ | {"LLM_USER_PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        (expected,) = service.model.sample("Once upon", length=60, seed=3)
        assert (made.returncode, made.stdout.strip()) == (0, expected.text.strip()), made.stderr
