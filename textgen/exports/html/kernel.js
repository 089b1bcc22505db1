"use strict";
// A kernel has: floats, its memory, which holds all vectors and matrices; and
// multiply(out, start, matrix, vector), out = start + matrix vector. Rows and columns are filled up
// with zeros to multiples of four.

const filled = (count) => Math.ceil(count / 4) * 4;

function makeKernel(size) {
  try {
    return simdKernel(size);
  } catch {
    return plainKernel(size); // an old browser
  }
}

function plainKernel(size) {
  const floats = new Float32Array(size);
  const multiply = (out, start, { weights, rows, columns }, vector) => {
    const stride = filled(columns);
    for (let row = 0; row < rows; row += 4) {
      let a = 0, b = 0, c = 0, d = 0, at = row * stride;
      for (let i = 0; i < columns; i++, at++) {
        const x = vector[i];
        a += weights[at] * x;
        b += weights[at + stride] * x;
        c += weights[at + 2 * stride] * x;
        d += weights[at + 3 * stride] * x;
      }
      out[row] = start[row] + a;
      out[row + 1] = start[row + 1] + b;
      out[row + 2] = start[row + 2] + c;
      out[row + 3] = start[row + 3] + d;
    }
  };
  return { floats, multiply };
}

// The same in WebAssembly with SIMD, four columns of four rows at a time: written here as its
// instructions, so that there is no binary without its source.
function simdKernel(size) {
  const memory = new WebAssembly.Memory({ initial: Math.ceil((4 * size) / 2 ** 16) || 1 });
  const module = new WebAssembly.Module(Uint8Array.from(simdModule()));
  const { run } = new WebAssembly.Instance(module, { m: { m: memory } }).exports;
  const multiply = (out, start, { weights, rows, columns }, vector) =>
    run(out.byteOffset, start.byteOffset, weights.byteOffset, vector.byteOffset, filled(rows), 4 * filled(columns));
  return { floats: new Float32Array(memory.buffer), multiply };
}

function simdModule() {
  // Parameters (pointers, a count, the bytes of a row), then local variables.
  const [OUT, START, W0, X, ROWS, STRIDE, W1, W2, W3, AT, END, A, B, C, D, V] = Array(16).keys();
  const I32 = 0x7f, V128 = 0x7b, LOOP = [0x03, 0x40], END_LOOP = 0x0b;
  const get = (local) => [0x20, local], set = (local) => [0x21, local], branchIf = [0x0d, 0];
  const plus = 0x6a, minus = 0x6b, isLess = 0x49;
  const load = [0xfd, 0x00, 0, 0], store = [0xfd, 0x0b, 0, 0];
  const add = [0xfd, 0xe4, 0x01], multiply = [0xfd, 0xe6, 0x01];
  const zero = [0xfd, 0x0c, ...Array(16).fill(0)];
  const shuffle = (...lanes) => [0xfd, 0x0d, ...lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte))];
  const step = (pointer, bytes) => [...get(pointer), 0x41, bytes, plus, ...set(pointer)];
  const beside = (pointer, before) => [...get(before), ...get(STRIDE), plus, ...set(pointer)];
  const accumulate = (sum, pointer) =>
    [...get(sum), ...get(V), ...get(pointer), ...load, ...multiply, ...add, ...set(sum), ...step(pointer, 16)];
  // Lanes 0 + 2 and 1 + 3 of two sums, alternately.
  const halves = (one, other) => [
    ...get(one), ...get(other), ...shuffle(0, 4, 1, 5), ...get(one), ...get(other), ...shuffle(2, 6, 3, 7), ...add,
  ];
  const body = [
    ...LOOP, // four rows
    ...[A, B, C, D].flatMap((sum) => [...zero, ...set(sum)]),
    ...beside(W1, W0), ...beside(W2, W1), ...beside(W3, W2),
    ...get(X), ...set(AT), ...beside(END, X),
    ...LOOP, // four columns
    ...get(AT), ...load, ...set(V),
    ...accumulate(A, W0), ...accumulate(B, W1), ...accumulate(C, W2), ...accumulate(D, W3),
    ...step(AT, 16), ...get(AT), ...get(END), isLess, ...branchIf, END_LOOP,
    ...halves(A, B), ...set(A), ...halves(C, D), ...set(C),
    ...get(OUT), ...get(START), ...load,
    ...get(A), ...get(C), ...shuffle(0, 1, 4, 5), ...get(A), ...get(C), ...shuffle(2, 3, 6, 7), ...add,
    ...add, ...store,
    ...get(W3), ...set(W0), ...step(OUT, 16), ...step(START, 16),
    ...get(ROWS), 0x41, 4, minus, ...set(ROWS), ...get(ROWS), ...branchIf, END_LOOP,
    0x0b,
  ];
  const sized = (bytes) => [...leb(bytes.length), ...bytes];
  const section = (id, ...bytes) => [id, ...sized([1, ...bytes])]; // with one entry
  return [
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, 0x60, 6, ...Array(6).fill(I32), 0), // a function of six numbers
    ...section(2, 1, 0x6d, 1, 0x6d, 2, 0, 1), // import the memory m.m
    ...section(3, 0), // the function, of this type
    ...section(7, 3, 0x72, 0x75, 0x6e, 0, 0), // export it as run
    ...section(10, ...sized([2, 5, I32, 5, V128, ...body])),
  ];
}

function leb(number) {
  return number < 0x80 ? [number] : [(number & 0x7f) | 0x80, ...leb(number >> 7)];
}
