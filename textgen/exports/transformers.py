"""``--to transformers``: a folder that the package transformers opens, and what is built on it.

It has the modelling file of ``textgen.integrations``, the weights in float32, and the tokenizer in
the format of the package tokenizers. Neither package is needed to write it.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen import storage
from textgen.config import KINDS, LSTMConfig, RecurrentConfig, RNNConfig
from textgen.errors import UsageError
from textgen.exports.fast_tokenizer import eos_name, write_fast_tokenizer
from textgen.tokenizers.base import EOS, Tokenizer

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

KINDS_WRITTEN = ("lstm", "gru", "rnn")
MODELLING = "modeling_textgen.py"
"""In ``textgen/integrations``, and in the folder that is written."""

_CLASSES = {"AutoConfig": "TextgenConfig", "AutoModelForCausalLM": "TextgenForCausalLM"}


def write(model: "LanguageModel", out: Path) -> list[str]:
    """Write the folder, whole or not at all.

    Raises:
        UsageError: The kind of model, or an option of its tokenizer, cannot be written.
        DataError: The package tokenizers, where it is installed, encodes a text otherwise.
    """
    from safetensors.torch import save_file

    config = model.header.model
    if config.model not in KINDS_WRITTEN:
        raise UsageError(
            f"--to transformers is not possible with a {config.model} model",
            why=f"it holds {', '.join(KINDS_WRITTEN[:-1])} and {KINDS_WRITTEN[-1]} models",
            fix=(
                "use --to arpa"
                if KINDS[config.model].counts
                else f"train one with --model {KINDS_WRITTEN[0]}"
            ),
        )
    assert isinstance(config, RecurrentConfig)
    source = Path(__file__).parent.parent / "integrations" / MODELLING
    weights = {
        name: weight.float().contiguous()
        for name, weight in model.model.state_dict().items()
        if not (config.tie and name == "output.weight")
    }
    ids = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": EOS}
    with storage.new_folder(out) as folder:
        storage.write_json(folder / "config.json", _config_json(config) | ids)
        storage.write_json(folder / "generation_config.json", ids)
        storage.write_json(folder / "tokenizer_config.json", _tokenizer_config(model.tokenizer))
        shutil.copyfile(source, folder / MODELLING)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return write_fast_tokenizer(model.tokenizer, folder)


def _config_json(config: RecurrentConfig) -> dict[str, Any]:
    """The arguments of ``TextgenConfig``, and where it and the model are found."""
    written: dict[str, Any] = {
        "model_type": "textgen",
        "architectures": [_CLASSES["AutoModelForCausalLM"]],
        "auto_map": {auto: f"{Path(MODELLING).stem}.{name}" for auto, name in _CLASSES.items()},
        "dtype": "float32",
        "kind": config.model,
        "vocab_size": config.vocabulary_size,
        "embedding_size": config.embedding_size,
        "hidden_sizes": list(config.hidden_size),
        "tie_word_embeddings": config.tie,
    }
    if isinstance(config, RNNConfig):
        written["activation"] = config.activation
    if isinstance(config, LSTMConfig):
        written |= {"ngram_embeddings": config.ngram_embeddings, "ngram_rows": config.ngram_rows}
    return written


def _tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Of special tokens only those that a text may have: ``<UNK>`` in one is an ordinary text."""
    end = eos_name(tokenizer)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 10**30,
    }
