/** Joins the bytes of tokens into text. A token may end inside a character: its bytes wait for the rest. */
export class Utf8Stream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #waiting = new Uint8Array(0);

  /** Whether no byte waits: everything given so far has come back as text. */
  get isComplete(): boolean {
    return this.#waiting.length === 0;
  }

  /** Returns the text that `bytes` completes: whole characters only. Bytes that can be no UTF-8 become U+FFFD. */
  push(bytes: Uint8Array): string {
    const all = new Uint8Array(this.#waiting.length + bytes.length);
    all.set(this.#waiting);
    all.set(bytes, this.#waiting.length);
    const end = all.length - incompleteTail(all);
    this.#waiting = all.slice(end);
    return this.#decoder.decode(all.subarray(0, end));
  }
}

/** Number of bytes at the end that begin a character and lack its rest: 0 to 3. */
function incompleteTail(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0b1100_0000) === 0b1000_0000) continue; // a continuation byte: its lead lies before it
    return back < characterLength(byte) ? back : 0;
  }
  return 0;
}

/** Bytes of the character that `lead` begins; 1 for ASCII and for bytes that begin nothing. */
function characterLength(lead: number): number {
  if (lead >= 0xf0 && lead < 0xf8) return 4;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  return lead >= 0xc0 && lead < 0xe0 ? 2 : 1;
}
