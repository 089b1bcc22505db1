"""All kinds of model for the same time on the same text; the cost of n-grams and HMMs.

    python benchmarks/models.py [STUDY ...] [--models NAME,NAME]

compare: ``textgen compare`` of all kinds with defaults, 90 s each, characters of Tiny Shakespeare.
mixture: lstm+ngram for 300 s.
counting: n-grams of 5 words of ten million tokens, and of 8 characters, on one thread; peak memory.
hmm: an epoch of the words of War and Peace with 256 states.
writing: the speed of generating text with the mixture, relative to its LSTM.

The corpora are in the folder that TEXTGEN_CORPORA names; rows go to ``results/models.json``.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from shared import (
    SHAKESPEARE,
    TOLSTOY,
    Rows,
    machine,
    median,
    median_ratio,
    real_text,
    run,
    seconds,
    show,
    textgen,
)

from textgen import LanguageModel, train
from textgen.inference.native.kernels import loading

SAVED = Rows("models.json")
LEFT_OUT = ("curve", "pseudo_curve", "checkpoint")
TOKENS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=list(STUDIES))
    parser.add_argument("--models", help="of compare; default: all")
    arguments = parser.parse_args()
    for name in arguments.studies:
        options = [arguments.models] if name == "compare" else []
        for key, row in STUDIES[name](*options).items():
            SAVED.put({"study": name, "of": key, "machine": machine()}, row)
            show(f"{name}, {key}", row)


def compare(models: str | None) -> dict[str, Any]:
    options = [] if models is None else ["--models", models]
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["compare", real_text(SHAKESPEARE), "--out", f"{folder}/all"]
        lines = textgen(*arguments, *options, "--budget", "90s")
    runs = [line for line in lines if "total" not in line]
    return {run["model"]: {k: v for k, v in run.items() if k not in LEFT_OUT} for run in runs}


def mixture() -> dict[str, Any]:
    return {"300s": trained(SHAKESPEARE, "--model", "lstm+ngram", "--budget", "300s")}


def writing() -> dict[str, Any]:
    """A text of 4,000 tokens by lstm+ngram, and by its LSTM alone, five times in turns."""
    loading().wait()
    with tempfile.TemporaryDirectory() as folder:
        options = {"model": "lstm+ngram", "steps": 100, "hidden_size": 512}
        train(real_text(SHAKESPEARE), out=f"{folder}/model", **options)
        model = LanguageModel.load(f"{folder}/model")
    networks = {"mixture": model.model, "network": model.model.network}
    rounds = []
    for seed in range(5):
        taken = {}
        for name, model.model in networks.items():
            taken[name] = seconds(lambda seed=seed: model.sample(length=TOKENS, seed=seed))
        rounds.append(taken)
    speed = {name: TOKENS / median(rounds, name) for name in networks}
    share = median_ratio(rounds, "network", "mixture")
    return {"one text": speed | {"of the network's speed": share}}


def hmm() -> dict[str, Any]:
    options = ["--model", "hmm", "--states", "256", "--level", "word", "--epochs", "1"]
    return {"an epoch of words": trained(TOLSTOY, *options)}


def trained(corpus: str, *options: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        (found,) = textgen("train", real_text(corpus), "--out", f"{folder}/model", *options)
    names = ("seconds", "tokens_seen", "tokens_per_second", "parameters")
    return {name: found[name] for name in names} | {"loss": found["validation"]["loss"]}


def counting() -> dict[str, Any]:
    """Each in a process of its own, for its peak memory."""
    studies = {"8 characters": (SHAKESPEARE, 8, 1), "5 words": (TOLSTOY, 5, 16)}
    return {
        name: run(sys.executable, "-c", COUNT, real_text(corpus), order, times).objects()[0]
        for name, (corpus, order, times) in studies.items()
    }


COUNT = """
import json, sys, time
import numpy as np, torch
from textgen.config import TokenizerConfig
from textgen.data.corpus import Corpus
from textgen.data.encoded import encode_corpus
from textgen.models.ngram import count
from textgen.process_memory import peak_resident_bytes
from textgen.tokenizers.registry import learn_tokenizer
torch.set_num_threads(1)
path, order, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
words = {"level": "word", "vocab_size": 10_000} if times > 1 else {}
corpus = Corpus.open([path])
tokenizer = learn_tokenizer(TokenizerConfig(**words), corpus.train())
ids = np.tile(encode_corpus(corpus, tokenizer).train, times)
if times > 1:  # a repeated text has no new n-grams: a third of its tokens are shuffled
    random = np.random.default_rng(0)
    places = random.random(len(ids)) < 0.3
    ids[places] = random.permutation(ids[places])
begun, used = time.perf_counter(), time.process_time()
counts = count(ids, order, tokenizer.vocabulary_size)
print(json.dumps({
    "tokens": len(ids),
    "n-grams": sum(len(each.tokens) for each in counts),
    "seconds": time.perf_counter() - begun,
    "tokens_per_second_of_one_core": len(ids) / (time.process_time() - used),
    "peak_megabytes": peak_resident_bytes() // 10**6,
}))
"""

STUDIES: dict[str, Callable[..., dict[str, Any]]] = {
    "compare": compare,
    "mixture": mixture,
    "counting": counting,
    "hmm": hmm,
    "writing": writing,
}

if __name__ == "__main__":
    main()
