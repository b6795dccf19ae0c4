/**
 * Keeps control tokens and ordinary text apart. A chat template writes control tokens as text (`<|im_start|>`); the same characters in what
 * a user wrote must stay characters. So the texts of control tokens are broken up in the content before the template runs (with a
 * private-use character that occurs nowhere in it), the rendered text is split at the control tokens that are whole, and the pieces are
 * restored.
 */

export interface ControlToken {
  readonly text: string;
  readonly tokenId: number;
}

/** A stretch of rendered text: a control token, or plain text (`tokenId` null) to be tokenized without special tokens. */
export interface TextPiece {
  readonly text: string;
  readonly tokenId: number | null;
}

/** First code point of the Unicode private use area, which has 6,400 of them. */
const PRIVATE_USE_START = 0xe000;
const PRIVATE_USE_END = 0xf8ff;

export class ControlText {
  readonly #tokens: readonly ControlToken[];
  readonly #guard: string;

  /** @param tokens longest first. @param contents every text that {@link hide} will get: decides the private-use character. */
  constructor(tokens: readonly ControlToken[], contents: readonly string[]) {
    this.#tokens = tokens.filter((token) => token.text !== '');
    this.#guard = unusedCharacter(contents);
  }

  /**
   * Returns `content` with every control token's text broken up. An end that a template's text could complete to a control token, and a
   * start that could complete one, are set apart too.
   */
  hide(content: string): string {
    let hidden = this.hideWhole(content);
    if (this.#tokens.some(({ text }) => endsWithStartOf(hidden, text))) hidden += this.#guard;
    if (this.#tokens.some(({ text }) => startsWithEndOf(hidden, text))) hidden = this.#guard + hidden;
    return hidden;
  }

  /** The same without the ends: for names of fields, which templates compare, and write between quotes. */
  hideWhole(content: string): string {
    let hidden = content;
    for (const { text } of this.#tokens) {
      if (hidden.includes(text)) hidden = hidden.replaceAll(text, `${text.slice(0, 1)}${this.#guard}${text.slice(1)}`);
    }
    return hidden;
  }

  /** Splits rendered text at control tokens, longest first, and restores what was hidden. Empty pieces are left out. */
  split(rendered: string): TextPiece[] {
    let pieces: TextPiece[] = [{ text: rendered, tokenId: null }];
    for (const token of this.#tokens) {
      if (rendered.includes(token.text)) pieces = pieces.flatMap((piece) => splitAt(piece, token));
    }
    return pieces
      .map(({ text, tokenId }) => ({ text: tokenId === null ? text.replaceAll(this.#guard, '') : text, tokenId }))
      .filter(({ text }) => text !== '');
  }
}

function splitAt(piece: TextPiece, token: ControlToken): TextPiece[] {
  if (piece.tokenId !== null) return [piece];
  return piece.text
    .split(token.text)
    .flatMap((text, index) => [...(index > 0 ? [token] : []), { text, tokenId: null }])
    .filter(({ text }) => text !== '');
}

function endsWithStartOf(content: string, token: string): boolean {
  for (let length = Math.min(token.length - 1, content.length); length > 0; length--) {
    if (content.endsWith(token.slice(0, length))) return true;
  }
  return false;
}

function startsWithEndOf(content: string, token: string): boolean {
  for (let length = Math.min(token.length - 1, content.length); length > 0; length--) {
    if (content.startsWith(token.slice(token.length - length))) return true;
  }
  return false;
}

function unusedCharacter(contents: readonly string[]): string {
  for (let code = PRIVATE_USE_START; code <= PRIVATE_USE_END; code++) {
    const character = String.fromCharCode(code);
    if (!contents.some((content) => content.includes(character))) return character;
  }
  // All 6,400 occur: a text made against us. A long run of one of them still occurs nowhere in it.
  const longest = Math.max(...contents.map((content) => content.length));
  return String.fromCharCode(PRIVATE_USE_START).repeat(longest + 1);
}
