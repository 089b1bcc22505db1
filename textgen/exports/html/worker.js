"use strict";
// The model, in a worker, so that the page never waits for its arithmetic. A message is
// {kind, ...}; each answer has the kind of its question:
//   open {characters, bytes, breakers} -> {vocabulary}
//   next {text, settings}         -> {choices, entropy}: what may come after a text
//   write {text, settings, pace}  -> {text, tokens} again and again; the last has done
//   halt                          -> ends write
//   score {text}                  -> {sentences}, some at a time; the last has done
// What went wrong is {kind: "failed", why}.

const SLICE_MS = 30; // how long the worker is deaf
const SNAPSHOT_TOKENS = 64, MOST_KEPT = 2 ** 16;
const SHOWN = 12;

class LanguageModel {
  // breakers: what a repetition does not reach across, for DRY; each is one ASCII character, so
  // it is always within a token.
  constructor(bytes, breakers) {
    const reader = new Reader(bytes), { tokenizer } = reader.header;
    const scores = tokenizer.pieces ? reader.floats(tokenizer.pieces.length) : null;
    this.tokenizer = new Tokenizer(tokenizer, scores);
    this.network = new Network(reader);
    if (reader.at !== bytes.length) throw new Error("there are more weights than the model has");
    this.size = this.network.vocabulary;
    this.known = new Uint8Array(this.size).fill(1);
    this.known[UNK] = 0; // is read, and never written
    const spelling = this.tokenizer.decoder();
    this.isBreaker = this.known.map((_, id) => Number(breakers.some((each) => spelling.peek(id).includes(each))));
    this.masks = new Map();
    this.restart();
  }
  restart() {
    this.read = []; // the tokens that the network has read; null if they are too many to keep
    this.snapshots = []; // its state after every 64 of them
    this.network.start();
  }
  // Read a text from its start, or from where it parts from the last one; the logits after it.
  follow(ids) {
    if (!this.read) this.restart();
    let same = 0;
    while (same < ids.length && same < this.read.length && ids[same] === this.read[same]) same++;
    if (same < this.read.length) this.rewind(Math.min(same, ids.length - 1));
    for (let place = this.read.length; place < ids.length; place++) this.step(ids[place], place === ids.length - 1);
    return this.network.logits;
  }
  rewind(tokens) {
    const snapshot = Math.floor(tokens / SNAPSHOT_TOKENS);
    this.snapshots.length = snapshot;
    this.read.length = snapshot * SNAPSHOT_TOKENS;
    if (snapshot) this.network.restore(this.snapshots[snapshot - 1]);
    else this.network.start();
  }
  step(id, predict = true) {
    this.network.read(id, { predict });
    if (this.read && this.read.length === MOST_KEPT) this.read = this.snapshots = null;
    if (this.read && this.read.push(id) % SNAPSHOT_TOKENS === 0) this.snapshots.push(this.network.save());
    return this.network.logits;
  }
  // Which tokens can come next, <UNK> never.
  allowed(decoder) {
    const valid = decoder.allowed();
    if (!valid) return this.known;
    if (!this.masks.has(valid)) {
      const both = this.known.map((known, id) => known & valid[id]);
      this.masks.set(valid, both.includes(1) ? both : this.known);
    }
    return this.masks.get(valid);
  }
  // The distribution that the token after these is drawn from, and the same where XTC applies.
  distributions(logits, ids, decoder, settings) {
    const { dryMultiplier, dryAllowedLength, xtcProbability, xtcThreshold } = settings;
    const repeated = dryMultiplier ? repetitions(ids, dryAllowedLength, this.isBreaker) : new Map();
    const shares = distribution(penalized(logits, settings, repeated), this.size, this.allowed(decoder), settings);
    return [shares, xtcProbability ? excludeTopChoices(shares, xtcThreshold) : shares];
  }
  // The likeliest tokens, each with its probability and that of being drawn.
  choices(logits, ids, decoder, settings) {
    const shares = softmax(logits, this.size), allowed = this.allowed(decoder);
    const [usual, excluding] = this.distributions(logits, ids, decoder, settings);
    const drawn = usual.map((share, id) => share + settings.xtcProbability * (excluding[id] - share));
    const choices = highest(shares, SHOWN).map((id) => ({
      ...{ id, name: this.tokenizer.name(id), share: shares[id], drawn: drawn[id] },
      text: allowed[id] ? decoder.peek(id) : "", // what it adds to the text
    }));
    return { choices, entropy: entropyOf(shares) };
  }
}

const entropyOf = (shares) => shares.reduce((sum, share) => (share ? sum - share * Math.log2(share) : sum), 0);

// The ids of the greatest shares, in order, ties to the lower id.
function highest(shares, count) {
  const best = [];
  for (let id = 0; id < shares.length; id++) {
    if (best.length === count && !(shares[id] > shares[best[count - 1]])) continue;
    let place = best.length;
    while (place && shares[id] > shares[best[place - 1]]) place--;
    best.splice(place, 0, id);
    best.length = Math.min(best.length, count);
  }
  return best;
}

let model = null;
let writing = 0; // the number of the text that is being written; another one ends it

const tasks = {
  async open({ characters, bytes, breakers }) {
    model = new LanguageModel(await unpacked(characters, bytes), breakers);
    return { vocabulary: model.size };
  },
  next({ text, settings }) {
    const { ids, decoder } = model.tokenizer.continuation(text);
    return model.choices(model.follow([EOS, ...ids]), ids, decoder, settings);
  },
  // settings: those of sampling.js, and seed, length, stop, oneSentence. pace: tokens a second, 0 for all it can.
  async write({ text, settings, pace }) {
    const mine = ++writing, uniforms = new Uniforms(settings.seed, TOKENS), chances = new Uniforms(settings.seed, CHANCES);
    const { ids, decoder } = model.tokenizer.continuation(text);
    const sample = new Text(decoder, settings.stop), begun = performance.now();
    let logits = model.follow([EOS, ...ids]), piece = "", tokens = 0, posted = begun, characters = 0;
    const post = (more) => {
      const watched = pace ? model.choices(logits, ids, decoder, settings) : {};
      postMessage({ kind: "write", text: piece, tokens, ...watched, ...more });
      piece = "";
      posted = performance.now();
    };
    let why = "length";
    while (tokens < settings.length) {
      const [usual, excluding] = model.distributions(logits, ids, decoder, settings);
      const applies = settings.xtcProbability && chances.next() < settings.xtcProbability;
      const id = draw(applies ? excluding : usual, uniforms.next());
      tokens += 1;
      if (id === EOS && settings.oneSentence) {
        why = "eos";
        break;
      }
      if (settings.dryMultiplier) ids.push(id);
      const added = sample.add(id);
      piece += added;
      characters += added.length;
      if (sample.stopped) {
        why = "stop";
        break;
      }
      logits = model.step(id);
      const due = pace ? begun + (1000 * tokens) / pace : 0, now = performance.now();
      if (due > now || now - posted > SLICE_MS) {
        post({});
        await (due > now ? new Promise((resolve) => setTimeout(resolve, due - now)) : turn());
        if (mine !== writing) {
          why = "halted";
          break;
        }
      }
    }
    const rest = sample.finish();
    piece += rest;
    post({ done: why, seconds: (performance.now() - begun) / 1000, characters: characters + rest.length });
  },
  halt() {
    writing++;
  },
  async score({ text }) {
    const mine = ++writing, { tokenizer } = model;
    const sentences = tokenizer.terminator ? text.split(tokenizer.terminator) : [text];
    if (tokenizer.terminator && sentences.at(-1) === "") sentences.pop();
    let done = [], posted = performance.now();
    for (const sentence of sentences) {
      done.push(scored(sentence));
      if (performance.now() - posted < SLICE_MS) continue;
      postMessage({ kind: "score", sentences: done });
      await turn();
      if (mine !== writing) return;
      done = [];
      posted = performance.now();
    }
    postMessage({ kind: "score", sentences: done, done: true });
  },
};

// Each token of a sentence, and its <EOS>: text, surprisal in bits, rank, entropy in bits, what was
// likelier. The tokens of one character are one part.
function scored(sentence) {
  const { tokenizer, network, size } = model;
  const ids = [...tokenizer.encode(sentence), EOS], texts = [...tokenizer.spans(sentence), ""];
  const parts = [];
  let part = null;
  model.restart();
  network.read(EOS);
  ids.forEach((id, place) => {
    const shares = softmax(network.logits, size), share = shares[id];
    const surprisal = surprisalOf(network.logits, size, id);
    if (part) {
      part.surprisal += surprisal;
      part.tokens += 1;
    } else {
      const rank = shares.reduce((before, other, its) => before + (other > share || (other === share && its < id)), 1);
      const choices = highest(shares, 5).map((each) => ({ id: each, name: tokenizer.name(each), share: shares[each] }));
      part = { id, surprisal, rank, entropy: entropyOf(shares), choices, tokens: 1 };
    }
    const isLast = place === ids.length - 1;
    if (texts[place] || isLast) {
      parts.push(Object.assign(part, { text: texts[place], ends: isLast, unknown: id === UNK }));
      part = null;
    }
    if (!isLast) network.read(id);
  });
  model.restart();
  const characters = Array.from(sentence + tokenizer.terminator).length;
  return { text: sentence, characters, parts };
}

// Lets messages in, without the delay of setTimeout.
function turn() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });
}

self.onmessage = async ({ data }) => {
  try {
    const answer = await tasks[data.kind](data);
    if (answer) postMessage({ kind: data.kind, ...answer });
  } catch (error) {
    postMessage({ kind: "failed", of: data.kind, why: String(error.message || error) });
  }
};
