"use strict";
// Subwords: pieces of sentencepiece, and the bytes of whatever is in none.
const SPACE = "\u2581"; // how sentencepiece writes a space
const BYTES = 256, FIRST_PIECE = SPECIAL.length + BYTES;
const UNKNOWN_PENALTY = 10;
const encoder = new TextEncoder();
const byteIds = (text) => Array.from(encoder.encode(text), (byte) => SPECIAL.length + byte);

class Tokenizer {
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
