/**
 * Takes an answer apart as it comes: thoughts, text, calls of tools. Text that may become a tag is held back until it is known, so that the
 * parts are the same however the answer is cut into pieces. Calls that cannot be read come back as text.
 */
import { type CallFormat, readCalls, type WrittenCall } from './call-format.js';
import type { AnswerCall } from './tool-use.js';

export type AnswerPart =
  | { readonly type: 'text' | 'thinking'; readonly text: string }
  | { readonly type: 'toolCall'; readonly call: AnswerCall };

export interface AnswerParserOptions {
  /** null = no calls are looked for. */
  readonly calls: {
    readonly format: CallFormat;
    /** Names of the tools: a call of another one is no call. */
    readonly names: ReadonlySet<string>;
    /** Whether calls after the first count; else they are left out. */
    readonly parallel: boolean;
    readonly newId: () => string;
  } | null;
  /** Whether the answer may begin with thoughts, or is in the midst of them from its beginning. */
  readonly thinking: 'none' | 'possible' | 'begun';
}

export const THINK_OPENER = '<think>';
export const THINK_CLOSER = '</think>';

type Mode = 'start' | 'thinking' | 'text' | 'call' | 'done';

export class AnswerParser {
  readonly #calls: AnswerParserOptions['calls'];
  #mode: Mode;
  /** Text that is not given out yet. */
  #held = '';
  /** Whether white space that comes next is dropped: at the beginning of thoughts, behind them, behind a call. */
  #skipsSpace: boolean;
  #hasText = false;
  #numCalls = 0;
  /** What stood before the call that is being read: given back with it, if it is none. */
  #beforeCall = '';
  /** Up to where closers in the call were tried. */
  #triedTo = 0;

  constructor({ calls, thinking }: AnswerParserOptions) {
    this.#calls = calls;
    this.#mode = { none: 'text', possible: 'start', begun: 'thinking' }[thinking] as Mode;
    this.#skipsSpace = thinking === 'begun';
  }

  get numCalls(): number {
    return this.#numCalls;
  }

  /** Takes the next piece of the answer, returns the parts that are known by it. */
  push(piece: string): AnswerPart[] {
    this.#held += piece;
    return this.#read(false);
  }

  /** Returns what was held back. */
  end(): AnswerPart[] {
    return this.#read(true);
  }

  #read(isEnd: boolean): AnswerPart[] {
    const parts: AnswerPart[] = [];
    const steps = {
      start: () => this.#start(isEnd),
      thinking: () => this.#think(parts, isEnd),
      text: () => this.#text(parts, isEnd),
      call: () => this.#call(parts, isEnd),
      done: () => false,
    };
    while (steps[this.#mode]()) {
      // each step goes on to the next mode, or waits
    }
    return parts;
  }

  /** Each of these returns whether the next mode can go on with what is held. */
  #start(isEnd: boolean): boolean {
    const begun = this.#held.trimStart();
    if (begun.startsWith(THINK_OPENER)) {
      this.#held = begun.slice(THINK_OPENER.length);
      this.#skipsSpace = true;
      this.#mode = 'thinking';
    } else if (!isEnd && THINK_OPENER.startsWith(begun)) {
      return false;
    } else {
      this.#mode = 'text';
    }
    return true;
  }

  #think(parts: AnswerPart[], isEnd: boolean): boolean {
    this.#skipSpace();
    const end = this.#held.indexOf(THINK_CLOSER);
    if (end < 0) {
      this.#give(parts, 'thinking', isEnd ? this.#held.trimEnd().length : this.#knownLength(THINK_CLOSER));
      return false;
    }
    this.#give(parts, 'thinking', this.#held.slice(0, end).trimEnd().length);
    this.#held = this.#held.slice(this.#held.indexOf(THINK_CLOSER) + THINK_CLOSER.length);
    this.#skipsSpace = true;
    this.#mode = 'text';
    return true;
  }

  #text(parts: AnswerPart[], isEnd: boolean): boolean {
    this.#skipSpace();
    if (this.#calls === null) {
      this.#give(parts, 'text', this.#held.length);
      return false;
    }
    const { format } = this.#calls;
    const begun = this.#held.trimStart();
    if (format.startsBare && !this.#hasText && begun === '' && !isEnd) return false;
    const isBare = format.startsBare && !this.#hasText && begun.startsWith('{');
    const at = isBare ? this.#held.length - begun.length : this.#held.indexOf(format.opener);
    if (at >= 0) {
      this.#give(parts, 'text', this.#held.slice(0, at).trimEnd().length);
      const callFrom = this.#held.length - this.#held.trimStart().length + (isBare ? 0 : format.opener.length);
      this.#beforeCall = this.#held.slice(0, callFrom);
      this.#held = this.#held.slice(callFrom);
      this.#triedTo = 0;
      this.#mode = 'call';
      return true;
    }
    if (!isEnd) this.#give(parts, 'text', this.#knownLength(format.opener));
    else this.#give(parts, 'text', this.#numCalls > 0 ? this.#held.trimEnd().length : this.#held.length);
    return false;
  }

  #call(parts: AnswerPart[], isEnd: boolean): boolean {
    const { format } = this.#calls!;
    const { closer } = format;
    let firstEnd = -1;
    if (closer !== null) {
      firstEnd = this.#held.indexOf(closer);
      // A closer can also be a part of an argument.
      for (let end = this.#held.indexOf(closer, this.#triedTo); end >= 0; end = this.#held.indexOf(closer, end + 1)) {
        this.#triedTo = end + 1;
        if (this.#take(parts, this.#held.slice(0, end), end + closer.length)) return true;
      }
    }
    if (!isEnd) return false;
    if (firstEnd < 0 && this.#take(parts, this.#held, this.#held.length)) return true;
    this.#held = this.#beforeCall + this.#held;
    const length = firstEnd < 0 ? this.#held.length : this.#beforeCall.length + firstEnd + closer!.length;
    this.#mode = 'text';
    this.#give(parts, 'text', length);
    return true;
  }

  /** Takes the calls that `body` is; returns whether it is any. */
  #take(parts: AnswerPart[], body: string, length: number): boolean {
    const { format, names, parallel, newId } = this.#calls!;
    const found = readCalls(body, format);
    if (found === null || !found.every(({ name }) => names.has(name))) return false;
    const calls: readonly WrittenCall[] = parallel ? found : found.slice(0, 1);
    for (const call of calls) {
      const { name } = call;
      parts.push({ type: 'toolCall', call: { id: newId(), name, arguments: JSON.stringify(call.arguments) } });
    }
    this.#numCalls += calls.length;
    this.#held = this.#held.slice(length);
    this.#skipsSpace = true;
    this.#mode = parallel ? 'text' : 'done';
    return true;
  }

  #skipSpace(): void {
    if (!this.#skipsSpace) return;
    this.#held = this.#held.trimStart();
    if (this.#held !== '') this.#skipsSpace = false;
  }

  /** How much of the held text is surely no part of a tag, nor white space before one. */
  #knownLength(tag: string): number {
    let length = this.#held.length;
    for (let begun = Math.min(tag.length - 1, length); begun > 0; begun--) {
      if (!this.#held.endsWith(tag.slice(0, begun))) continue;
      length -= begun;
      break;
    }
    return this.#held.slice(0, length).trimEnd().length;
  }

  #give(parts: AnswerPart[], type: 'text' | 'thinking', length: number): void {
    if (length > 0) parts.push({ type, text: this.#held.slice(0, length) });
    if (length > 0 && type === 'text') this.#hasText = true;
    this.#held = this.#held.slice(length);
  }
}
