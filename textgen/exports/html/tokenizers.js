"use strict";
// Text to ids and back, as textgen/tokenizers does it in Python: the same ids for every text.
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

class CharacterTokenizer {
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

// Words: see textgen/tokenizers/pretokenization.py for chunks, tokens and joiner marks.
const JOINER = "\uffed", ESCAPED_JOINER = "\uff05FFED", EMPTY = "\uff050020", UNKNOWN = "";
const OTHER_SPACES =
  "\t\x0b\x0c\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
const LETTER = "[\\p{L}\\p{N}\\p{M}]";

class WordTokenizer {
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

// Subwords: pieces of sentencepiece, and the bytes of whatever is in none.
const SPACE = "\u2581"; // how sentencepiece writes a space
const BYTES = 256, FIRST_PIECE = SPECIAL.length + BYTES;
const UNKNOWN_PENALTY = 10;
const encoder = new TextEncoder();
const byteIds = (text) => Array.from(encoder.encode(text), (byte) => SPECIAL.length + byte);

class SubwordTokenizer {
  // scores: of each piece, float32.
  constructor({ unit, unk_literal: literal, subword_model: model, pieces }, scores) {
    this.size = FIRST_PIECE + pieces.length;
    this.terminator = TERMINATORS[unit];
    this.literal = literal;
    this.isBpe = model === "bpe";
    this.ids = new Map(pieces.map((piece, place) => [piece, FIRST_PIECE + place]));
    this.scores = scores;
    this.unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    this.longest = pieces.reduce((most, piece) => Math.max(most, piece.length), 0);
    this.bytes = [
      encoder.encode(SPECIAL[UNK]), encoder.encode(this.terminator),
      ...Array.from({ length: BYTES }, (_, byte) => Uint8Array.of(byte)),
      ...pieces.map((piece) => encoder.encode(piece.replaceAll(SPACE, " "))),
    ];
    this.pieces = pieces;
    this.startsWord = Uint8Array.from(this.bytes, (bytes) => Number(bytes[0] === 0x20));
    this.validAfter = new Map();
    this.cache = new Map();
    const apart = [literal, SPACE].filter(Boolean).map(escapedPattern);
    this.split = new RegExp(`(${apart.join("|")})`, "u");
  }
  encode(text) {
    const line = this.terminator === "\n\n" ? /\n\n|\n|[^\n]+/g : /\n|[^\n]+/g;
    return (withoutSurrogates(text).match(line) || []).flatMap((part) => {
      if (part === this.terminator) return [EOS];
      if (part === "\n") return byteIds("\n");
      // No piece of BPE extends into a run of spaces from before it.
      return this.isBpe ? part.match(/ +[^ ]*|[^ ]+/g).flatMap((chunk) => this.cached(chunk)) : this.inParts(part);
    });
  }
  cached(chunk) {
    let ids = this.cache.get(chunk);
    if (!ids) {
      ids = this.inParts(chunk);
      if (this.cache.size > 2 ** 15) this.cache.clear();
      if (chunk.length <= 64) this.cache.set(chunk, ids);
    }
    return ids;
  }
  inParts(chunk) {
    const part = new RegExp(`.{1,${LONGEST_CHUNK}}(?= |$)|.{1,${LONGEST_CHUNK}}`, "gsu");
    return chunk.match(part).flatMap((each) => each.split(this.split).flatMap((text) => {
      if (text === "") return [];
      if (text === this.literal) return [UNK];
      if (text === SPACE) return byteIds(text);
      const escaped = text.replaceAll(" ", SPACE);
      return this.isBpe ? this.merged(escaped) : this.likeliest(escaped);
    }));
  }
  // The segmentation with the highest sum of scores (Viterbi), in float32 as in sentencepiece; of
  // equals the first.
  likeliest(text) {
    const best = new Float32Array(text.length + 1), from = new Int32Array(text.length + 1).fill(-1);
    const through = new Int32Array(text.length + 1);
    const reach = (end, exact, start, id) => {
      const score = Math.fround(exact);
      if (from[end] >= 0 && score <= best[end]) return;
      best[end] = score;
      from[end] = start;
      through[end] = id;
    };
    for (let start = 0, size; start < text.length; start += size) {
      size = text.codePointAt(start) > 0xffff ? 2 : 1;
      let single = false;
      for (let end = start + size; end <= Math.min(text.length, start + this.longest); end++) {
        const id = this.ids.get(text.slice(start, end));
        if (id === undefined) continue;
        reach(end, this.scores[id - FIRST_PIECE] + best[start], start, id);
        single ||= end === start + size;
      }
      if (!single) reach(start + size, this.unknownScore + best[start], start, UNK);
    }
    const ids = [];
    for (let end = text.length; end > 0; end = from[end]) {
      if (through[end] !== UNK) ids.push(through[end]);
      else ids.push(...byteIds(text.slice(from[end], end)).reverse());
    }
    return ids.reverse();
  }
  // Of all neighbours that make a piece, those with the best score are merged first, from the left.
  merged(text) {
    const symbols = Array.from(text);
    for (;;) {
      let at = -1, score = -Infinity;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const id = this.ids.get(symbols[i] + symbols[i + 1]);
        if (id !== undefined && this.scores[id - FIRST_PIECE] > score) {
          at = i;
          score = this.scores[id - FIRST_PIECE];
        }
      }
      if (at < 0) break;
      symbols.splice(at, 2, symbols[at] + symbols[at + 1]);
    }
    return symbols.flatMap((symbol) => this.ids.get(symbol) ?? byteIds(symbol));
  }
  // Of the ids of one character, the last has the character and the others have none.
  spans(text) {
    const characters = new TextDecoder("utf-8", { ignoreBOM: true }), literal = encoder.encode(this.literal || "");
    return this.encode(text).map((id) => characters.decode(id === UNK ? literal : this.bytes[id], { stream: true }));
  }
  decoder() {
    return new SubwordDecoder(this);
  }
  // A space at the end belongs to the next word.
  continuation(prompt) {
    const holdsBack = prompt.endsWith(" ") && !prompt.endsWith("  ") && this.startsWord.includes(1);
    const start = continued(this, this.encode(holdsBack ? prompt.slice(0, -1) : prompt));
    if (holdsBack) start.decoder.spaceGiven = true;
    return start;
  }
  name(id) {
    if (id < SPECIAL.length) return SPECIAL[id];
    const bytes = this.bytes[id];
    const isPart = bytes.length === 1 && bytes[0] > 0x7f;
    return isPart ? `<0x${bytes[0].toString(16).toUpperCase()}>` : new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }
}

// Holds back the bytes of a character until it is complete.
class SubwordDecoder {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.characters = new TextDecoder("utf-8", { ignoreBOM: true });
    this.pending = []; // the bytes of a character that is incomplete
    this.spaceGiven = false;
  }
  added(id) {
    const bytes = this.tokenizer.bytes[id];
    return this.spaceGiven && bytes[0] === 0x20 ? bytes.subarray(1) : bytes;
  }
  peek(id) {
    const bytes = [...this.pending, ...this.added(id)];
    return incomplete(bytes)?.length === 0 ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes)) : "";
  }
  feed(id) {
    const bytes = this.added(id);
    this.spaceGiven = false;
    this.pending = incomplete([...this.pending, ...bytes]) ?? [];
    return this.characters.decode(bytes, { stream: true });
  }
  allowed() {
    const { bytes, startsWord, validAfter } = this.tokenizer;
    if (this.spaceGiven) return startsWord;
    const key = this.pending.join();
    if (!validAfter.has(key)) {
      validAfter.set(key, Uint8Array.from(bytes, (added) => Number(incomplete([...this.pending, ...added]) !== null)));
    }
    return validAfter.get(key);
  }
}

// The bytes of the incomplete character at the end of some UTF-8; null if it is not valid.
function incomplete(bytes) {
  let place = 0;
  while (place < bytes.length) {
    const first = bytes[place];
    const size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (!size) return null;
    for (let i = 1; i < size; i++) {
      if (place + i === bytes.length) return bytes.slice(place);
      const byte = bytes[place + i];
      const low = i > 1 ? 0x80 : { 0xe0: 0xa0, 0xf0: 0x90 }[first] ?? 0x80;
      const high = i > 1 ? 0xbf : { 0xed: 0x9f, 0xf4: 0x8f }[first] ?? 0xbf;
      if (byte < low || byte > high) return null;
    }
    place += size;
  }
  return [];
}

const TOKENIZERS = { char: CharacterTokenizer, word: WordTokenizer, subword: SubwordTokenizer };
