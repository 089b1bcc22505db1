"""The page of a score: what a browser would make of it, read with the standard library."""

import base64
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest

from textgen.config.scoring import ScoreLevel, ScoringConfig
from textgen.errors import ResourceError
from textgen.presentation.formats import Shown
from textgen.presentation.html import EDGES_BITS, PageScores
from textgen.results import Choice, PartScore, ScoreSum, SentenceScore

BIT = math.log(2)
VOID = {"meta", "link", "img", "input", "br", "path"}
HOSTILE = "</script><img src=x onerror=\"x()\"> '&amp;' <!-- ${1} $title"


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, tag: str, name: str = "") -> list["Element"]:
        """What is in it, in order, with this tag and class."""
        found = []
        for child in self.children:
            if child.tag == tag and (not name or name in child.attributes.get("class", "").split()):
                found.append(child)
            found += child.all(tag, name)
        return found


class Tree(HTMLParser):
    """A tree of elements; a tag that closes none or another is an error."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def tree(path: Path) -> Element:
    parser = Tree()
    parser.feed(path.read_bytes().decode())
    parser.close()
    assert len(parser.open) == 1
    return parser.open[0]


def part(span: str, bits: float = 3.0, **more: Any) -> PartScore:
    return PartScore(more.pop("text", span.strip()), span, -bits * BIT, **more)


END = PartScore("<EOS>", "", -BIT, ends=True, id=1)


def scored(line: int, *parts: PartScore, **more: Any) -> SentenceScore:
    text = "".join(each.span for each in parts)
    log_prob = sum(each.log_prob for each in parts)
    return SentenceScore(
        log_prob, len(parts), more.pop("unknown", 0), 0.0, len(text) + 1, line=line, text=text,
        parts=parts, **more,
    )  # fmt: skip


def opened(path: Path, *, name: str = "a.txt", level: Any = "word") -> PageScores:
    config = ScoringConfig(level=level)
    return PageScores(path, Shown(2.0, level), name=name, checkpoint="checkpoints/c", config=config)


def write(path: Path, *sentences: SentenceScore, name: str = "a.txt") -> Path:
    with opened(path, name=name) as writer:
        writer.begin()
        for each in sentences:
            writer.sentence(each)
        writer.end(sum(sentences, ScoreSum()), len(sentences))
    return path


def details(sentence: Element) -> Any:
    return json.loads(sentence.attributes["data-all"], parse_constant=pytest.fail)


def test_the_text_is_in_its_parts_letter_for_letter_each_with_its_colour(tmp_path: Path) -> None:
    parts = (part("The", 0.2), part(" cat\n", 4.0), part(" ", 7.99), part("sat", 15.0), END)
    page = tree(write(tmp_path / "p.html", scored(1, *parts), scored(2, replace(END, span=" "))))
    first, second = page.all("div", "of")
    assert first.text == "The cat\n sat"
    spans = first.all("span")
    assert [each.text for each in spans] == ["The", "cat", " ", "sat", ""]
    assert [each.attributes["class"] for each in spans] == ["h0", "h4", "h5", "h8", "h2 e"]
    assert [each.attributes["data-s"] for each in spans] == ["0.2", "4.0", "8.0", "15.0", "1.0"]
    assert spans[3].attributes["title"] == "15.0 bits"
    assert spans[4].attributes["aria-label"] == "end of sentence"
    assert ["tabindex" in each.attributes for each in spans] == [True, *[False] * 4]
    end = second.all("span")[0]
    assert (second.text, end.text, end.attributes["class"]) == (" ", "", "h2 e")
    assert len(page.all("ol", "scale")[0].all("li")) == len(EDGES_BITS) + 1


@pytest.mark.parametrize(
    "text",
    [HOSTILE, "עולם שלום", "👩‍👩‍👧 e\u0301", "<EOS>", "data-all='{}'>", "\\x00", "tab\there"],
)
def test_whatever_the_text_holds_is_shown_as_text(text: str, tmp_path: Path) -> None:
    plain = tree(write(tmp_path / "plain.html", scored(1, part("a", alternatives=()), END)))
    odd = part(text, text=text, id=7, alternatives=(Choice(text, -1.0, 7),))
    page = tree(write(tmp_path / "p.html", scored(1, odd, END), name=text))
    assert page.all("div", "of")[0].text == text
    assert page.all("h1")[0].text.startswith("Surprisal of ")
    for tag in ("img", "script", "style", "span", "meta"):
        assert len(page.all(tag)) == len(plain.all(tag))
    assert details(page.all("div", "of")[0])["parts"][0][5] == 0


def test_characters_that_would_not_be_seen_are_written_as_escapes(tmp_path: Path) -> None:
    unseen = "\x00\x07\r\x1b\x85\u2028\u202e\ud800"
    page = tree(write(tmp_path / "p.html", scored(1, part(f"a{unseen}", text="a"), END)))
    box = page.all("div", "of")[0]
    assert box.text == r"a\x00\x07\r\x1b\x85\u2028\u202e\ud800"
    assert [each.text for each in box.all("i")][:3] == [r"\x00", r"\x07", r"\r"]
    assert not set(unseen) & set((tmp_path / "p.html").read_bytes().decode())


def test_nothing_is_loaded_and_only_its_own_style_and_script_may_run(tmp_path: Path) -> None:
    path = write(tmp_path / "p.html", scored(1, part("https://example.org"), END))
    page = tree(path)
    policy = next(
        each.attributes["content"]
        for each in page.all("meta")
        if each.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    for kind in ("style", "script"):
        (own,) = page.all(kind)
        digest = base64.b64encode(hashlib.sha256(own.text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    everything = [page, *(each for tag in _tags(page) for each in page.all(tag))]
    assert not any({"src", "style", "onclick"} & set(each.attributes) for each in everything)
    assert [each.attributes["href"] for each in everything if "href" in each.attributes] == [
        "#text"
    ]
    assert not re.search(r"url\(|@import|fetch\(|innerHTML", path.read_text("utf-8"))


def _tags(page: Element) -> set[str]:
    return {page.tag} | {tag for child in page.children for tag in _tags(child)}


def test_each_part_brings_what_the_panel_shows(tmp_path: Path) -> None:
    choices = tuple(Choice(f" w{i}", -(i + 1) * BIT, i + 2) for i in range(7))
    word = part(
        " w1", 2.0, text=" w1", token="▁w1", id=3, rank=2, entropy=4.5, entropy_reduction=0.25,
        alternatives=choices,
    )  # fmt: skip
    several = part(" words", math.inf, unknown=True, tokens=3)
    one = part(" one", 1.0, id=3, rank=7)
    box = tree(write(tmp_path / "p.html", scored(1, word, several, one, END))).all("div", "of")[0]
    named = ["␣w0", 0.5, "␣w1", 0.25, "␣w2", 0.125, "␣w3", 0.0625, "␣w4", 0.03125]
    assert details(box)["parts"][0] == [2.0, 2, 4.5, 0.25, 1, 1, named]
    assert details(box)["parts"][1] == [None, None, None, None, 3, None, []]
    spans = box.all("span")
    assert spans[0].attributes["title"] == "2.0 bits, rank 2"
    assert spans[1].attributes["class"] == "h8 u"
    assert spans[1].attributes["title"] == "∞ bits, unknown"
    assert spans[2].attributes["title"] == "1.0 bits, rank of its first token 7"


def test_what_is_of_a_word_s_first_token_is_said_to_be(tmp_path: Path) -> None:
    for level, adapted in (("word", False), ("word", True), ("token", True)):
        shown = Shown(2.0, cast(ScoreLevel, level), adapted=adapted)
        path = tmp_path / "p.html"
        config = ScoringConfig(level=shown.level)
        with PageScores(path, shown, name="a", checkpoint="c", config=config) as writer:
            writer.begin()
            writer.sentence(scored(1, part("a"), END))
            writer.end(ScoreSum(), 1)
        page = tree(path)
        terms = [each.text for each in page.all("dl")[-1].all("dt")]
        own = " of its first token" if level == "word" else ""
        assert {f"Rank{own}", f"Entropy{own}"} <= set(terms)
        (heading,) = page.all("h3")[-1:]
        first_tokens = level == "word" and adapted
        assert heading.text == f"Likeliest {'first tokens' if first_tokens else 'here'}"


def test_alternatives_of_one_text_are_one(tmp_path: Path) -> None:
    commas = (
        Choice(",", -2 * BIT, 5, "￭,"),
        Choice("a", -BIT, 6, "a"),
        Choice(",", -2 * BIT, 7, ","),
    )
    box = tree(write(tmp_path / "p.html", scored(1, part(",", id=7, alternatives=commas), END)))
    assert details(box.all("div", "of")[0])["parts"][0][-2:] == [0, [",", 0.5, "a", 0.5]]


def test_the_totals_stand_above_the_text_and_say_what_is_with_the_unknown(tmp_path: Path) -> None:
    sentence = scored(1, part("cat", 5.0), END, unknown=1, words=2, bytes=8)
    path = write(tmp_path / "p.html", sentence)
    page = tree(path)
    (box,) = page.all("dl", "totals")
    names, values = ([each.text for each in box.all(tag)] for tag in ("dt", "dd"))
    assert dict(zip(names, values, strict=True)) == {
        "Perplexity per token": "8.000 64.00 without unknown",
        "Perplexity per word": "8.000 2 words",
        "Bits per character": "1.500 4 characters",
        "Bits per byte": "0.750 8 bytes",
        "Log-probability, log2 p": "-6.00 1 sentence",
        "Tokens": "2 1 unknown (50.0 %)",
    }
    assert "checkpoints/c" in page.all("p", "about")[0].text
    assert "do not compare" in page.all("p", "note")[0].text
    text = path.read_text("utf-8")
    assert text.index('class="totals"') < text.index("<article>")
    spelled = scored(1, part("cat"), END, unknown=1, spelled=True)
    (note,) = tree(write(path, spelled)).all("p", "note")
    assert "is in every figure" in note.text
    assert not tree(write(path, scored(1, END))).all("p", "note")


def test_the_same_scores_give_the_same_bytes(tmp_path: Path) -> None:
    sentence = scored(1, part("cat", 1 / 3), END)
    first = write(tmp_path / "a.html", sentence).read_bytes()
    assert write(tmp_path / "b.html", sentence).read_bytes() == first
    assert b"\r" not in first


def test_a_page_of_no_sentences_is_a_page(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    with opened(path, level="sentence") as writer:
        writer.end(ScoreSum(), 0)
    page = tree(path)
    assert page.all("dl", "totals")
    assert not page.all("article")


def test_a_run_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError), opened(path) as writer:
        writer.begin()
        writer.sentence(scored(1, part("cat"), END))
        raise RuntimeError
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"older"]


@pytest.mark.parametrize("where", ["missing/p.html", "folder", "guarded.html"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_scored(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "guarded.html").write_bytes(b"guarded")
    if where == "guarded.html":  # whoever runs the tests
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ResourceError, match=f"cannot write .*{where}"):
        opened(tmp_path / where).__enter__()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_colour_of_the_scale_reads_without_colour_vision(mode: str, contrast: Any) -> None:
    css = resources.files("textgen.presentation.html").joinpath("page.css").read_text("utf-8")
    light, dark, *_ = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", light if mode == "light" else dark))
    steps, texts = ([colours[f"{name}{n}"] for n in range(len(EDGES_BITS) + 1)] for name in "ht")
    assert all(abs(contrast(*pair)) >= 4.5 for pair in zip(steps, texts, strict=True))
    sign = 1 if mode == "light" else -1  # the more surprising, the less like the page
    assert all(sign * contrast(*pair) >= 1.05 for pair in itertools.pairwise(steps))
    for name, under in itertools.product(("ink", "soft", "mark"), ("page", "card")):
        assert abs(contrast(colours[name], colours[under])) >= 4.5
