/** What a session needs of its model. Internal: `Model` implements it, so that the two files do not import each other's classes. */
import type { KvFormat, SelectorOptions } from '@ctkvr/core';
import type { NativeModelInfo } from '@ctkvr/native';
import type { ChatTemplate } from './chat-template.js';
import type { TextPiece } from './control-text.js';
import type { Grammar, GrammarSource } from './grammar.js';

export interface SessionHost {
  readonly info: NativeModelInfo;
  /** @throws {CtkvrError} CTKVR_INVALID_OPTION when the model has none. */
  chatTemplate(): ChatTemplate;
  tokenizePieces(pieces: readonly TextPiece[]): Promise<number[]>;
  tokenBytes(tokenId: number): Uint8Array;
  /** @throws {CtkvrError} CTKVR_INVALID_OPTION naming what is not supported. */
  compileGrammar(source: GrammarSource): Promise<Grammar>;
  /** Whether a prompt's first token is to be BOS and is not. */
  lacksBos(tokens: ArrayLike<number>): boolean;
  /** @throws {CtkvrError} CTKVR_OUT_OF_MEMORY when a session cannot grow to its context beside the others. */
  checkMemory(need: SessionNeed): void;
  /** Called once by each new session. */
  opened(session: ClosableSession): void;
  /** Called once when a session has closed. */
  closed(session: ClosableSession): void;
}

export interface SessionNeed {
  readonly contextLength: number;
  readonly kvFormat: KvFormat;
  readonly selector: SelectorOptions;
  /** Bytes of pages that it shares with another session: a fork's beginning. */
  readonly sharedBytes: number;
}

export interface ClosableSession {
  close(): Promise<void>;
  /** Bytes this session may still allocate without asking. */
  readonly reservedBytes: number;
  readonly heldBytes: number;
  /** Whether it waits for memory as it grows, instead of having it reserved. */
  readonly isAdmitted: boolean;
}
