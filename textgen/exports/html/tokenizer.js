"use strict";
// Text to ids and back, as textgen/tokenizers does it in Python: the same ids for every text.
// A page has the class Tokenizer of its level alone: characters.js, words.js or subwords.js.
//
// A tokenizer has: size; encode(text) -> ids; spans(text) -> the part of the text that each of
// these stands for; continuation(prompt) -> {ids, decoder}; name(id) -> its text, for people.
// A decoder has: feed(id) -> the text that is complete with it; peek(id) -> the same, but the id is
// not read; allowed() -> null, or which ids can come next (Uint8Array).

const UNK = 0, EOS = 1, SPECIAL = ["<UNK>", "<EOS>"];
const LONGEST_CHUNK = 1024; // characters
const TERMINATORS = { line: "\n", paragraph: "\n\n", document: "" };

const escapedPattern = (text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
const withoutSurrogates = (text) => text.replace(/\p{Surrogate}/gu, "?");

function continued(tokenizer, ids) {
  const decoder = tokenizer.decoder();
  for (const id of ids) decoder.feed(id);
  return { ids, decoder };
}
