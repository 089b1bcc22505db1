from textgen import LanguageModel, train

result = train("mytext.txt", out="checkpoints/mine", budget="10m", hidden_size=512)
assert result.validation is not None  # None only if it was stopped early
print(result.validation.bits_per_character)

model = LanguageModel.load("checkpoints/mine")
print(model.sample("Once upon a time", length=200, temperature=0.8)[0].text)
score = model.score("To be, or not to be", level="word")
print(score.log_prob, [(word.text, word.surprisal) for word in score.parts or ()])
