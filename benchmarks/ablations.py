"""Ablations of settings and techniques for equal time: a table that grows row by row.

    python benchmarks/ablations.py --study characters-90s [SETTING ...] [--seeds N]
    python benchmarks/ablations.py --table

A study has a base configuration and a number of steps; 5,000 are 90 seconds on two cores. A setting
whose steps are slower gets fewer of them: its cost per step relative to the base is measured first,
in turns. The table therefore compares equal times, whatever else the machine is doing. A row that
is in ``results/ablations.json`` is not run again; ``--table`` writes ablations.md. The corpora are
in the folder that TEXTGEN_CORPORA names.
"""

import argparse
import json
import statistics
import time
from typing import Any

import techniques as t
import torch
from shared import RESULTS, Rows, real_text
from studies import STUDIES, Setting, Study, find

from textgen.config import ModelConfig, TrainingConfig
from textgen.data.batching import Streams
from textgen.data.corpus import Corpus
from textgen.data.encoded import EncodedCorpus, encode_corpus
from textgen.models.lstm import LSTMModel
from textgen.tokenizers.registry import learn_tokenizer
from textgen.training.schedule import Schedule
from textgen.training.trainer import validate

SAVED = Rows("ablations.json")
COLUMNS = (
    *("setting", "seeds", "loss", "training loss", "steps", "step relative to base", "epochs", "s"),
    "commit",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="settings to run; default: the base")
    parser.add_argument("--study", choices=STUDIES, default="characters-90s")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        write_table()
        return
    study = STUDIES[arguments.study]
    encoded = read(study)
    for name in arguments.settings or ["base"]:
        for seed in range(1, arguments.seeds + 1):
            key = {"study": arguments.study, "setting": name, "seed": seed}
            if SAVED.has(key):
                continue
            row = key | run(study, find(study, name), encoded, seed)
            SAVED.add(row)
            print(json.dumps(row), flush=True)


def read(study: Study) -> EncodedCorpus:
    corpus = Corpus.open([real_text(study.corpus)])
    return encode_corpus(corpus, learn_tokenizer(study.tokenizer, corpus.train()))


def build(study: Study, setting: Setting, encoded: EncodedCorpus, seed: int) -> t.Trial:
    options = {**study.base, **setting.options}
    config = TrainingConfig.from_options({**options, "steps": 1, "seed": seed})
    vocabulary = int(encoded.train.max()) + 1
    shape = ModelConfig.from_options(options).resolved(vocabulary)
    model = setting.model(shape)
    model.initialize(torch.Generator().manual_seed(seed))
    streams = Streams(
        encoded.train[: study.tokens],
        batch_size=config.batch_size,
        sequence_length=config.sequence_length,
        run_windows=config.run_windows,
        unknown_rate=0.0 if encoded.header.train.unknown else config.unknown_rate,
        seed=seed,
    )
    return t.make_trial(model, streams, config, setting.techniques())


def run(study: Study, setting: Setting, encoded: EncodedCorpus, seed: int) -> dict[str, Any]:
    slower = slowness(study, setting, encoded)
    steps = round(study.steps / slower)
    trial = build(study, setting, encoded, seed)
    schedule = Schedule(trial.config, steps)
    begun = time.perf_counter()
    for step in range(steps):
        rate = schedule.learning_rate((step + 0.5) / steps)
        if setting.schedule is not None:
            warm = min(1.0, (step + 0.5) / steps / trial.config.warmup)
            rate = trial.config.learning_rate * warm * setting.schedule(step / steps)
        trial.train(rate, (step + 1) / steps)
        if step == steps - steps // 20:
            trial.take_mean_loss()  # the next call gives the mean over the last twentieth
    return finish(trial, encoded) | {
        "steps": steps,
        "step_over_base": round(slower, 3),
        "epochs": round(trial.progress.tokens_seen / len(encoded.train[: study.tokens]), 2),
        "seconds": round(time.perf_counter() - begun, 1),
        "parameters": sum(p.numel() for p in trial.model.parameters()),
    }


def finish(trial: t.Trial, encoded: EncodedCorpus) -> dict[str, Any]:
    """The losses of a trial after its last update, in nats per token."""
    training = trial.take_mean_loss()
    for technique in trial.techniques:
        technique.end(trial)
    others = [each.validation_loss(trial, encoded.valid) for each in trial.techniques]
    loss = next((each for each in others if each is not None), None)
    if loss is None:
        characters = encoded.header.valid.characters
        loss = validate(trial.model, encoded.valid, characters=characters).loss
    return {"loss": round(loss, 4), "training_loss": round(training, 4)}


def slowness(study: Study, setting: Setting, encoded: EncodedCorpus) -> float:
    """Seconds per step relative to the base, in turns; 1 if the setting cannot change them."""
    costly = {"batch_size", "sequence_length", "hidden_size", "embedding_size", "dropout"}
    plain = setting.techniques is tuple and setting.model is LSTMModel
    if plain and not costly & setting.options.keys():
        return 1.0
    base, other = (build(study, each, encoded, 1) for each in (Setting(), setting))
    pairs = []
    for _ in range(12):
        pair = []
        for trial in (base, other):
            begun = time.perf_counter()
            for step in range(8):
                trial.train(1e-4, (step + 1) / 8)  # over the whole run: batches may grow
            pair.append(time.perf_counter() - begun)
        pairs.append(pair)
    return statistics.median(ours / theirs for theirs, ours in pairs[2:])


def write_table() -> None:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in SAVED.all():
        groups.setdefault((row["study"], row["setting"]), []).append(row)
    lines = ["# Ablations for equal time", "", __doc__.split("\n\n")[2], ""]
    for study in STUDIES:
        found = {name: group for (of, name), group in groups.items() if of == study}
        if not found:
            continue
        base = STUDIES[study]
        lines += [
            f"## {study}",
            "",
            f"{base.corpus}, {base.steps:,} steps of the base"
            + (f", {base.tokens:,} training tokens" if base.tokens else "")
            + "".join(f", {k} {v}" for k, v in base.base.items()),
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|---" * len(COLUMNS) + "|",
        ]
        for name, group in sorted(found.items(), key=lambda pair: _mean(pair[1], "loss")):
            cells = [name, len(group)]
            cells += [f"{_mean(group, key):.4g}" for key in ("loss", "training_loss")]
            cells += [group[0][key] for key in ("steps", "step_over_base", "epochs")]
            cells += [round(_mean(group, "seconds")), group[0].get("commit", "")]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    (RESULTS / "ablations.md").write_text("\n".join(lines), encoding="utf-8")


def _mean(group: list[dict[str, Any]], key: str) -> float:
    return statistics.mean(row[key] for row in group)


if __name__ == "__main__":
    main()
