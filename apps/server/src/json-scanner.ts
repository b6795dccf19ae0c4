/**
 * Bounds of a JSON text, checked as its bytes come and before it is parsed: how deep it is nested (what walks it deeper could overflow the
 * stack) and how many values it has (each costs far more than its bytes, to parse and to check). What is no JSON is left to the parser.
 */

/** Lists and objects inside each other. JSON schemas of tools are the deepest that clients send, some 20. */
export const MAX_JSON_DEPTH = 128;

/** Values and names in all. A prompt as token ids has one a token. */
export const MAX_JSON_VALUES = 250_000;

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;
const openings: ReadonlySet<number> = new Set([0x5b, 0x7b]);
const closings: ReadonlySet<number> = new Set([0x5d, 0x7d]);

export class JsonScanner {
  #depth = 0;
  #numValues = 1;
  #isInString = false;
  #isEscaped = false;

  /** Takes the next bytes of the text, UTF-8. Returns the bound that they break, or null. */
  push(bytes: Uint8Array): 'depth' | 'values' | null {
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at]!;
      if (this.#isInString) this.#inString(byte);
      else if (byte === quote) this.#isInString = true;
      else if (byte === comma || byte === colon) this.#numValues += 1;
      else if (openings.has(byte)) {
        this.#numValues += 1;
        this.#depth += 1;
      } else if (closings.has(byte)) this.#depth -= 1;
      if (this.#depth > MAX_JSON_DEPTH) return 'depth';
      if (this.#numValues > MAX_JSON_VALUES) return 'values';
    }
    return null;
  }

  #inString(byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === backslash) this.#isEscaped = true;
    else if (byte === quote) this.#isInString = false;
  }
}

/** Whether a whole text is within the bounds. */
export function isWithinJsonBounds(text: string): boolean {
  return new JsonScanner().push(Buffer.from(text)) === null;
}
