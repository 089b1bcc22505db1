"use strict";
// The recurrent network: one token at a time to the logits of the next, in float32.

// What a page contains, after decompression: the length of a JSON header, the header, and
// the weights in the order in which they are read here. A matrix of 8 bits has the scales of its
// rows first, each the upper half of a float32.
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    this.header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    this.at = 4 + length;
  }
  take(Type, count) {
    const size = count * Type.BYTES_PER_ELEMENT, bytes = this.bytes.slice(this.at, this.at + size);
    if (bytes.length !== size) throw new Error("the weights are cut off");
    this.at += size;
    return new Type(bytes.buffer);
  }
  floats(count) {
    return this.take(Float32Array, count);
  }
  // A table whose rows are looked up: the function row(index, out) adds one to a vector.
  table(rows, columns) {
    const precision = this.header.precision;
    if (precision === "int8") {
      const scales = upperHalves(this.take(Uint16Array, rows)), weights = this.take(Int8Array, rows * columns);
      return (index, out) => {
        const scale = scales[index], begin = index * columns;
        for (let i = 0; i < columns; i++) out[i] += scale * weights[begin + i];
      };
    }
    const weights = precision === "float16" ? halves(this.take(Uint16Array, rows * columns)) : this.floats(rows * columns);
    return (index, out) => {
      const begin = index * columns;
      for (let i = 0; i < columns; i++) out[i] += weights[begin + i];
    };
  }
  // A matrix to multiply by: its exact float32 weights, written row by row to out, rows ``stride`` apart.
  matrix(rows, columns, out, stride) {
    const add = this.table(rows, columns);
    for (let row = 0; row < rows; row++) add(row, out.subarray(row * stride, row * stride + columns));
    return add;
  }
}

const upperHalves = (bits) => new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer);

// IEEE 754 half precision.
function halves(bits) {
  return Float32Array.from(bits, (half) => {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}

const HASH_FACTOR = 1000003, HASH_MODULUS = 2 ** 31 - 1, NOTHING = -1;
const GATES = { lstm: 4, gru: 3, rnn: 1 };
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const tanh = (x) => 1 - 2 / (1 + Math.exp(2 * x));
const relu = (x) => Math.max(0, x);

function sizeOf(shapes, embedding, vocabulary) {
  const area = (rows, columns) => filled(rows) * filled(columns);
  const ofLayers = shapes.map(({ units, inputs, rows }, i) =>
    (i || embedding ? area(rows, inputs) : 0) + area(rows, units) + 4 * filled(rows) + filled(units));
  const ofOutput = area(vocabulary, shapes.at(-1).units) + 2 * filled(vocabulary);
  return ofLayers.reduce((sum, size) => sum + size, ofOutput + filled(embedding));
}

class Network {
  constructor(reader) {
    const { kind, vocabulary, embedding, layers, ngrams, tied, activation } = reader.header;
    const widths = [embedding || vocabulary, ...layers];
    const shapes = layers.map((units, i) => ({ units, inputs: widths[i], rows: GATES[kind] * units }));
    const { floats, multiply } = makeKernel(sizeOf(shapes, embedding, vocabulary));
    let at = 0;
    const room = (count) => floats.subarray(at, (at += filled(count)));
    const matrix = (rows, columns) => ({ weights: room(filled(rows) * filled(columns)), rows, columns });
    const read = (into) => reader.matrix(into.rows, into.columns, into.weights, filled(into.columns));
    const biasOf = (rows) => {
      const bias = room(rows);
      bias.set(reader.floats(rows));
      return bias;
    };
    Object.assign(this, { kind, vocabulary, multiply, embedding });
    this.activation = activation === "relu" ? relu : tanh;
    this.output = matrix(vocabulary, layers.at(-1));
    if (embedding) this.embed = tied ? read(this.output) : reader.table(vocabulary, embedding);
    if (ngrams) this.ngrams = { ...ngrams, add: reader.table((ngrams.longest - 1) * ngrams.rows, embedding) };
    this.layers = shapes.map(({ units, inputs, rows }, i) => {
      const layer = { units, hidden: room(units), cell: kind === "lstm" ? new Float64Array(units) : null };
      layer.gates = room(rows);
      layer.products = kind === "gru" ? room(rows) : null;
      if (i || embedding) read((layer.input = matrix(rows, inputs)));
      else this.column = reader.table(vocabulary, rows); // one-hot: a product is a column
      read((layer.recurrent = matrix(rows, units)));
      layer.bias = biasOf(rows);
      layer.hiddenBias = biasOf(rows);
      // But in a GRU, whose reset gate is between them, the two products are one sum.
      if (kind !== "gru") layer.hiddenBias.forEach((bias, row) => (layer.bias[row] += bias));
      return layer;
    });
    if (!tied) read(this.output);
    this.outputBias = biasOf(vocabulary);
    this.input = room(embedding);
    this.logits = room(vocabulary);
    this.last = new Int32Array(ngrams ? ngrams.longest - 1 : 0);
    this.start();
  }
  start() {
    for (const { hidden, cell } of this.layers) {
      hidden.fill(0);
      if (cell) cell.fill(0);
    }
    this.last.fill(NOTHING);
  }
  // The state after the tokens so far, as a copy.
  save() {
    return { layers: this.layers.map(({ hidden, cell }) => [hidden.slice(), cell && cell.slice()]), last: this.last.slice() };
  }
  restore(state) {
    state.layers.forEach(([hidden, cell], i) => {
      this.layers[i].hidden.set(hidden);
      if (cell) this.layers[i].cell.set(cell);
    });
    this.last.set(state.last);
  }
  // Read one token; the logits of the next are computed if they are asked for.
  read(id, { predict = true } = {}) {
    let input = this.input;
    if (this.embedding) {
      input.fill(0);
      this.embed(id, input);
      this.addNgrams(id, input);
    }
    for (const layer of this.layers) {
      const { gates, products, hidden, bias, hiddenBias, recurrent } = layer;
      if (layer.input) {
        this.multiply(gates, bias, layer.input, input);
      } else {
        gates.set(bias);
        this.column(id, gates);
      }
      if (products) this.multiply(products, hiddenBias, recurrent, hidden);
      else this.multiply(gates, gates, recurrent, hidden);
      this[this.kind](layer);
      input = hidden;
    }
    if (!predict) return null;
    this.multiply(this.logits, this.outputBias, this.output, input);
    return this.logits;
  }
  // The vectors of the last 2, 3, ... tokens together, found by a hash.
  addNgrams(id, input) {
    if (!this.ngrams) return;
    const { longest, rows, add } = this.ngrams;
    let hashed = id + 1;
    for (let back = 1; back < longest; back++) {
      hashed = (hashed * HASH_FACTOR + this.last[longest - 1 - back] + 1) % HASH_MODULUS;
      add((hashed % rows) + (back - 1) * rows, input);
    }
    this.last.copyWithin(0, 1);
    this.last[longest - 2] = id;
  }
  lstm({ units, gates, hidden, cell }) {
    for (let i = 0; i < units; i++) {
      const forgotten = sigmoid(gates[units + i]) * cell[i];
      cell[i] = forgotten + sigmoid(gates[i]) * tanh(gates[2 * units + i]);
      hidden[i] = sigmoid(gates[3 * units + i]) * tanh(cell[i]);
    }
  }
  gru({ units, gates, products, hidden }) {
    for (let i = 0; i < units; i++) {
      const reset = sigmoid(gates[i] + products[i]), update = sigmoid(gates[units + i] + products[units + i]);
      const candidate = tanh(gates[2 * units + i] + reset * products[2 * units + i]);
      hidden[i] = (1 - update) * candidate + update * hidden[i];
    }
  }
  rnn({ units, gates, hidden }) {
    for (let i = 0; i < units; i++) hidden[i] = this.activation(gates[i]);
  }
}
