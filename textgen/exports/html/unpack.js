"use strict";
// What the page has packed: its weights and the scripts of its worker.

const BITS = 15, FIRST_CHARACTER = 0x5000;

// Bytes from characters of 15 bits.
function bytesOf(characters, bytes) {
  const data = new Uint8Array(bytes);
  let bits = 0, held = 0, at = 0;
  for (let i = 0; i < characters.length; i++) {
    const code = characters.charCodeAt(i) - FIRST_CHARACTER;
    if (code < 0 || code >= 1 << BITS) throw new Error("a character is foreign");
    bits |= code << held;
    held += BITS;
    for (; held >= 8 && at < bytes; held -= 8, bits >>>= 8) data[at++] = bits;
  }
  if (at < bytes || characters.length !== Math.ceil((8 * bytes) / BITS)) throw new Error("characters are missing");
  return data;
}

// gzip has a checksum and the length of what it holds: the stream fails where these are wrong.
async function unpacked(characters, bytes) {
  const stream = new Blob([bytesOf(characters, bytes)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
