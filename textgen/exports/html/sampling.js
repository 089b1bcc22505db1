"use strict";
// Logits to a distribution and a distribution to a token, as ``textgen sample`` does it: with the
// same draws, so that a page with float32 weights writes the same text from the same seed. The rules
// apply in the order of docs/sampling.md: logit bias, DRY, which tokens are allowed, temperature,
// top-p, XTC. The settings have their names there: logitBias ([id, what is added] each),
// dryMultiplier, dryBase, dryAllowedLength, temperature, topP, xtcProbability, xtcThreshold.

// Uniform draws in [0, 1) of NumPy's Philox generator (Salmon et al. 2011), 4 x 64 bits, keyed by
// (seed, 0): one for each token. Those for another purpose, numbered as in
// textgen/sampling/generator.py, are a sequence of their own.
const TOKENS = 0, CHANCES = 2;
class Uniforms {
  constructor(seed, purpose) {
    this.seed = BigInt(seed);
    this.purpose = BigInt(purpose);
    this.counter = 0n;
    this.waiting = [];
  }
  next() {
    if (!this.waiting.length) this.waiting = this.block();
    return Number(this.waiting.shift() >> 11n) / 2 ** 53;
  }
  block() {
    const low = (1n << 64n) - 1n;
    let [a, b, c, d] = [++this.counter, this.purpose, 0n, 0n], [key, other] = [this.seed, 0n];
    for (let round = 0; round < 10; round++) {
      const one = a * 0xd2e7470ee14c6c93n, two = c * 0xca5a826395121157n;
      [a, b, c, d] = [(two >> 64n) ^ b ^ key, two & low, (one >> 64n) ^ d ^ other, one & low];
      key = (key + 0x9e3779b97f4a7c15n) & low;
      other = (other + 0xbb67ae8584caa73bn) & low;
    }
    return [a, b, c, d];
  }
}

// p of each token, in float64. allowed: which tokens there are, or null for all.
function softmax(logits, count, allowed = null, temperature = 1) {
  const shares = new Float64Array(count);
  let most = -Infinity, sum = 0;
  for (let id = 0; id < count; id++) if ((!allowed || allowed[id]) && logits[id] > most) most = logits[id];
  for (let id = 0; id < count; id++) {
    if (allowed && !allowed[id]) continue;
    sum += shares[id] = Math.exp((logits[id] - most) / temperature);
  }
  if (!(sum > 0 && sum < Infinity)) throw new Error("the model gives no probabilities after this text");
  for (let id = 0; id < count; id++) shares[id] /= sum;
  return shares;
}

// -log2 p of a token, which is finite where p is not above 0 in float64.
function surprisalOf(logits, count, id) {
  let most = -Infinity, sum = 0;
  for (let each = 0; each < count; each++) most = Math.max(most, logits[each]);
  for (let each = 0; each < count; each++) sum += Math.exp(logits[each] - most);
  return (most + Math.log(sum) - logits[id]) / Math.LN2;
}

// How long a repetition of earlier tokens each id would go on with, for DRY: a Map of those that
// would go on with ``least`` tokens or more. A repetition does not reach across a breaker.
function repetitions(ids, least, isBreaker) {
  const found = new Map(), back = (places) => ids[ids.length - 1 - places];
  let reach = 0;
  while (reach < ids.length && !isBreaker[back(reach)]) reach++;
  if (reach < least) return found;
  // The Z-function of the text from its end: how many tokens there are the same as the last ones.
  const same = new Int32Array(ids.length);
  for (let place = 1, from = 0, end = 0; place < ids.length; place++) {
    let length = place < end ? Math.min(same[place - from], end - place) : 0;
    while (place + length < ids.length && back(length) === back(place + length)) length++;
    same[place] = length;
    if (place + length > end) [from, end] = [place, place + length];
    const next = back(place - 1);
    if (length < least || isBreaker[next]) continue;
    found.set(next, Math.max(found.get(next) ?? 0, Math.min(length, reach)));
  }
  return found;
}

const LARGEST_EXPONENT = 88.7228391; // of e in float32, as in llama.cpp

// The logits after bias and DRY. repeated: as ``repetitions`` gives it.
function penalized(logits, { logitBias, dryMultiplier, dryBase, dryAllowedLength }, repeated) {
  if (!logitBias.length && !repeated.size) return logits;
  const changed = Float64Array.from(logits);
  for (const [id, added] of logitBias) changed[id] += added;
  const most = dryBase > 1.000001 ? Math.trunc(LARGEST_EXPONENT / Math.log(dryBase)) : Infinity;
  for (const [id, length] of repeated) changed[id] -= dryMultiplier * dryBase ** Math.min(length - dryAllowedLength, most);
  return changed;
}

// The distribution that a token is drawn from where XTC does not apply: that of the model at this
// temperature, and of it the fewest tokens that have the probability topP together (Holtzman et
// al. 2020).
function distribution(logits, count, allowed, { temperature, topP }) {
  const shares = softmax(logits, count, allowed, temperature || 1);
  if (temperature === 0) {
    const likeliest = shares.indexOf(shares.reduce((most, share) => Math.max(most, share), 0));
    return shares.fill(0).fill(1, likeliest, likeliest + 1);
  }
  return topP < 1 ? keepTopP(shares, topP) : shares;
}

function keepTopP(shares, mass) {
  // What is less probable than this has less than 1 - mass together.
  const least = (1 - mass) / shares.length, order = [];
  shares.forEach((share, id) => share >= least && order.push(id));
  order.sort((one, other) => shares[other] - shares[one] || one - other);
  const kept = new Float64Array(shares.length);
  let total = 0, place = 0;
  while (place < order.length && total < mass) total += shares[order[place++]];
  for (const id of order.slice(0, place)) kept[id] = shares[id] / total;
  return kept;
}

// XTC: without the ids of at least the probability ``threshold``, but the least probable of them;
// of equals the last is kept.
function excludeTopChoices(shares, threshold) {
  let kept = -1, total = 0;
  shares.forEach((share, id) => {
    if (share && share >= threshold && (kept < 0 || share <= shares[kept])) kept = id;
  });
  const left = shares.map((share, id) => (share >= threshold && id !== kept ? 0 : share));
  for (const share of left) total += share;
  return left.map((share) => share / total);
}

// An id, by inversion of the cumulative distribution; one without a share is never drawn.
function draw(shares, uniform) {
  let total = 0;
  for (const share of shares) total += share;
  const point = Math.min(uniform, 1 - 2 ** -50) * total;
  let sum = 0, last = 0;
  for (let id = 0; id < shares.length; id++) {
    if (!shares[id]) continue;
    sum += shares[id];
    last = id;
    if (sum > point) break;
  }
  return last;
}

// The text of a sample. It is complete where no character is incomplete, and neither ``stop`` nor a
// beginning of it ends it; a text is cut before ``stop``.
class Text {
  constructor(decoder, stop) {
    Object.assign(this, { decoder, stop, pending: "", stopped: false });
  }
  add(id) {
    this.pending += this.decoder.feed(id);
    if (!this.stop) return this.take(this.pending.length);
    const at = this.pending.indexOf(this.stop);
    if (at >= 0) {
      this.stopped = true;
      return this.take(at);
    }
    let held = Math.min(this.stop.length - 1, this.pending.length);
    while (!this.stop.startsWith(this.pending.slice(this.pending.length - held))) held--;
    return this.take(this.pending.length - held);
  }
  // The rest, where no more comes.
  finish() {
    return this.stopped ? "" : this.take(this.pending.length);
  }
  take(count) {
    const text = this.pending.slice(0, count);
    this.pending = this.pending.slice(count);
    return text;
  }
}
