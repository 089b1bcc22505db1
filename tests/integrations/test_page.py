"""The page that ``export --to html`` writes, in a real browser: Chromium, driven by Playwright.

They run where Playwright and a Chromium are installed (``apt install chromium``). The test of
accessibility needs axe-core (``npm install axe-core``), in ``node_modules`` or the file that
``AXE_CORE`` names.
"""

from __future__ import annotations

import dataclasses
import http.server
import json
import math
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import textgen
from textgen import LanguageModel, checkpoint
from textgen.config import Level, SamplingConfig, TokenizerConfig
from textgen.exports.html import ENGINE, LEVELS, engine_of, page
from textgen.exports.html.weights import pack
from textgen.sampling import decoding
from textgen.sampling.repetitions import Breakers, Repetitions
from textgen.tokenizers.base import EOS, UNK
from textgen.tokenizers.registry import TOKENIZERS

from .firefox import PROGRAM, Firefox

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
PAGE_FOLDER = Path(textgen.__file__).parent / "exports/html"
PATIENCE_MS = 300_000  # of a test, with a browser that others may slow down
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\"> &amp; <!-- <b>",
    "a\u2028b\u2029c \x1b[31m \u202eabc\u202c \ufeff",
    "שלום עולם, מה שלומך?",
    "مرحبا بالعالم، كيف حالك",
    "the 👩‍👩‍👧 sees 🎉🎉 e\u0301te\u0301 日本語",
]
PLAIN = [
    f"The {who} {verb} the {what}."
    for who in ("king", "queen", "fool", "café owner")
    for verb in ("sees", "likes", "forgets")
    for what in ("moon", "sea", "old door", "crown")
]
TEXT = "".join(f"{line}\n" for line in [*PLAIN, *HOSTILE, *HOSTILE, *PLAIN, *HOSTILE])

KINDS: dict[str, dict[str, Any]] = {
    "lstm of characters": {"model": "lstm", "hidden_size": 24, "embedding_size": 12},
    "two layers of subwords": {
        "model": "gru", "hidden_size": (20, 14), "embedding_size": 9, "level": "subword",
        "vocab_size": 440, "subword_model": "bpe",
    },
    "tied rnn of words": {
        "model": "rnn", "hidden_size": 18, "tie": True, "embedding_size": 18, "level": "word",
        "activation": "relu",
    },
    "one-hot lstm of subwords": {
        "model": "lstm", "hidden_size": (11, 6), "embedding_size": 0, "level": "subword",
        "vocab_size": 440, "unit": "document",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """Trained a little, each once, and their logits spread so that they have opinions."""
    folder, known = tmp_path_factory.mktemp("models"), dict[str, LanguageModel]()
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")

    def get(kind: str) -> LanguageModel:
        if kind not in known:
            out = folder / kind
            textgen.train(
                folder / "text.txt", out=out, steps=4, threads=1, batch_size=4,
                sequence_length=16, **KINDS[kind],
            )  # fmt: skip
            model = LanguageModel.load(out, device="cpu")
            with torch.no_grad():
                for weight in model.model.parameters():
                    weight.mul_(2 if weight.ndim == 2 and kind != "tied rnn of words" else 1)
            known[kind] = model
        return known[kind]

    return get


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page of a model from disk; fails on any request, error or message of the browser."""
    contexts, wrong = [], list[str]()

    def open_page(
        data: bytes | LanguageModel, *, init: str = "", ready: bool = True, **options: Any
    ) -> Any:
        if isinstance(data, LanguageModel):
            data = page(data, "float32")[0]
        (tmp_path / "page.html").write_bytes(data)
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        if init:
            context.add_init_script(init)
        opened = context.new_page()
        if ready:
            opened.on("console", lambda message: wrong.append(message.text))
            opened.on("pageerror", lambda error: wrong.append(str(error)))
        address = (tmp_path / "page.html").as_uri()
        own = (address, "blob:null/")
        opened.on("request", lambda it: it.url.startswith(own) or wrong.append(it.url))
        opened.goto(address)
        if ready:
            opened.wait_for_selector("html[data-open]", state="attached")
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def write_on(it: Any, **settings: Any) -> None:
    """Fill in the settings, press Write and wait for the end."""
    it.select_option("#pace", "0")
    for name, value in settings.items():
        it.fill(f"#{name.replace('_', '-')}", str(value))
    it.click("#go")
    it.locator("#go", has_text="Write on").wait_for()


def read_parts(it: Any, text: str) -> list[list[list[Any]]]:
    """The rows of the parts of each sentence, as the page shows them."""
    it.click("#tab-read")
    it.fill("#pasted", text)
    it.click("#colour")
    it.wait_for_selector("#totals > div")
    boxes = it.eval_on_selector_all("#text .of", "boxes => boxes.map(box => box.dataset.all)")
    return [json.loads(box)["parts"] for box in boxes]


def settings(config: SamplingConfig) -> dict[str, Any]:
    """The settings of the page that mean the same as those of ``sample``."""
    (temperature,) = config.temperature
    return {
        "temperature": temperature,
        "topP": config.top_p or 1,
        "seed": config.seed,
        "length": config.length,
        "stop": "".join(config.stop),
        "oneSentence": False,
        "logitBias": config.logit_bias,
        "dryMultiplier": config.dry_multiplier or 0,
        "dryBase": config.dry_base,
        "dryAllowedLength": config.dry_allowed_length,
        "xtcProbability": config.xtc_probability or 0,
        "xtcThreshold": config.xtc_threshold,
    }


DEFAULTS = SamplingConfig()
ALL_RULES: dict[str, Any] = {
    "logit_bias": ((4, 1.0), (1, -3.0)), "dry_multiplier": 0.8, "dry_allowed_length": 1,
    "temperature": 0.8, "top_p": 0.95, "xtc_probability": 0.4, "xtc_threshold": 0.05,
}  # fmt: skip

ASK = """async ({engine, weights, bytes, breakers, question}) => {
  const worker = new Worker(URL.createObjectURL(new Blob([engine])));
  const answers = [], kinds = ["open", question.kind, "failed"];
  return new Promise((resolve) => {
    worker.onmessage = ({data}) => {
      if (data.kind === "open") return worker.postMessage(question);
      answers.push(data);
      if (data.done || data.kind !== "write") { worker.terminate(); resolve(answers); }
    };
    worker.postMessage({kind: "open", characters: weights, bytes, breakers});
  });
}"""


def weights_of(data: bytes) -> tuple[str, int]:
    """The weights of a page as characters, and how many bytes they are."""
    text = data.decode("utf-16")
    found = re.search(r'<script id="weights"[^>]* data-bytes="(\d+)">(.*?)</script>', text, re.S)
    assert found is not None
    return found[2], int(found[1])


def ask(it: Any, level: Level, data: bytes, **question: Any) -> list[dict[str, Any]]:
    """What the page's own worker answers to a message."""
    (weights, size), engine = weights_of(data), engine_of(level)
    breakers = json.loads(it.get_attribute("html", "data-breakers"))
    asked = {"engine": engine, "weights": weights, "bytes": size, "breakers": breakers}
    asked["question"] = question
    answers: list[dict[str, Any]] = it.evaluate(ASK, asked)
    return answers


def sentences(count: int) -> list[str]:
    rng = random.Random(4)
    letters = "".join(sorted(set("".join(PLAIN + HOSTILE)))) + "Ωß☃"
    drawn = ["".join(rng.choices(letters, k=rng.randint(1, 60))) for _ in range(count)]
    return [*PLAIN[:40], *HOSTILE, *drawn][:count]


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_score(
    kind: str, models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model, lines = models(kind), sentences(200)
    if model.tokenizer.config.unit == "document":
        lines = lines[:1]
    shown = read_parts(opened(model), "\n".join(lines))
    assert len(shown) == len(lines)
    for line, parts in zip(lines, shown, strict=True):
        found = -math.log(2) * sum(part[0] for part in parts)
        assert found == pytest.approx(model.score(line).log_prob, abs=1e-4)


def test_a_page_of_8_bits_predicts_as_the_model_that_its_divergence_is_of(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model = models("lstm of characters")
    exact = [model.score(line).log_prob for line in PLAIN]
    data, rounded = page(model, "int8")[0], pack(model, "int8")[1]
    shown = read_parts(opened(data), "\n".join(PLAIN))
    found = np.array([-math.log(2) * sum(part[0] for part in parts) for parts in shown])
    assert np.abs(found - exact).max() > 1e-3
    loaded = LanguageModel(
        checkpoint.Checkpoint(model.path, "best", model.header, model.tokenizer, rounded)
    )
    assert found == pytest.approx([loaded.score(line).log_prob for line in PLAIN], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_text_of_sample(
    kind: str, models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model = models(kind)
    it, data = opened(model), page(model, "float32")[0]
    options: dict[str, Any]
    for prompt, options in (
        ("", {}),
        ("The king", {"temperature": 0.7, "top_p": 0.9}),
        ("The fool ", {"temperature": 1.3, "top_p": 0.95, "stop": "e"}),
        ("The queen sees", {"temperature": 0.0}),
        ("The queen sees", {"temperature": 0.0, "dry_multiplier": 3.0}),
        ("", {"xtc_probability": 0.6, "xtc_threshold": 0.02, "logit_bias": ((7, 2.0), (1, -9.0))}),
        (PLAIN[0] * 2, ALL_RULES),
    ):
        config = SamplingConfig.from_options({"seed": 7, "length": 120, **options})
        answers = ask(
            it,
            model.tokenizer.level,
            data,
            kind="write",
            text=prompt,
            settings=settings(config),
            pace=0,
        )
        written = "".join(answer["text"] for answer in answers)
        (sample,) = model.sample(prompt, config=config)
        assert written == sample.text


DISTRIBUTIONS = """async ({weights, bytes, breakers, contexts}) => {
  ENGINE
  model = new LanguageModel(await unpacked(weights, bytes), breakers);
  return contexts.map(({text, settings}) => {
    const {ids, decoder} = model.tokenizer.continuation(text);
    const found = model.distributions(model.follow([EOS, ...ids]), ids, decoder, settings);
    return found.map((shares) => Array.from(shares));
  });
}"""


def distributions(model: LanguageModel, text: str, config: SamplingConfig) -> list[list[float]]:
    """What ``sample`` draws the next token from: where XTC does not apply, and where it does."""
    read = model.tokenizer.continuation(text)
    ids, size = read.ids.tolist(), model.tokenizer.vocabulary_size
    spellings = model.tokenizer.decoder().next_bytes()
    repeated = Repetitions(size, Breakers(config.dry_sequence_breaker, spellings))
    for id in ids:
        repeated.append(id)
    with torch.no_grad():
        logits, _ = model.model(torch.tensor([[EOS], *([id] for id in ids)]), model.model.start(1))
    logits = logits[-1].double()
    if config.logit_bias:
        logits = decoding.add_bias(logits, config.logit_bias)
    if config.dry_multiplier is not None:
        lengths = torch.from_numpy(repeated.lengths(config.dry_allowed_length)[None])
        logits = decoding.penalize_dry(
            logits, lengths, config.dry_multiplier, config.dry_base, config.dry_allowed_length
        )
    allowed = read.decoder.next_mask()
    logits[:, UNK] = -torch.inf
    if allowed is not None:
        logits[:, ~torch.from_numpy(np.array(allowed))] = -torch.inf
    logits = decoding.temper(logits, config.temperature[0])
    if config.top_p is not None:
        logits = decoding.keep_top_p(logits, config.top_p)
    chosen = torch.tensor([config.xtc_probability is not None])
    excluded = decoding.exclude_top_choices(logits, config.xtc_threshold, chosen)
    return [each[0].softmax(-1).tolist() for each in (logits, excluded)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_gives_the_distribution_of_sample(
    kind: str, models: Callable[[str], LanguageModel], browser: Any
) -> None:
    model = models(kind)
    contexts = [
        (text, SamplingConfig.from_options(options))
        for text in (
            "", "The king", "The king sees the moon. The king sees the ", "a: b: a: b",
            "the moon the moon the moon the moon", f"{PLAIN[3]}\n{PLAIN[3]}\nThe ", *HOSTILE,
        )
        for options in (
            {"logit_bias": ((3, 4.0), (9, -100.0), (3, 0.5))},
            {"dry_multiplier": 0.8, "dry_allowed_length": 1},
            {"dry_multiplier": 50.0, "dry_base": 1.0},
            {"dry_multiplier": 0.8, "dry_base": 1000.0, "dry_allowed_length": 1},
            {"xtc_probability": 0.5, "xtc_threshold": 0.0},
            {"xtc_probability": 0.5, "xtc_threshold": 0.03, "temperature": 0.6, "top_p": 0.8},
            ALL_RULES,
        )
    ]  # fmt: skip
    scripts = ("tokenizer.js", LEVELS[model.tokenizer.level], *ENGINE)
    engine = "".join((PAGE_FOLDER / name).read_text("utf-8") for name in scripts)
    engine = engine.replace('"use strict";\n', "")
    weights, size = weights_of(page(model, "float32")[0])
    it = browser.new_page()
    given = {
        "weights": weights, "bytes": size, "breakers": DEFAULTS.dry_sequence_breaker,
        "contexts": [{"text": text, "settings": settings(config)} for text, config in contexts],
    }  # fmt: skip
    found = it.evaluate(DISTRIBUTIONS.replace("ENGINE", engine, 1), given)
    it.close()
    changed = 0
    for (text, config), both in zip(contexts, found, strict=True):
        expected = distributions(model, text, config)
        for shares, its in zip(both, expected, strict=True):
            assert shares == pytest.approx(its, abs=1e-5)
        without = distributions(model, text, dataclasses.replace(config, dry_multiplier=None))
        changed += np.abs(np.subtract(expected, without)).max() > 1e-3
    assert changed > 10  # by DRY: the contexts do repeat themselves


def test_the_bars_are_what_is_drawn_on_average(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model, text = models("lstm of characters"), "The king sees the moon. The king sees the moo"
    config = SamplingConfig.from_options(ALL_RULES)
    data = page(model, "float32")[0]
    (answer,) = ask(
        opened(data), model.tokenizer.level, data, kind="next", text=text, settings=settings(config)
    )
    usual, excluding = np.array(distributions(model, text, config))
    expected = usual + ALL_RULES["xtc_probability"] * (excluding - usual)
    for choice in answer["choices"]:
        assert choice["drawn"] == pytest.approx(expected[choice["id"]], abs=1e-5)


def test_draws_follow_the_distribution(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    """100,000 draws of a model that forgets everything: chi-square against its one distribution."""
    model = models("lstm of characters")
    kept = [weight.detach().clone() for weight in model.model.parameters()]
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.zero_()
        model.model.output.bias.copy_(torch.linspace(0, 3, len(model.model.output.bias)))
    data = page(model, "int8")[0]
    logits = model.model.output.bias.detach().double().numpy().copy()
    with torch.no_grad():
        for weight, value in zip(model.model.parameters(), kept, strict=True):
            weight.copy_(value)
    for temperature, top_p in ((1.0, 1.0), (0.7, 0.6)):
        config = SamplingConfig(temperature=(temperature,), top_p=top_p, seed=3, length=100_000)
        answers = ask(
            opened(data),
            model.tokenizer.level,
            data,
            kind="write",
            text="",
            settings=settings(config),
            pace=0,
        )
        ids = model.tokenizer.encode("".join(answer["text"] for answer in answers))
        assert len(ids) == 100_000
        shares = np.exp(logits / temperature)
        shares[0] = 0  # <UNK> is never written
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")
        kept_ids = order[: int((np.cumsum(shares[order]) < top_p).sum()) + 1]
        expected = np.zeros_like(shares)
        expected[kept_ids] = shares[kept_ids] / shares[kept_ids].sum()
        counts = np.bincount(ids, minlength=len(shares))
        possible = expected > 0
        assert not counts[~possible].any()
        cells = expected[possible] * len(ids)
        statistic = float(((counts[possible] - cells) ** 2 / cells).sum())
        freedom = int(possible.sum()) - 1
        # Its mean is the degrees of freedom, its variance twice that: four deviations.
        assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_the_bars_are_what_predict_says_and_a_press_adds_one(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model = models("lstm of characters")
    it = opened(model)
    it.fill("#prompt", "The kin")
    best = model.predict("The kin").choices
    share = f"{100 * math.exp(best[0].log_prob):.3g} %"
    first = it.locator("#choices li").first.locator("button")
    first.get_by_text(share[:3]).wait_for()
    assert it.locator("#choices li").count() == 12
    pressed = it.locator("#choices button:enabled").first
    added = pressed.get_attribute("data-text")
    pressed.click()
    assert it.input_value("#prompt") == f"The kin{added}"


def test_text_never_becomes_markup(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    it = opened(models("tied rnn of words"))
    title = it.title()
    it.fill("#prompt", "\n".join(HOSTILE))
    write_on(it, length=300, temperature=2)
    it.click("#tab-read")
    it.click("#from-write")
    it.wait_for_selector("#totals > div")
    assert it.title() == title
    assert it.locator("img").count() == 0
    written = it.input_value("#prompt")
    assert written.startswith("\n".join(HOSTILE))
    assert "<img" in it.inner_text("#text")
    assert it.locator("#text .of i").first.inner_text().startswith("\\u{")


def test_right_to_left_text_and_emoji(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    it = opened(models("two layers of subwords"))
    it.fill("#prompt", HOSTILE[3])
    write_on(it, length=200, temperature=1.5)
    written = it.input_value("#prompt")
    assert written.encode("utf-16", "surrogatepass").decode("utf-16") == written
    assert "\ufffd" not in written
    direction = "box => getComputedStyle(box).direction"
    assert it.eval_on_selector("#prompt", direction) == "rtl"
    read_parts(it, f"{HOSTILE[3]}\n{HOSTILE[5]}")
    assert it.eval_on_selector_all(".of", "all => all.map(" + direction + ")") == ["rtl", "ltr"]
    assert "👩" in it.inner_text("#text")


def test_it_writes_stops_goes_on_and_takes_back_by_keyboard(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    it = opened(models("lstm of characters"))
    it.select_option("#pace", "4")
    it.focus("#prompt")
    it.keyboard.type("The ")
    it.keyboard.press("Control+Enter")
    it.locator("#go", has_text="Stop").wait_for()
    it.locator("#marks .by-model").wait_for(state="attached")
    it.keyboard.press("Escape")
    it.locator("#go", has_text="Write on").wait_for()
    assert "stopped" in it.inner_text("#status")
    written = it.input_value("#prompt")
    assert written.startswith("The ") and len(written) > 4
    it.focus("#undo")
    it.keyboard.press("Enter")
    assert it.input_value("#prompt") == "The "
    it.focus("#tab-write")
    it.keyboard.press("ArrowRight")
    assert it.locator("#read").is_visible() and it.locator("#write").is_hidden()


def test_the_advanced_rules_are_set_by_keyboard(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model = models("lstm of characters")
    it = opened(model)
    it.fill("#prompt", "The kin")
    assert it.locator("#logit-bias").is_hidden()
    it.focus("summary")
    for key in ("Enter", "Tab", "ArrowRight"):
        it.keyboard.press(key)
    assert it.inner_text("#dry-multiplier-value") == "0.1"
    id = model.tokenizer.encode("é").tolist()[0]
    it.fill("#logit-bias", f"{id}+30, 5-100")
    assert it.locator("#choices .id").first.is_visible()
    for wrong in ("5", "5+", f"{model.tokenizer.vocabulary_size}+1", "5+2000000"):
        it.fill("#logit-bias", wrong)
        it.evaluate("advanced.open = false")
        it.click("#go")
        assert it.eval_on_selector("#logit-bias", "box => box.validationMessage")
        assert it.input_value("#prompt") == "The kin" and it.locator("#logit-bias").is_visible()
    it.fill("#logit-bias", f"{id}+1000")
    write_on(it, length=5)
    assert it.input_value("#prompt") == "The kinééééé"


def test_a_part_of_a_read_text_shows_its_figures_on_touch_and_by_keyboard(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    model = models("lstm of characters")
    it = opened(model, viewport={"width": 390, "height": 844}, has_touch=True)
    read_parts(it, "The king")
    tokens = model.score("The king", level="token").parts
    assert tokens is not None
    it.mouse.move(0, 0)  # a part under the mouse would be shown, too
    it.locator("#text .of > span").nth(2).tap()
    it.locator("#text .on", has_text="e").wait_for()
    assert _surprisal(it, "e") == pytest.approx(tokens[2].surprisal, abs=0.01)
    assert it.locator("#alternatives li").count() == 5
    it.keyboard.press("ArrowRight")
    it.keyboard.press("ArrowRight")
    assert _surprisal(it, "k") == pytest.approx(tokens[4].surprisal, abs=0.01)


def _surprisal(it: Any, name: str) -> float:
    """The surprisal in the panel, which is of the part of this name."""
    assert it.inner_text("#name bdi") == name
    return float(it.inner_text("#surprisal").removesuffix(" bits"))


def test_it_opens_whatever_encoding_a_server_claims(
    models: Callable[[str], LanguageModel], browser: Any
) -> None:
    data = page(models("lstm of characters"), "int8")[0]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *ignored: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        it = browser.new_page()
        it.goto(f"http://127.0.0.1:{server.server_port}/")
        it.wait_for_selector("html[data-open]", state="attached")
        it.close()
        server.shutdown()


def _changed(data: bytes, mark: str, by: str) -> bytes:
    text = data.decode("utf-16")
    at = text.index(mark) + len(mark)
    return (text[:at] + by + text[at + 1 :]).encode("utf-16")


def test_a_damaged_page_says_so(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    data = page(models("lstm of characters"), "int8")[0]

    def flipped(id: str) -> bytes:
        found = re.search(rf'<script id="{id}"[^>]*>.{{2000}}', data.decode("utf-16"), re.S)
        assert found is not None
        bad = chr(0x5000 + ((ord(data.decode("utf-16")[found.end()]) - 0x5000) ^ 1))
        return _changed(data, found[0], bad)

    foreign = _changed(data, 'type="text/plain" data-bytes="', "9")
    cut = re.sub(
        r"(?s).{9}</script>\n<script>\"use", '</script>\n<script>"use', data.decode("utf-16")
    )
    for broken, says in (
        (flipped("weights"), "The model in this page is damaged"),
        (cut.encode("utf-16"), "damaged"),
        (flipped("engine"), "The program in this page is damaged"),
        (foreign, "The program in this page is damaged"),
        (_changed(data, "const heard", "5"), "the file is damaged"),
    ):
        it = opened(broken, ready=False)
        it.locator("#trouble", has_text=says).wait_for()
        assert it.locator("#go").is_disabled()


def test_a_browser_without_workers_is_told(
    models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    it = opened(models("lstm of characters"), init="delete window.Worker", ready=False)
    it.locator("#trouble", has_text="no web workers").wait_for()


@pytest.mark.parametrize("level", ["char", "word", "whitespace", "unigram", "bpe"])
@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_ids_are_those_of_the_tokenizer(level: str, unit: Any, browser: Any) -> None:
    options: dict[str, Any] = {"level": level, "unit": unit}
    if level == "whitespace":
        options |= {"level": "word", "split": "whitespace", "unk_literal": "king"}
    if level in ("unigram", "bpe"):
        options |= {"level": "subword", "subword_model": level, "vocab_size": 460}
    config = TokenizerConfig(**options)
    tokenizer: Any = TOKENIZERS[config.level].learn(config, [TEXT])
    names = ("unit", "split", "subword_model", "unk_literal")
    described: dict[str, Any] = {name: getattr(config, name) for name in names}
    scores = None
    if config.level == "subword":
        described["pieces"], scores = zip(*tokenizer.pieces(), strict=True)
    else:
        described["symbols"] = tokenizer.symbols
    lines = sentences(2000)
    lines += ["", " ", "\n", "a\n\n\nb", "x" * 3000, "日" * 1500, "é" * 1024 + " z", " ￭％▁king, "]
    names_of_scripts = ("tokenizer.js", LEVELS[config.level])
    scripts = [(PAGE_FOLDER / name).read_text("utf-8") for name in names_of_scripts]
    it = browser.new_page()
    found = it.evaluate(
        f"""(given) => {{
          const {{ described, scores, lines }} = given;
          {"".join(scripts)}
          const its = new Tokenizer(described, scores && Float32Array.from(scores));
          const all = (line) => [its.encode(line), its.spans(line), its.continuation(line).ids];
          return lines.map(all);
        }}""",
        {"described": described, "scores": scores, "lines": lines},
    )
    it.close()
    for line, (ids, spans, read) in zip(lines, found, strict=True):
        assert ids == tokenizer.encode(line).tolist()
        assert spans == tokenizer.token_texts(line)
        assert read == tokenizer.continuation(line).ids.tolist()


def _axe() -> str:
    root = Path(__file__).resolve().parents[2]
    named = os.environ.get("AXE_CORE")
    for path in (Path(named or "axe.min.js"), root / "node_modules/axe-core/axe.min.js"):
        if path.is_file():
            return path.read_text("utf-8")
    pytest.skip("no axe-core")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_it_is_accessible(
    scheme: str, width: int, models: Callable[[str], LanguageModel], opened: Callable[..., Any]
) -> None:
    axe, size = _axe(), {"width": width, "height": 844}
    it = opened(models("lstm of characters"), viewport=size, color_scheme=scheme)
    it.evaluate(axe)
    it.fill("#prompt", "The king")
    it.click("summary")
    write_on(it, length=80)
    for tab in ("write", "read", "model"):
        it.click(f"#tab-{tab}")
        if tab == "read":
            read_parts(it, "\n".join(PLAIN[:5] + HOSTILE))
            it.locator("article .of > span").nth(4).click()
        found = it.evaluate("axe.run().then((all) => all.violations)")
        wrong = [(each["id"], [node["html"][:90] for node in each["nodes"][:3]]) for each in found]
        assert not wrong, tab
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert it.evaluate(overflow) == 0


@pytest.mark.skipif(PROGRAM is None, reason="no firefox")
def test_it_runs_in_firefox(models: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model, path = models("lstm of characters"), tmp_path / "page.html"
    path.write_bytes(page(model, "float32")[0])
    (tmp_path / "profile").mkdir()
    with Firefox(tmp_path / "profile") as firefox:
        firefox.command("WebDriver:Navigate", url=path.as_uri())
        firefox.until("return document.documentElement.dataset.open === ''")
        settings = "pace.value = '0'; document.getElementById('length').value = 60"
        firefox.run(f"{settings}; go.click()")
        firefox.until("return document.getElementById('go').textContent === 'Write on'")
        (sample,) = model.sample(length=60, seed=1)
        assert firefox.run("return document.getElementById('prompt').value") == sample.text
        firefox.run(f"pasted.value = {json.dumps(PLAIN[0])}; colour.click()")
        firefox.until("return document.querySelector('#totals > div')")
        parts = json.loads(firefox.run("return document.querySelector('.of').dataset.all"))["parts"]
        found = -math.log(2) * sum(part[0] for part in parts)
        assert found == pytest.approx(model.score(PLAIN[0]).log_prob, abs=1e-4)
