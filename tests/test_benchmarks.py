"""The settings of the ablation tables are trained for an update, so that they stay runnable."""

import dataclasses

import ablations
import pytest
import studies
import torch

from textgen.data.corpus import Corpus
from textgen.data.encoded import EncodedCorpus, encode_corpus
from textgen.tokenizers.registry import learn_tokenizer

SMALL = {"hidden_size": (16,), "embedding_size": 8, "ngram_rows": 64, "batch_size": 4}
SETTINGS = (
    *("base", "AR 1e-3, TAR 1e-3", "Mogrifier", "Muon per gate 0.02", "average 0.99"),
    *(
        "batch from half",
        "dropout on the output alone",
        "embedding drop 0.1",
        "one layer, normalised",
    ),
    *("output from 0", "smear gate", "soft cap 15", "tail average 0.1", "variable window"),
    *("weight decay by the learning rate", "weight drop 0.2", "window from half"),
    *("temperature", "16 passes with dropout + dropout 0.2"),
)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(
        "".join(f"Line {number} is as plain as {number * 7}.\n" for number in range(99))
    )
    corpus = Corpus.open([str(path)])
    return encode_corpus(corpus, learn_tokenizer(studies.CHARACTERS, corpus.train()))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_ablations_trains(name: str, encoded: EncodedCorpus) -> None:
    study = studies.STUDIES["characters-ngrams"]
    study = dataclasses.replace(study, steps=40, base={**study.base, **SMALL})
    setting = studies.find(study, name)
    trial = ablations.build(study, setting, encoded, 1)
    before = [weight.clone() for weight in trial.weights()]
    for step in range(4):
        trial.train(1e-2, (step + 1) / 4)
    row = ablations.finish(trial, encoded)
    assert 0 < row["loss"] < 10
    assert not all(map(torch.equal, before, trial.weights()))
