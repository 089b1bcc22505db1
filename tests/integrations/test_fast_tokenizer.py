"""``tokenizer.json`` read by the package tokenizers: the same ids as ours, and the same text."""

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from textgen.config import TokenizerConfig
from textgen.exports.fast_tokenizer import tokenizer_json
from textgen.tokenizers.registry import learn_tokenizer

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer

LINES = 10_000
LANGUAGES = [
    "Ђе ли је љубав? Да — није.",
    "Ich weiß, daß „die Straße“ viel Öl hat; nicht?",
    "¿Dónde está l'été, l’œuvre, aujourd'hui?",
    "Hvað er “þetta”, Ægir? Æ, ég veit ekki...",
    "Tiếng Việt có dấu: “xin chào thế giới”.",
    "Öl und été, in Teilen",
    "Быть или не быть — вот в чём вопрос.",
    "Γειά σου Κόσμε· τί κάνεις;",
    "שלום עולם, מה שלומך? צה״ל",
    "مرحبا بالعالم، كيف الحال؟",
    "سلام دنیا، می\u200cخواهم",
    "नमस्ते दुनिया, क्षमा कीजिए।",
    "สวัสดีชาวโลก ภาษาไทย",
    "今天天气很好，我们去公园吧。",
    "東京は日本の首都です。「はい」",
    "안녕하세요 세계! 한글이에요.",
    "Բարեւ աշխարհ։",
    "გამარჯობა მსოფლიო!",
    "ሰላም ለዓለም።",
    "𐌰𐌱 x² + y₂ = ½ Ⅳ ǅ ß ς",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 ok 👍🏽!",
    "a\tb\t c  d   e\xa0f\u3000g\x0bh\x85i",
    "<0x41> <UNK> [MASK] <|endoftext|> ￭ ％0020 ％FFED ▁ ▂",
    "''tis the dogs'' 'a'b'c' x--y ... .... !!!!!! hahaha aaaaaaa 1111 2020",
    "(un)<unk>able <unk><unk> unk unk'unk bunk unk's 'unk (<unk>)",
    "\x00\x01\x7f\ufeff\ufffe\U000f0000\U000f0001\U0010ffff \ue000",
]
LONG = ["x" * 1500, "é" * 1025 + ",b", "ab " * 900, "a" * 1023 + "  b" + " " * 5, "今天，" * 700]
TOKENIZERS: dict[str, dict[str, Any]] = {
    "characters": {"level": "char", "min_count": 2},
    "characters of paragraphs, with a literal": {"unit": "paragraph", "unk_literal": "<unk>"},
    "characters of documents": {"unit": "document"},
    "words": {"level": "word"},
    "words of paragraphs, with a literal": {
        "level": "word",
        "unit": "paragraph",
        "unk_literal": "unk",
    },
    "words of documents, with a literal": {
        "level": "word",
        "unit": "document",
        "unk_literal": "<unk>",
    },
    "spaced words, with a literal": {
        "level": "word",
        "split": "whitespace",
        "unk_literal": "<unk>",
    },
    "spaced words of paragraphs": {"level": "word", "split": "whitespace", "unit": "paragraph"},
    "spaced words of documents": {"level": "word", "split": "whitespace", "unit": "document"},
    "unigram pieces": {"level": "subword", "vocab_size": 1500},
    "unigram pieces of paragraphs": {"level": "subword", "unit": "paragraph", "vocab_size": 900},
    "byte pairs": {"level": "subword", "subword_model": "bpe", "vocab_size": 1500},
    "byte pairs of documents": {
        "level": "subword",
        "subword_model": "bpe",
        "unit": "document",
        "vocab_size": 900,
    },
}


def generated(draw: random.Random) -> Iterator[str]:
    """Lines of words of all these languages, and of characters of them in any order."""
    words = [word for line in LANGUAGES for word in line.split(" ")]
    characters = sorted(set("".join(LANGUAGES)))
    spaces = [" "] * 8 + ["", "  ", "     ", "\n", "\n\n", "\n\n\n"]
    yield from itertools.chain(LANGUAGES, LONG)
    while True:
        yield "".join(draw.choice(words) + draw.choice(spaces) for _ in range(draw.randint(0, 15)))
        yield "".join(draw.choices(characters, k=draw.randint(1, 30)))
        yield "".join(draw.choice("ha-. ") * draw.randint(1, 9) for _ in range(draw.randint(1, 9)))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    folder = Path(os.environ.get("TEXTGEN_CORPORA", "no folder"))
    names = ("tinyshakespeare.txt", "war_and_peace_90.txt")
    found = [(folder / name).read_text(encoding="utf-8") for name in names if folder.is_dir()]
    real = [line for text in found for line in text.split("\n")]
    draw = random.Random(0)
    chosen = draw.sample(real, min(len(real), LINES // 2))
    return [*chosen, *itertools.islice(generated(draw), LINES - len(chosen))]


@pytest.mark.parametrize("options", TOKENIZERS.values(), ids=TOKENIZERS)
def test_every_line_has_the_same_ids_and_the_same_text(
    lines: list[str], options: dict[str, Any]
) -> None:
    config = TokenizerConfig(**options)
    text = "\n".join(lines[::5]).replace("<UNK>", "")  # which no vocabulary may have
    ours = learn_tokenizer(config, [(text + "\n", False)])
    theirs = Tokenizer.from_str(json.dumps(tokenizer_json(ours)))
    assert theirs.get_vocab_size() == ours.vocabulary_size
    for line in lines:
        ids = ours.encode(line).tolist()
        assert theirs.encode(line, add_special_tokens=False).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    if config.subword_model == "unigram":  # as of bytes that are no text, only one marks each run
        draw = random.Random(1)
        for _ in range(300):
            ids = [draw.randrange(ours.vocabulary_size) for _ in range(12)]
            assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)


def test_only_the_end_of_a_document_has_a_name_that_a_text_may_have() -> None:
    ours = learn_tokenizer(TokenizerConfig(unit="document"), [("<EOS> and <UNK>", True)])
    theirs = Tokenizer.from_str(json.dumps(tokenizer_json(ours)))
    assert theirs.encode("<EOS>").ids == [1]
    theirs.encode_special_tokens = True
    for text in ("<EOS>", "<UNK>"):
        assert theirs.encode(text).ids == ours.encode(text).tolist()
