"""Mutations of every file that textgen reads back, each with the checksums made right again.

A file of a model, a corpus, a comparison, an index or a list is changed in one place: a value of
its JSON, an entry of an array, some of its bytes. Then the commands that read it run in a child
process. They may end well or with an error of textgen's; a fault is any other exception, a crash,
more than ten seconds of the processor or more than a gigabyte.
"""

import contextlib
import copy
import io
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from corruption import resealed
from runs import TEXT, forked
from safetensors.torch import load_file, save_file

from textgen import storage, train
from textgen.cli.app import main
from textgen.config import TokenizerConfig
from textgen.data.encoded import tokenize
from textgen.tokenizers.registry import FILE as TOKENIZER
from textgen.tokenizers.registry import TOKENIZERS

_SECONDS, _BYTES = 10.0, 10**9  # of a command; seconds are those of the processor
_PATIENCE = 10  # as a multiple, on a busy machine
_FAULT = 98
_MACHINE = ("--device", "cpu", "--threads", "1")
Random = random.Random


@dataclass(frozen=True)
class Subject:
    """Something that textgen reads back.

    Attributes:
        files: Those that are mutated, relative to the folder.
        commands: Those that read it; ``{}`` is the folder.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


def campaign(folder: Path, *, small: bool, seed: int = 1) -> dict[str, Any]:
    os.environ["CC"] = "no compiler"  # every child would wait for it
    subjects = _subjects(folder, small=small)
    report: Counter[str] = Counter()
    draws, target = Random(seed), folder / "mutated"
    for subject in subjects:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(subject.folder, target)
        for command in subject.commands:
            code, said = _command(tuple(each.replace("{}", str(target)) for each in command))
            assert code == 0, (command, said)
    for number in range(2 * len(subjects) if small else 10_000):
        subject = subjects[number % len(subjects)]
        file = draws.choice(subject.files)
        what = mutate(subject.folder, target, file, draws)
        fault, seconds = _run(subject, target, folder / "fault.txt")
        report["mutations"] += 1
        report["commands"] += len(subject.commands)
        report["slowest, in ms"] = max(report["slowest, in ms"], round(1000 * seconds))
        if fault:
            report["faults"] += 1
            print(f"{number}: {subject.name}, {file}: {what}: {fault}", flush=True)
    files = sum(len(subject.files) for subject in subjects)
    return {"files": files, **report, "faults": report["faults"]}


def _subjects(folder: Path, *, small: bool) -> list[Subject]:
    corpus = folder / "corpus.txt"
    corpus.write_text(TEXT * 3, encoding="utf-8")
    kinds: dict[str, dict[str, Any]] = {
        "lstm": {},
        "word": {"level": "word", "min_count": 2},
        "bag-of-words": {"model": "bag-of-words"},
        "subword": {"level": "subword", "vocab_size": 300},
        "ngram": {"model": "ngram"},
        "feedforward": {"model": "feedforward"},
        "lstm+ngram": {"model": "lstm+ngram"},
        "hmm": {"model": "hmm"},
        "bidirectional": {"model": "bidirectional"},
    }
    subjects = []
    for name, options in list(kinds.items())[: 3 if small else None]:
        _small_run(corpus, folder / name, **options)
        subjects.append(_model(name, folder / name))
    tokenize([corpus], TokenizerConfig(level="word"), out=folder / "encoded", valid_fraction=0.1)
    small_options = ("--steps", "1", "--hidden-size", "4", "--batch-size", "1", *_MACHINE)
    learn = ("train", "{}", "--out", str(folder / "out"), "--overwrite", *small_options)
    subjects.append(Subject("encoded", folder / "encoded", _names(folder / "encoded"), (learn,)))
    models = ("--models", "lstm:hidden-size=4,ngram", "--steps", "2", "--batch-size", "1")
    command = ("compare", str(corpus), "--out", "{}", *models, *_MACHINE)
    _command(tuple(each.replace("{}", str(folder / "compared")) for each in command))
    names = ("comparison.json", *_names(folder / "compared"))  # that one twice as often
    subjects.append(Subject("compared", folder / "compared", names, (command,)))
    novelty = ("sample", "{}", "--length", "20", "--novelty", *_MACHINE)
    shutil.copytree(folder / "lstm", folder / "novel")
    _command(tuple(each.replace("{}", str(folder / "novel")) for each in novelty))
    names = tuple(name for name in _names(folder / "novel") if "novelty" in name)
    subjects.append(Subject("novel", folder / "novel", names, (novelty,)))
    return [*subjects, *_lists(folder, corpus, small_options)]


def _small_run(corpus: Path, out: Path, **options: Any) -> None:
    model = options.get("model", "lstm")
    sizes = {} if model in ("ngram", "hmm") else {"embedding_size": 8}
    sizes |= {"states": 6} if model == "hmm" else {}
    sizes |= {"hidden_size": 16} if model not in ("ngram", "hmm", "bag-of-words") else {}
    training = {} if model == "ngram" else {"steps": 4, "batch_size": 2, "sequence_length": 8}
    train(corpus, out=out, device="cpu", threads=1, **sizes, **training, **options)


def _model(name: str, folder: Path) -> Subject:
    score = ("score", "{}", "--text", "the cat sees the ball.", "--format", "json", *_MACHINE)
    sample = ("sample", "{}", "--length", "10", *_MACHINE)
    predict = ("predict", "{}", "the ____ sees the ball.", *_MACHINE)
    resume = ("train", "--out", "{}", "--resume", "--steps", "5", *_MACHINE)
    counts = {"ngram": (), "bidirectional": (resume,)}.get(name, (resume, sample))
    commands = (("info", "{}"), ("plot", "loss", "{}"), score, predict, *counts)
    return Subject(name, folder, _names(folder), commands)


def _lists(folder: Path, corpus: Path, options: Sequence[str]) -> Iterator[Subject]:
    """Files of people: vectors, pairs, n-best lists, continuations, a text."""
    model = str(folder / "lstm")
    vectors = "\n".join(f"{word} 0.5 -1.25 3e-2 1" for word in sorted(set(TEXT.split())))
    pairs = json.dumps({"sentence_good": "the cat sees it.", "sentence_bad": "the cats sees it."})
    rows = ((list_, word) for list_ in (0, 1) for word in ("ball", "door", "dor"))
    nbest = "\n".join(f"{list_} ||| the cat sees the {word} ||| -1.5" for list_, word in rows)
    word = ("--level", "word", "--embedding-size", "4")
    learn = ("train", str(corpus), "--out", str(folder / "out"), "--overwrite", *word, *options)
    (folder / "nbest.txt").write_text(nbest, encoding="utf-8")
    tune = ("rerank", model, str(folder / "nbest.txt"), "--tune", "{}/references.txt", *_MACHINE)
    for name, text, command in (
        ("vectors.txt", vectors, (*learn, "--embeddings", "{}/vectors.txt")),
        ("pairs.jsonl", "\n".join([pairs] * 3), ("pairs", model, "{}/pairs.jsonl", *_MACHINE)),
        ("nbest.txt", nbest, ("rerank", model, "{}/nbest.txt", *_MACHINE)),
        ("references.txt", "0 the cat sees the ball\n1 the cat sees the door\n", tune),
        ("rows.tsv", "the cat\t sees\n" * 3, ("score", model, "--continuations", "{}/rows.tsv")),
        ("text.txt", TEXT[:200], ("score", model, "{}/text.txt", "--level", "word", *_MACHINE)),
    ):
        home = folder / f"list of {name}"
        home.mkdir()
        (home / name).write_text(text, encoding="utf-8")
        yield Subject(name, home, (name,), (command,))


def _names(folder: Path) -> tuple[str, ...]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple(str(path.relative_to(folder)) for path in files if path.name != storage.LOCK)


def mutate(source: Path, target: Path, file: str, draws: Random) -> str:
    """Make ``target`` a copy of ``source`` in which a file is changed; what was changed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(storage.LOCK))
    path = target / file
    change = draws.choice([_CHANGES.get(path.suffix, _bytes), _bytes] if path.suffix else [_bytes])
    if (path.parent / storage.MANIFEST).exists() and path.name != storage.MANIFEST:
        said: list[str] = []

        def changed(folder: Path) -> None:
            said.append(change(folder / path.name, draws))
            if draws.random() < 0.7:
                _mend_fingerprints(folder)

        begun = path.parent.with_name(path.parent.name + ".changed")
        resealed(path.parent, begun, changed)
        shutil.rmtree(path.parent)
        begun.rename(path.parent)
        return said[0]
    return change(path, draws)


def _mend_fingerprints(folder: Path) -> None:
    """Make the fingerprints of a tokenizer those of its files, where these can be read."""
    with contextlib.suppress(Exception):
        header = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        config = TokenizerConfig.from_options(header["config"])
        files = {path.name: path for path in folder.iterdir()}
        header["fingerprint"] = TOKENIZERS[config.level].load(config, files).fingerprint
        storage.write_json(folder / TOKENIZER, header)
        for name in ("config.json", "corpus.json"):
            with contextlib.suppress(FileNotFoundError):
                raw = json.loads((folder / name).read_text(encoding="utf-8"))
                raw.get("corpus", raw)["tokenizer_fingerprint"] = header["fingerprint"]
                storage.write_json(folder / name, raw)


_ODD = (
    *(None, True, -1, 0, 1, 2, 7, 1.5, -0.0, 2**31, 2**63, 2**70, 1e308, -1e308, 1e-320),
    *("", "x", "lstm", "../../etc/passwd", "\x1b[31m", "\ud800", "9" * 5000, "x" * 100_000),
    *([], {}, [1], [[[]]], {"a": None}, [0] * 1000),
)


def _json(path: Path, draws: Random) -> str:
    raw = json.loads(path.read_text(encoding="utf-8"))
    where = _change_value(raw, draws)
    path.write_text(json.dumps(raw, ensure_ascii=True), encoding="utf-8")
    return where


def _json_lines(path: Path, draws: Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    number = draws.randrange(len(lines))
    raw = json.loads(lines[number])
    where = _change_value(raw, draws)
    lines[number] = draws.choice([json.dumps(raw), json.dumps(raw), lines[number][:-3], "[]", "7"])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"line {number + 1}{where}"


def _change_value(raw: Any, draws: Random) -> str:
    """Replace, remove, repeat or scale a value somewhere below ``raw``; the path to it."""
    path = ""
    while isinstance(raw, dict | list) and raw:
        key = draws.choice(list(raw) if isinstance(raw, dict) else range(len(raw)))
        path += f".{key}"
        value = raw[key]
        if isinstance(value, dict | list) and value and draws.random() < 0.85:
            raw = value
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        way = draws.choice(["odd", "odd", "odd", "gone", "again", "scaled" if number else "odd"])
        if way == "gone":
            del raw[key]
        elif way == "again":
            raw[key] = [value] * draws.choice([2, 300])
        elif way == "scaled":
            raw[key] = value * draws.choice([-1, 2, 1000, 10**9]) + draws.choice([0, 1])
        else:
            value = copy.deepcopy(draws.choice(_ODD))
            raw[key] = value
        return f"{path} {way} {raw.get(key) if isinstance(raw, dict) else ''!r}"[:200]
    return f"{path} nothing"


def _tensors(path: Path, draws: Random) -> str:
    """Change a few entries of a tensor, or its shape or type."""
    tensors = load_file(path)
    names = [name for name, tensor in tensors.items() if tensor.numel()]
    if not names:
        return _bytes(path, draws)
    name = draws.choice(names)
    tensor = tensors[name].clone()
    flat = tensor.view(-1)
    odd = (-1, 0, 1, 2, 2**31 - 1, -(2**31), 2**62, 3e38, -3e38, 1e-45, torch.inf, torch.nan)
    way = draws.choice(["entries", "entries", "entries", "shape", "type", "gone"])
    if way == "entries":
        for _ in range(draws.choice([1, 1, flat.numel()])):
            value = draws.choice(odd)
            if not tensor.is_floating_point():
                limits = torch.iinfo(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype)
                value = int(min(max(value, limits.min), limits.max)) if value == value else 0
                value = min(abs(value), 1) if tensor.dtype == torch.bool else value
            flat[draws.randrange(flat.numel())] = value
    elif way == "shape":
        tensor = torch.cat([tensor, tensor]) if tensor.dim() else tensor.reshape(1, 1)
    elif way == "type":
        tensor = tensor.to(draws.choice([torch.float64, torch.int64, torch.float16, torch.uint8]))
    changed = tensors | {name: tensor.contiguous()}
    if way == "gone":
        del changed[name]
    save_file(changed, path)
    return f"{name} {way}"


def _integers(path: Path, draws: Random) -> str:
    """Change one of the 32-bit integers of a binary file."""
    data = bytearray(path.read_bytes())
    if len(data) < 8:
        return _bytes(path, draws)
    place = 4 * draws.randrange(len(data) // 4)
    value = draws.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data), len(data) // 4))
    data[place : place + 4] = value.to_bytes(4, "little")
    path.write_bytes(data)
    return f"{value} at byte {place}"


def _bytes(path: Path, draws: Random) -> str:
    data = bytearray(path.read_bytes())
    place = draws.randrange(len(data) + 1)
    way = draws.choice(("flip", "cut", "insert", "repeat", "zeros", "empty"))
    if way == "flip" and data:
        for _ in range(draws.choice((1, 8))):
            data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
    elif way == "cut":
        del data[place:]
    elif way == "insert":
        data[place:place] = draws.randbytes(draws.choice((1, 16, 1000)))
    elif way == "repeat":
        data[place:place] = bytes(data[max(0, place - 64) : place]) * draws.choice((1, 50))
    elif way == "zeros":
        data[place : place + 16] = bytes(16)
    elif way == "empty":
        data.clear()
    path.write_bytes(data)
    return f"bytes {way} at {place}"


_CHANGES: dict[str, Callable[[Path, Random], str]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".safetensors": _tensors,
    ".bin": _integers,
}


def _run(subject: Subject, target: Path, report: Path) -> tuple[str | None, float]:
    """Run the commands in a child. What is wrong with how it ended, and the seconds it took."""
    report.unlink(missing_ok=True)

    def work() -> None:
        for command in subject.commands:
            begun = time.process_time()
            code, said = _command(tuple(each.replace("{}", str(target)) for each in command))
            seconds = time.process_time() - begun
            if code not in range(6) or "this is a bug in textgen" in said:
                fault = f"exit {code}, {said}"
            elif seconds > _SECONDS:
                fault = f"{seconds:.0f} seconds"
            else:
                continue
            report.write_text(f"{command[0]}: {fault}", encoding="utf-8", errors="replace")
            os._exit(_FAULT)

    begun = time.perf_counter()
    child, limit = forked(work), _PATIENCE * _SECONDS * len(subject.commands)
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.perf_counter() - begun
        if ended:
            break
        if seconds > limit:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            return f"no end within {limit:.0f} seconds", seconds
        time.sleep(0.005)
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}", seconds
    if os.WEXITSTATUS(status):
        said = report.read_text(encoding="utf-8") if report.exists() else "an exception"
        return said, seconds
    if 1024 * usage.ru_maxrss > _BYTES:
        return f"{usage.ru_maxrss / 1024:.0f} MB of memory", seconds
    return None, seconds


def _command(arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run a command in this process. Its exit code, and the last line of stderr."""
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    lines = err.getvalue().strip().splitlines()
    return code, lines[-1] if lines else ""
