"""Calls that a type checker accepts, and wrong ones that it refuses; ``make typecheck`` reads them.

Where one of the wrong ones were accepted, its comment would be unused, which is an error, too.
"""

from textgen import LanguageModel, compare, plan, train
from textgen.results import SentenceScore, SentenceScores

train("text.txt", out="run", budget="10m", hidden_size=(8, 8), precision="bf16", progress=True)
train("text.txt", out="run", hiden_size=8)  # type: ignore[call-arg]
plan("text.txt", steps="3")  # type: ignore[arg-type]
compare("text.txt", out="all", models="lstm,rnn", steps=3)
compare("text.txt", out="all", hidden_size=8)  # type: ignore[call-arg]
model = LanguageModel.load("run")
one: SentenceScore = model.score("a", level="token")
several: SentenceScores = model.score(["a", "b"], eos=False)
model.score("a", level="tokens")  # type: ignore[call-overload]
model.scores(["a"], contxt="document")  # type: ignore[call-arg]
model.sample("a", temperature=0.8, stop=["x"], top_k=3)
model.sample("a", temprature=0.8)  # type: ignore[call-arg]
model.decode(model.encode("a"))
model.encode(["a"])  # type: ignore[arg-type]
shapes = [each.shape for each in model.logits(["a"])], model.hidden_states("a").shape
