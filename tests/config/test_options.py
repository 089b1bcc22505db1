"""Options: how they are parsed, which values are refused, and that they survive JSON."""

import json
import math
from typing import Any

import pytest

from textgen.config import (
    AdaptationConfig,
    Config,
    LSTMConfig,
    ModelConfig,
    NoveltyConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainingConfig,
    check_options,
    flag,
    option_names,
    parse_duration,
)
from textgen.config.options import parse_sizes
from textgen.errors import UsageError

NAN, INF = math.nan, math.inf
NOT_NUMBERS: list[Any] = [NAN, INF, -INF, 1e309, 10**400, True, "x", "", [], {}]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *(("90s", 90), ("90", 90), ("5", 5), ("0.5s", 0.5), ("10m", 600), ("1.5m", 90)),
        *(("2h", 7200), ("1h30m", 5400), ("1h30", 3630), ("1h1m1s", 3661), (" 10M ", 600)),
        *((90, 90), (0.25, 0.25)),
    ],
)
def test_a_duration_is_seconds(written: str | float, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "s", "m", "x", "1x", "1m2h", "-5", "-5s", "1e3", "nan", "inf", "1 m"),
        *("0", "0s", "0h0m", "9" * 400 + "h", 0, -1, *NOT_NUMBERS),
    ],
)
def test_what_is_no_positive_duration_is_refused(written: Any) -> None:
    with pytest.raises(UsageError, match=r"not a duration|must be positive"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "sizes"),
    [
        *(("512", (512,)), ("256,128", (256, 128)), (" 256, 128 ", (256, 128))),
        *((512, (512,)), ([3, 4], (3, 4)), ((3,), (3,))),
    ],
)
def test_sizes_are_one_number_per_layer(written: Any, sizes: tuple[int, ...]) -> None:
    assert parse_sizes(written) == sizes


@pytest.mark.parametrize(
    "written", ["", ",", "256,", "a", "2.5", "1e3", "256;128", "9" * 5000, 8.5]
)
def test_what_is_no_list_of_sizes_is_refused(written: Any) -> None:
    with pytest.raises(UsageError, match=r"not layer sizes.*write 512 or 256,128"):
        parse_sizes(written)


KIND_WITH = {
    "activation": "rnn",
    "recurrence": "rnn",
    "window": "feedforward",
    "order": "ngram",
    "entries": "ngram",
    "states": "hmm",
}
COUNTS = [0, -1, 1.0, "1", *NOT_NUMBERS]
SHARES = [0, 0.0, -0.1, 1.1, 2, "0.5", *NOT_NUMBERS]
FRACTIONS = [-0.1, 1, 1.0, 1.5, "0.1", *NOT_NUMBERS]
SWITCHES = [1, 0, "yes", []]
TEXTS = ["", ("a", ""), (1,), 5]
REFUSED_TOGETHER: list[tuple[type[Config], str, list[Any]]] = [
    (TokenizerConfig, "level", ["chars", "", "CHAR", 1, True, []]),
    (TokenizerConfig, "vocab_size", [2, 0, -1, 2**31, 10.0, *NOT_NUMBERS]),
    (TokenizerConfig, "min_count", COUNTS),
    (TokenizerConfig, "unit", ["lines", "", 0]),
    (TokenizerConfig, "split", ["space", ""]),
    (TokenizerConfig, "subword_model", ["BPE", ""]),
    (TokenizerConfig, "unk_literal", ["", 5, True, []]),
    (ModelConfig, "hidden_size", [0, -1, "0", "8,0", "8,-1", [], [8, 0], [8.0], ["8"], True]),
    (ModelConfig, "hidden_size", [[NAN], [True], [[8]], 8.5]),
    (ModelConfig, "embedding_size", [-1, 8.0, "8", *NOT_NUMBERS]),
    (ModelConfig, "ngram_embeddings", [-1, 1, 17, "4", *NOT_NUMBERS]),
    (ModelConfig, "ngram_rows", [2**24 + 1, *COUNTS]),
    (ModelConfig, "tie", SWITCHES),
    (ModelConfig, "embeddings", [""]),
    (ModelConfig, "freeze_embeddings", [1, 0, "yes", True]),
    (ModelConfig, "activation recurrence", ["sigmoid", "", 1]),
    (ModelConfig, "window", [2**16 + 1, *COUNTS]),
    (ModelConfig, "order", [101, *COUNTS]),
    (ModelConfig, "states", COUNTS),
    (ModelConfig, "model", ["LSTM", "", 1, []]),
    (ModelConfig, "entries", [[-1], [1.5]]),
    (ModelConfig, "vocabulary_size", [-1, 5.0, *NOT_NUMBERS]),
    (TrainingConfig, "budget save_every", [0, -1, "0", "x", *NOT_NUMBERS]),
    (TrainingConfig, "epochs steps valid_every log_every run_windows", COUNTS),
    (TrainingConfig, "batch_size sequence_length", [2**20 + 1, *COUNTS]),
    (TrainingConfig, "learning_rate", [0, -0.1, 0.0, -0.0, 1000, "0.1", *NOT_NUMBERS]),
    (TrainingConfig, "weight_decay", [-0.1, 1000, "0.1", *NOT_NUMBERS]),
    (TrainingConfig, "dropout warmup unknown_rate ngram_dropout", FRACTIONS),
    (TrainingConfig, "valid_fraction", [0, *FRACTIONS]),
    (TrainingConfig, "candidates", [-1, 2**24 + 1, 1.0, *NOT_NUMBERS]),
    (TrainingConfig, "clip", [0, -1, "1", *NOT_NUMBERS]),
    (
        TrainingConfig,
        "checkpoint_at",
        ["", "5 M", "0", "0.5", "-1", 0, 1.5, True, ("1M", ""), [[]]],
    ),
    (TrainingConfig, "keep_float32", SWITCHES),
    (TrainingConfig, "precision", ["bfloat16", "", 16]),
    (TrainingConfig, "valid_split", ["random", "", 1]),
    (TrainingConfig, "seed", [-1, 2**63, 1.0, *NOT_NUMBERS]),
    (TrainingConfig, "betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9), (0.9, 0.9, 0.9), (NAN, 0.9), "ab"]),
    (SamplingConfig, "temperature", [-0.1, -1, "-1", "1,", "1,hot", (1, -1), (), *NOT_NUMBERS]),
    (SamplingConfig, "top_k no_repeat_ngram length sentences count", COUNTS),
    (SamplingConfig, "beams", [2**16 + 1, *COUNTS]),
    (SamplingConfig, "top_p typical", SHARES),
    (SamplingConfig, "min_p", [-0.1, 1.1, 2, "0.5", *NOT_NUMBERS]),
    (SamplingConfig, "repetition_penalty", [0, -1, "1", *NOT_NUMBERS]),
    (SamplingConfig, "frequency_penalty presence_penalty", ["1", *NOT_NUMBERS]),
    (SamplingConfig, "logit_bias", ["1", "a+1", "1+x", 5, [1], {-1: 1.0}, {0: NAN}, {1.5: 1.0}]),
    (SamplingConfig, "dry_multiplier xtc_probability xtc_threshold", [-0.1, "1", *NOT_NUMBERS]),
    (SamplingConfig, "dry_base", [0.9, "2", *NOT_NUMBERS]),
    (SamplingConfig, "dry_allowed_length", COUNTS),
    (SamplingConfig, "ban require stop end_on dry_sequence_breaker", TEXTS),
    (SamplingConfig, "length_penalty", [-0.1, 100, "1", *NOT_NUMBERS]),
    (SamplingConfig, "on_unknown", ["", "drop", 1]),
    (SamplingConfig, "allow_unk fast", SWITCHES),
    (SamplingConfig, "seed", [-1, 2**63, 1.0, *NOT_NUMBERS]),
    (NoveltyConfig, "novelty", SWITCHES),
    (NoveltyConfig, "min_novelty", [-0.1, 1.1, "0.5", *NOT_NUMBERS]),
    (NoveltyConfig, "copied_length", COUNTS),
    (AdaptationConfig, "adapt_rate", [-1, "1", *NOT_NUMBERS]),
]
REFUSED = [
    (config, name, values) for config, names, values in REFUSED_TOGETHER for name in names.split()
]


@pytest.mark.parametrize(
    ("config", "name", "values"), REFUSED, ids=[name for _, name, _ in REFUSED]
)
def test_a_value_out_of_range_is_refused(
    config: type[Config], name: str, values: list[Any]
) -> None:
    kind: dict[str, Any] = {"adapt": True} if config is AdaptationConfig else {}
    kind |= {"model": KIND_WITH[name]} if name in KIND_WITH else {}
    for value in values:
        with pytest.raises(UsageError) as refused:
            config.from_options(kind | {name: value})
            pytest.fail(f"{value!r:.20} is allowed")
        message = str(refused.value)
        assert flag(name) in message or "duration" in message or "a budget must" in message
        assert refused.value.exit_code == 2


def test_every_option_has_values_that_are_refused() -> None:
    for config in (TokenizerConfig, ModelConfig, TrainingConfig, SamplingConfig, NoveltyConfig):
        named = {name for refusing, name, _ in REFUSED if refusing is config}
        assert option_names(config) == named


def test_an_option_of_another_kind_of_model_is_refused_with_the_kinds_that_have_it() -> None:
    with pytest.raises(UsageError, match=r"--activation is no option of --model lstm.*rnn has it"):
        ModelConfig.from_options({"activation": "tanh"})
    with pytest.raises(UsageError, match=r"--window is no option of --model hmm.*feedforward, bag"):
        ModelConfig.from_options({"model": "hmm", "window": 3})


def test_a_configuration_of_one_kind_is_not_that_of_another() -> None:
    with pytest.raises(TypeError, match="LSTMConfig is not the configuration of hmm"):
        LSTMConfig(model="hmm")


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (TokenizerConfig, {"vocab_size": 3, "min_count": 1}),
        (ModelConfig, {"hidden_size": 1, "embedding_size": 1}),
        (ModelConfig, {"hidden_size": 1, "embedding_size": 0}),
        (TrainingConfig, {"dropout": 0, "warmup": 0, "weight_decay": 0, "seed": 0}),
        (TrainingConfig, {"steps": 1, "batch_size": 1, "sequence_length": 1, "valid_every": 1}),
        (SamplingConfig, {"temperature": 0, "top_k": 1, "top_p": 1, "seed": 2**63 - 1}),
        (SamplingConfig, {"top_p": 1e-300, "temperature": 1e300}),
    ],
)
def test_the_edges_of_the_ranges_are_allowed(config: type[Config], options: dict[str, Any]) -> None:
    made = config.from_options(options)
    for name, value in options.items():
        assert getattr(made, name) in (value, (value,))


@pytest.mark.parametrize(
    ("config", "options", "named"),
    [
        (TrainingConfig, {"budget": 60.0, "steps": 5}, ("--budget", "--steps")),
        (TrainingConfig, {"epochs": 2, "steps": 5}, ("--epochs", "--steps")),
        (TrainingConfig, {"budget": 60.0, "epochs": 2}, ("--budget", "--epochs")),
        (SamplingConfig, {"beams": 4, "temperature": (1.0, 0.5)}, ("--temperature", "--beams")),
        (SamplingConfig, {"beams": 4, "temperature": (0.5,)}, ("--temperature", "--beams")),
        (SamplingConfig, {"beams": 4, "top_k": 5}, ("--top-k", "--beams")),
        (SamplingConfig, {"beams": 4, "typical": 0.5}, ("--typical", "--beams")),
        (SamplingConfig, {"beams": 4, "repetition_penalty": 1.5}, ("--repetition-", "--beams")),
        (SamplingConfig, {"beams": 4, "count": 5}, ("--beams 4", "5 texts")),
        (SamplingConfig, {"beams": 4, "require": ("a",)}, ("--require", "--beams")),
        (SamplingConfig, {"require": ("abc",), "ban": ("b",)}, ("--require 'abc'", "--ban")),
        (SamplingConfig, {"require": ("abc",), "stop": ("x", "c")}, ("--require 'abc'", "--stop")),
        (SamplingConfig, {"length_penalty": 1.0}, ("--length-penalty", "add --beams")),
    ],
)
def test_what_cannot_be_had_at_once_is_named(
    config: type[Config], options: dict[str, Any], named: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as refused:
        config(**options)
    assert all(name in str(refused.value) for name in named)


def test_a_run_of_no_stated_length_takes_ten_minutes() -> None:
    assert TrainingConfig().with_length().budget == 600
    for length in ({"steps": 5}, {"epochs": 5}, {"budget": 5.0}):
        assert TrainingConfig(**length).with_length() == TrainingConfig(**length)


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(),
        TokenizerConfig(level="word", vocab_size=50, unk_literal="<unk>", unit="paragraph"),
        LSTMConfig(),
        LSTMConfig(hidden_size=(5, 7), embedding_size=3, tie=False, vocabulary_size=66),
        TrainingConfig(),
        TrainingConfig(budget=90.0, betas=(0.8, 0.95), precision="bf16", dropout=0.3),
        SamplingConfig(temperature=(0,), top_k=5, top_p=0.5, sentences=3, allow_unk=True),
        SamplingConfig(temperature=(1, 0.5), stop=("a", "b"), ban=("c",), min_p=0.1),
    ],
)
def test_a_configuration_goes_through_json_and_back(config: Config) -> None:
    written = json.loads(json.dumps(config.to_json(), allow_nan=False))
    assert type(config).from_options(written) == config


def test_a_configuration_takes_its_own_options_alone_and_none_is_the_default() -> None:
    options = {"temperature": 0.5, "batch_size": 3, "level": "word", "seed": None, "top_k": None}
    assert SamplingConfig.from_options(options) == SamplingConfig(temperature=(0.5,))
    assert TrainingConfig.from_options(options) == TrainingConfig(batch_size=3)
    one = SamplingConfig.from_options({"temperature": "0.5", "stop": "a", "ban": ["b"]})
    assert one == SamplingConfig(temperature=(0.5,), stop=("a",), ban=("b",))


def test_an_option_that_does_not_exist_is_refused_with_those_that_do() -> None:
    check_options({"temperature": 1, "batch_size": 2}, SamplingConfig, TrainingConfig)
    with pytest.raises(UsageError, match=r"no option 'temprature'.*temperature, top_k"):
        check_options({"temprature": 1}, SamplingConfig)


@pytest.mark.parametrize(
    ("options", "least_count", "largest_vocabulary"),
    [
        ({}, 1, None),
        ({"level": "word"}, 2, None),
        ({"level": "word", "min_count": 1, "vocab_size": 99}, 1, 99),
        ({"level": "subword"}, 1, 4000),
    ],
)
def test_levels_have_defaults_of_their_own(
    options: dict[str, Any], least_count: int, largest_vocabulary: int | None
) -> None:
    config = TokenizerConfig.from_options(options)
    assert config.least_count == least_count
    assert config.largest_vocabulary == largest_vocabulary


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        (SamplingConfig, {"stop": ""}, "--stop must not be empty; leave it out"),
        (SamplingConfig, {"ban": ["a", ""]}, "--ban must not be empty; leave it out"),
        (SamplingConfig, {"require": [None]}, "--require must be text, got None"),
        (TokenizerConfig, {"unk_literal": ""}, "--unk-literal must not be empty; leave it out"),
        (SamplingConfig, {"seed": 10**999}, "--seed must be at most 9223372036854775807, got a"),
        (TrainingConfig, {"budget": 10**99}, "at most 100 years, got a number of more than forty"),
        (TokenizerConfig, {"level": "x" * 999}, f"got '{'x' * 39}…'"),
        (SamplingConfig, {"frequency_penalty": 3.5e38}, "in [-1e+06, 1e+06], got 3.5e+38"),
    ],
)
def test_a_refused_value_is_shown_as_it_was_typed(
    config: type[Config], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        config.from_options(options)
    assert said in str(refused.value)
