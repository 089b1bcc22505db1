"use strict";
// Characters: one id per code point.

class Tokenizer {
  constructor({ unit, unk_literal: literal, symbols }) {
    this.size = symbols.length + SPECIAL.length;
    this.terminator = TERMINATORS[unit];
    this.texts = [SPECIAL[UNK], this.terminator, ...symbols];
    this.ids = new Map(symbols.map((symbol, place) => [symbol, place + SPECIAL.length]));
    if (unit === "line") this.ids.set("\n", EOS);
    if (unit === "paragraph") this.ids.set("\n\n", EOS);
    if (literal !== null) this.ids.set(literal, UNK);
    const several = [literal, unit === "paragraph" ? "\n\n" : null].filter(Boolean);
    this.pattern = new RegExp([...several.map(escapedPattern), "."].join("|"), "gsu");
  }
  spans(text) {
    return text.match(this.pattern) || [];
  }
  encode(text) {
    return this.spans(text).map((symbol) => this.ids.get(symbol) ?? UNK);
  }
  decoder() {
    return { feed: (id) => this.texts[id], peek: (id) => this.texts[id], allowed: () => null };
  }
  continuation(prompt) {
    return continued(this, this.encode(prompt));
  }
  name(id) {
    return id === EOS ? SPECIAL[EOS] : this.texts[id];
  }
}
