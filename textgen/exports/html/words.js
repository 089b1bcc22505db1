"use strict";
// Words: see textgen/tokenizers/pretokenization.py for chunks, tokens and joiner marks.
const JOINER = "\uffed", ESCAPED_JOINER = "\uff05FFED", EMPTY = "\uff050020", UNKNOWN = "";
const OTHER_SPACES =
  "\t\x0b\x0c\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
const LETTER = "[\\p{L}\\p{N}\\p{M}]";

class Tokenizer {
  constructor({ unit, split, unk_literal: literal, symbols }) {
    this.size = symbols.length + SPECIAL.length;
    this.terminator = TERMINATORS[unit];
    this.literal = literal;
    this.lossless = split === "punctuation";
    this.symbols = symbols;
    this.ids = new Map(symbols.map((symbol, place) => [symbol, place + SPECIAL.length]));
    const endsInWord = literal !== null && new RegExp(`${LETTER}$`, "u").test(literal);
    const unknown = literal === null ? "(?!)" : escapedPattern(literal) + (endsInWord ? `(?!${LETTER})` : "");
    this.token = new RegExp(`${unknown}|(${LETTER}+(?:['\u2019]${LETTER}+)*)|(.)`, "gsu");
    this.forms = [
      { text: SPECIAL[UNK], left: false, right: false },
      { text: this.terminator, left: true, right: true },
      ...symbols.map((symbol) => (this.lossless ? tokenForm(symbol) : { text: symbol, left: false, right: false })),
    ];
    this.spaced = Uint8Array.from(this.forms, (form) => Number(!form.left));
  }
  // Chunks are separated by single spaces; a newline, or the pair that ends a paragraph, is one.
  chunks(text) {
    if (!this.lossless) text = text.replace(new RegExp(`[${OTHER_SPACES}]`, "gu"), " ");
    if (!text) return [];
    const lines = (part) => part.replaceAll("\n", " \n ");
    const paragraphs = this.terminator === "\n\n" ? text.split("\n\n") : [text];
    let spaced = paragraphs.map(lines).join(" \n\n ");
    // An empty line; twice, because neighbours share a newline.
    spaced = spaced.replaceAll("\n  \n", "\n \n").replaceAll("\n  \n", "\n \n");
    if (spaced.startsWith(" \n")) spaced = spaced.slice(1);
    if (spaced.endsWith("\n ")) spaced = spaced.slice(0, -1);
    return spaced.split(" ");
  }
  tokens(chunk) {
    const parts = chunk.match(new RegExp(`.{1,${LONGEST_CHUNK}}`, "gsu")) || [];
    if (!this.lossless) {
      return chunk === "\n" ? [] : parts.map((part) => (part === this.literal ? UNKNOWN : part));
    }
    if (chunk === "\n") return ["\n"];
    if (chunk === "") return [EMPTY];
    return parts.flatMap((part, place) => (place ? [JOINER, ...this.marked(part)] : this.marked(part)));
  }
  marked(part) {
    const found = [...part.matchAll(this.token)], tokens = [];
    found.forEach(([, word, symbol], place) => {
      const following = found[place + 1];
      if (symbol !== undefined) {
        const core = symbol === JOINER ? ESCAPED_JOINER : symbol;
        const right = following && following[2] === undefined;
        tokens.push((tokens.length ? JOINER : "") + core + (right ? JOINER : ""));
      } else {
        if (place && found[place - 1][2] === undefined) tokens.push(JOINER);
        tokens.push(word ?? UNKNOWN);
      }
    });
    return tokens;
  }
  encode(text) {
    return this.chunks(text).flatMap((chunk) => {
      if (chunk && chunk === this.terminator) return [EOS];
      return this.tokens(chunk).map((token) => this.ids.get(token) ?? UNK);
    });
  }
  spans(text) {
    if (!this.lossless) return this.whitespaceSpans(text);
    const texts = [];
    let spaced = false;
    for (const chunk of this.chunks(text)) {
      const alone = chunk === "\n" || chunk === "\n\n";
      const tokens = alone ? [chunk] : this.tokens(chunk).map((token) => (token === UNKNOWN ? this.literal : tokenForm(token).text));
      if (spaced && !alone) tokens[0] = ` ${tokens[0]}`;
      texts.push(...tokens);
      spaced = !alone;
    }
    return texts;
  }
  // White space belongs to the word or terminator after it; at the end to the last of them.
  whitespaceSpans(text) {
    const word = `[^\n ${OTHER_SPACES}]{1,${LONGEST_CHUNK}}`;
    const pattern = new RegExp(this.terminator ? `${this.terminator}|${word}` : word, "gu");
    const ends = [...text.matchAll(pattern)].map((match) => match.index + match[0].length);
    if (ends.length) ends[ends.length - 1] = text.length;
    return ends.map((end, place) => text.slice(place ? ends[place - 1] : 0, end));
  }
  decoder() {
    return new WordDecoder(this);
  }
  // A space at the end belongs to the next word. A symbol at the end is encoded in the more
  // frequent of its two forms: followed by a space or by a word.
  continuation(prompt) {
    const ids = this.encode(prompt);
    const spaced = this.lossless ? prompt.endsWith(" ") : new RegExp(`[ ${OTHER_SPACES}]$`, "u").test(prompt);
    if (this.lossless && spaced) {
      ids.pop();
    } else if (this.lossless && ids.length) {
      const chunk = prompt.slice(Math.max(prompt.lastIndexOf(" "), prompt.lastIndexOf("\n")) + 1);
      if (chunk) {
        const before = this.ids.get(this.tokens(chunk).at(-1) + JOINER) ?? UNK, last = ids.at(-1);
        if (before !== UNK && (before < last || last === UNK)) ids[ids.length - 1] = before;
      }
    }
    const start = continued(this, ids);
    if (spaced) start.decoder.skipSpace();
    return start;
  }
  name(id) {
    if (id < SPECIAL.length) return SPECIAL[id];
    const symbol = this.symbols[id - SPECIAL.length];
    return this.lossless && symbol === EMPTY ? " " : this.forms[id].text;
  }
}

function tokenForm(token) {
  if (token === JOINER || token === "\n") {
    return { text: token === JOINER ? "" : token, left: true, right: true };
  }
  if (token === EMPTY) return { text: "", left: false, right: false };
  const left = token.startsWith(JOINER), begun = left ? token.slice(1) : token;
  const right = token.endsWith(JOINER), core = begun.endsWith(JOINER) ? begun.slice(0, -1) : begun;
  return { text: core === ESCAPED_JOINER ? JOINER : core, left, right };
}

class WordDecoder {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.joined = true; // there is no space at the start of a text
    this.spaceGiven = false;
  }
  peek(id) {
    const form = this.tokenizer.forms[id];
    return this.joined || form.left ? form.text : ` ${form.text}`;
  }
  feed(id) {
    const text = this.peek(id);
    this.joined = this.tokenizer.forms[id].right;
    this.spaceGiven = false;
    return text;
  }
  allowed() {
    return this.spaceGiven ? this.tokenizer.spaced : null;
  }
  skipSpace() {
    this.joined = this.spaceGiven = true;
  }
}
