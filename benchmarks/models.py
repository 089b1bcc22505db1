"""Every model for as long on the same text, and what n-grams and hidden states cost.

    python benchmarks/models.py [compare mixture counting hmm writing ...] [--models NAME,NAME]

"compare": ``textgen compare`` of all kinds, 90 s each, all defaults, characters of tiny
Shakespeare. "mixture": lstm+ngram for 300 s. "counting": n-grams of 5 words of ten million tokens,
and of 8 characters, on one thread, with the peak of memory. "hmm": an epoch of the words of War
and Peace by 256 states. "writing": what mixing costs when text is written. The corpora are in the
folder that TEXTGEN_CORPORA names; rows go to ``results/models.json``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shared import TEXTGEN, Rows, machine, real_text

from textgen import LanguageModel, train
from textgen.native.loading import loading

KEPT = Rows("models.json")
LEFT_OUT = ("curve", "pseudo_curve", "checkpoint")
TOLSTOY, SHAKESPEARE = "war_and_peace_90.txt", "tinyshakespeare.txt"


def main() -> None:
    studies = {"compare": compare, "mixture": mixture, "counting": counting}
    studies |= {"hmm": hmm, "writing": writing}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", default=list(studies))
    parser.add_argument("--models", help="of compare, if not all")
    arguments = parser.parse_args()
    some = [] if arguments.models is None else ["--models", arguments.models]
    for name in arguments.studies:
        for key, row in studies[name](*some).items():
            KEPT.put({"study": name, "of": key, "machine": machine()}, row)
            print(name, key, json.dumps(row), flush=True)


def compare(*some: str) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["compare", real_text(SHAKESPEARE), "--out", f"{folder}/all"]
        for line in textgen(*arguments, *some, "--budget", "90s"):
            if "total" not in line:
                found[line["model"]] = {key: line[key] for key in line if key not in LEFT_OUT}
    return found


def mixture() -> dict[str, Any]:
    return {"300s": trained(SHAKESPEARE, "--model", "lstm+ngram", "--budget", "300s")}


def writing() -> dict[str, Any]:
    """A text of 4,000 tokens by lstm+ngram, and by its LSTM alone, five times by turns."""
    loading().wait()
    with tempfile.TemporaryDirectory() as folder:
        options = {"model": "lstm+ngram", "steps": 100, "hidden_size": 512}
        train(real_text(SHAKESPEARE), out=f"{folder}/model", **options)
        model = LanguageModel.load(f"{folder}/model")
    ways = {"mixture": model.model, "network": model.model.network}
    rounds = []
    for seed in range(5):
        seconds = {}
        for name, model.model in ways.items():
            begun = time.perf_counter()
            model.sample(length=4000, seed=seed)
            seconds[name] = time.perf_counter() - begun
        rounds.append(seconds)
    speed = {name: 4000 / statistics.median(each[name] for each in rounds) for name in ways}
    share = statistics.median(each["network"] / each["mixture"] for each in rounds)
    return {"one text": speed | {"of the network's speed": share}}


def hmm() -> dict[str, Any]:
    options = ["--model", "hmm", "--states", "256", "--level", "word", "--epochs", "1"]
    return {"an epoch of words": trained(TOLSTOY, *options)}


def trained(corpus: str, *options: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        (found,) = textgen("train", real_text(corpus), "--out", f"{folder}/model", *options)
    names = ("seconds", "tokens_seen", "tokens_per_second", "parameters")
    return {name: found[name] for name in names} | {"loss": found["validation"]["loss"]}


def textgen(*arguments: object) -> list[Any]:
    command = [str(TEXTGEN), *map(str, arguments), "--format", "json"]
    return [json.loads(line) for line in subprocess.check_output(command).splitlines()]


def counting() -> dict[str, Any]:
    studies = {"8 characters": (SHAKESPEARE, 8, 1), "5 words": (TOLSTOY, 5, 16)}
    return {
        name: json.loads(subprocess.check_output([sys.executable, "-c", COUNT, *map(str, study)]))
        for name, study in studies.items()
    }


COUNT = """
import json, sys, time
import numpy as np, torch
from textgen.config import TokenizerConfig
from textgen.corpus import Corpus
from textgen.encoding import encode_corpus
from textgen.models.counting import count
from textgen.process_memory import peak_resident_bytes
from textgen.tokenizers import learn_tokenizer
sys.path.insert(0, "benchmarks")
from shared import real_text
torch.set_num_threads(1)
name, order, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
words = {"level": "word", "vocab_size": 10_000} if times > 1 else {}
corpus = Corpus.open([str(real_text(name))])
tokenizer = learn_tokenizer(TokenizerConfig(**words), corpus.train())
ids = np.tile(encode_corpus(corpus, tokenizer).train, times)
if times > 1:  # a text again and again has nothing new: a third of it is mixed up
    random = np.random.default_rng(0)
    places = random.random(len(ids)) < 0.3
    ids[places] = random.permutation(ids[places])
begun, used = time.perf_counter(), time.process_time()
counts = count(ids, order, tokenizer.vocabulary_size)
print(json.dumps({
    "tokens": len(ids),
    "n-grams": sum(len(each.words) for each in counts),
    "seconds": time.perf_counter() - begun,
    "tokens_per_second_of_one_core": len(ids) / (time.process_time() - used),
    "peak_megabytes": peak_resident_bytes() // 10**6,
}))
"""


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
