"""Recurrent models as ONNX graphs, for onnxruntime and other engines.

The graph reads a chunk of tokens and returns the state after it, which is an input of the next
chunk; so nothing is read twice, and any number of texts can be read in parallel. It is made of the
operators LSTM, GRU and RNN of ONNX, not traced by ``torch.onnx``: a trace of this model's code has
the sizes and the start state of its example in it wherever the code branches or makes a tensor,
and a weight that two layers share is written twice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from textgen import __version__, storage
from textgen.errors import UsageError, missing_package
from textgen.exports.fast_tokenizer import write_fast_tokenizer
from textgen.language_model import LanguageModel
from textgen.models.base import NOTHING
from textgen.models.gru import GRUModel
from textgen.models.lstm import HASH_FACTOR, HASH_MODULUS, LSTMModel, NgramEmbeddings
from textgen.models.recurrent import OneHot, RecurrentModel
from textgen.models.rnn import RNNModel
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.subword import SubwordTokenizer

if TYPE_CHECKING:
    import onnx

MODEL, VOCABULARY, EXAMPLE = "model.onnx", "vocabulary.json", "example.py"
_WEIGHTS_BESIDE = "model.onnx.data"
_OPSET, _IR = 17, 8  # of 2022: onnxruntime 1.12 reads them
_LARGEST_FILE = 2**30  # bytes; a protocol buffer holds at most 2 GiB
_KINDS: dict[type[RecurrentModel], tuple[str, tuple[int, ...]]] = {
    # The operator, and which of PyTorch's gates each of its gates is.
    LSTMModel: ("LSTM", (0, 3, 1, 2)),  # i, o, f, c of PyTorch's i, f, g, o
    GRUModel: ("GRU", (1, 0, 2)),  # z, r, h of PyTorch's r, z, n
    RNNModel: ("RNN", (0,)),
}


def write(model: LanguageModel, out: Path) -> list[str]:
    """Write a folder with the graph, the vocabulary, and a Python program that uses them.

    Where ``tokenizer.json`` cannot express an option of the tokenizer, that and the program are
    left out.

    Raises:
        UsageError: The model is of a kind without such operators, or ``onnx`` is not installed.
    """
    network = model.model
    if type(network) not in _KINDS:
        raise UsageError(
            f"--to onnx has no place for --model {model.header.model.model}",
            where=model.path,
            why="only recurrent networks have operators in ONNX",
            fix="export a model of kind lstm, gru or rnn, or n-grams with --to arpa",
        )
    assert isinstance(network, RecurrentModel)
    try:
        import onnx
    except ImportError as error:
        raise missing_package("--to onnx", "onnx", "onnx", where=out) from error
    graph = _Graph(network).model(model.header.model.description)
    onnx.checker.check_model(graph)
    with storage.new_folder(out) as folder:
        onnx.save_model(
            graph,
            folder / MODEL,
            save_as_external_data=graph.ByteSize() > _LARGEST_FILE,
            location=_WEIGHTS_BESIDE,
        )
        return _write_vocabulary(model.tokenizer, folder)


class _Graph:
    """The nodes and weights of the graph of a model, made in the order of computation."""

    def __init__(self, network: RecurrentModel) -> None:
        self._network = network
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._named: dict[str, str] = {}

    def model(self, description: str) -> "onnx.ModelProto":
        """ids (time, batch) and states (batch, units) to logits and the states after them."""
        from onnx import TensorProto, helper

        network, sizes = self._network, self._network.config.hidden_size
        states = [f"{part}.{i}" for i in range(len(sizes)) for part in network.state_type.parts]
        inputs = [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["time", "batch"]),
            *(
                helper.make_tensor_value_info(
                    name, TensorProto.FLOAT, ["batch", sizes[int(name.rpartition(".")[2])]]
                )
                for name in states
            ),
        ]
        hidden = self._embedded()
        ngrams = getattr(network, "ngram_embedding", None)
        if ngrams is not None:
            before = helper.make_tensor_value_info(
                "last_ids", TensorProto.INT64, ["batch", ngrams.longest - 1]
            )
            inputs.append(before)
            hidden = self._add("Add", [hidden, self._ngrams(ngrams)])
        for index, layer in enumerate(network.layers):
            hidden = self._layer(index, layer, hidden)
        self._logits(hidden)
        outputs = [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["time", "batch", network.config.vocabulary_size]
            )
        ]
        for each in inputs[1:]:
            after = type(each)()
            after.CopyFrom(each)
            after.name = "next." + each.name
            outputs.append(after)
        return helper.make_model(
            helper.make_graph(self._nodes, "textgen", inputs, outputs, self._weights),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR,
            producer_name="textgen",
            producer_version=__version__,
            doc_string=description,
        )

    def _embedded(self) -> str:
        embedding = self._network.embedding
        if not isinstance(embedding, OneHot):
            return self._add("Gather", [self._weight("embedding", embedding.weight), "ids"])
        depth = self._constant([embedding.embedding_dim])
        values = self._constant(np.array([0, 1], np.float32))
        return self._add("OneHot", ["ids", depth, values])

    def _ngrams(self, ngrams: NgramEmbeddings) -> str:
        """The sum of the vectors of the n-grams that end at each token, as in ``NgramEmbeddings``.

        last_ids: (batch, longest - 1), the tokens before the chunk, -1 before the text.
        """
        table, first = self._weight("ngram_embedding", ngrams.weight), self._constant([0])
        before = self._add("Transpose", ["last_ids"], perm=[1, 0])
        text = self._add("Concat", [before, "ids"], axis=0)
        end = self._constant([np.iinfo(np.int64).max])
        last = self._add("Slice", [text, self._constant([1 - ngrams.longest]), end, first])
        self._add("Transpose", [last], output="next.last_ids", perm=[1, 0])
        one = self._constant([-NOTHING])
        text, hashed = self._add("Add", [text, one]), self._add("Add", ["ids", one])
        factor, modulus = self._constant([HASH_FACTOR]), self._constant([HASH_MODULUS])
        rows, total = self._constant([ngrams.rows]), ""
        for back in range(1, ngrams.longest):
            begin, stop = self._constant([ngrams.longest - 1 - back]), self._constant([-back])
            earlier = self._add("Slice", [text, begin, stop, first])
            product = self._add("Mul", [hashed, factor])
            hashed = self._add("Mod", [self._add("Add", [product, earlier]), modulus])
            row = self._add("Mod", [hashed, rows])
            place = self._add("Add", [row, self._constant([(back - 1) * ngrams.rows])])
            vectors = self._add("Gather", [table, place])
            total = self._add("Add", [total, vectors]) if total else vectors
        return total

    def _layer(self, index: int, layer: nn.Module, inputs: str) -> str:
        """inputs (time, batch, inputs) -> hidden states (time, batch, units)."""
        operator, order = _KINDS[type(self._network)]
        weight_ih, weight_hh, bias_ih, bias_hh = layer.parameters()

        def gates(weight: Tensor) -> Any:
            parts = weight.detach().numpy().reshape(len(order), -1, *weight.shape[1:])
            return parts[list(order)].reshape(weight.shape)

        weights = [
            self._weight(f"{name}.{index}", value[np.newaxis])
            for name, value in (
                ("weight_ih", gates(weight_ih)),
                ("weight_hh", gates(weight_hh)),
                ("bias", np.concatenate([gates(bias_ih), gates(bias_hh)])),
            )
        ]
        directions, parts = self._constant([0]), self._network.state_type.parts
        before = [self._add("Unsqueeze", [f"{part}.{index}", directions]) for part in parts]
        options: dict[str, Any] = {"hidden_size": weight_hh.shape[1]}
        if isinstance(self._network, RNNModel):
            options["activations"] = [self._network.config.activation.title()]
        if operator == "GRU":
            options["linear_before_reset"] = 1  # as in PyTorch and cuDNN
        hidden = f"layer.{index}"
        after = [f"{hidden}.{part}" for part in parts]
        self._add(operator, [inputs, *weights, "", *before], *after, output=hidden, **options)
        for part, rows in zip(parts, after, strict=True):
            self._add("Squeeze", [rows, directions], output=f"next.{part}.{index}")
        return self._add("Squeeze", [hidden, self._constant([1])])

    def _logits(self, hidden: str) -> None:
        network = self._network
        units, vocabulary = network.output.in_features, network.config.vocabulary_size
        weight = self._weight(
            "embedding" if network.config.tie else "output", network.output.weight
        )
        bias = self._weight("output_bias", network.output.bias)
        # In this operator the weight of the embedding serves as it is.
        flat = self._add("Reshape", [hidden, self._constant([-1, units])])
        logits = self._add("Gemm", [flat, weight, bias], transB=1)
        shape = self._add("Shape", ["ids"])
        shape = self._add("Concat", [shape, self._constant([vocabulary])], axis=0)
        self._add("Reshape", [logits, shape], output="logits")

    def _add(
        self, operator: str, inputs: Sequence[str], *more: str, output: str = "", **options: Any
    ) -> str:
        """Append a node; returns the name of its first output. more: the names of the others."""
        from onnx import helper

        output = output or f"{operator.lower()}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output, *more], **options))
        return output

    def _weight(self, name: str, value: Any) -> str:
        """Store a weight, one that is used twice once."""
        from onnx import numpy_helper

        if name not in self._named:
            self._named[name] = name
            array = value.detach().numpy() if isinstance(value, Tensor) else value
            self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _constant(self, value: Any) -> str:
        array = np.asarray(value, value.dtype if isinstance(value, np.ndarray) else np.int64)
        name = f"constant.{array.dtype}.{','.join(map(str, array.tolist()))}"
        return self._weight(name, array)


_EXAMPLE = '''\
"""Score a line with model.onnx, and continue it: python example.py "To be"."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

HERE, EOS = Path(__file__).parent, 1
session = onnxruntime.InferenceSession(HERE / "model.onnx")
tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))


def read(ids, state):
    """ln p of each token after each of some ids (time, vocabulary), and the state after them."""
    logits, *after = session.run(None, {"ids": np.array(ids)[:, None], **state})
    logits = logits[:, 0].astype(np.float64)
    return logits - np.logaddexp.reduce(logits, 1)[:, None], dict(zip(state, after))


start = {each.name: np.zeros((1, each.shape[1]), np.float32) for each in session.get_inputs()[1:]}
if "last_ids" in start:  # no tokens before the text
    start["last_ids"] = np.full(start["last_ids"].shape, -1)
ids, random = tokenizer.encode(sys.argv[1]).ids, np.random.default_rng(1)
scores, state = read([EOS, *ids], start)
print("ln p:", sum(score[id] for score, id in zip(scores, [*ids, EOS])))
while len(ids) < 300 and EOS not in ids:
    ids.append(int(random.choice(len(scores[-1]), p=np.exp(scores[-1]))))
    scores, state = read(ids[-1:], state)
print(tokenizer.decode(ids))
'''


def _write_vocabulary(tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Write the vocabulary, and the program that reads texts with it; returns the notes."""
    config = tokenizer.config
    vocabulary = {
        "level": config.level,
        "unit": config.unit,
        "unk": UNK,
        "eos": EOS,
        "tokens": [tokenizer.token(id) for id in range(tokenizer.vocabulary_size)],
    }
    storage.write_json(folder / VOCABULARY, vocabulary)
    if isinstance(tokenizer, SubwordTokenizer):
        tokenizer.save(folder)
    try:
        notes = write_fast_tokenizer(tokenizer, folder)
    except UsageError as error:
        return [f"there is no tokenizer.json, and no example.py: {error.what}: {error.why}"]
    (folder / EXAMPLE).write_text(_EXAMPLE, encoding="utf-8", newline="\n")
    return notes
