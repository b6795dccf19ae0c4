/**
 * The interface between the routes and the model. `SessionChatEngine` implements it; the routes know nothing of sessions, so that the model
 * can later run in its own process.
 */

import type { GenerationRequest, MessagesPrompt, Prompt } from './generation-request.js';
import type { ReadMap } from './read-map.js';
import type { DocumentSessions } from './sessions/document-sessions.js';

export interface ChatEngine {
  /** The name clients send as `model`. */
  readonly modelId: string;
  /** Seconds since 1970 at which the model was loaded. */
  readonly createdAt: number;
  /** Tokens that prompt and answer may have together. */
  readonly contextLength: number;
  /** Why it answers nothing any more, a word of the errors' codes; null or left out while all is well. */
  readonly failure?: string | null;
  readonly text: EngineText;
  /** Documents that are read once; left out where there are none. */
  readonly sessions?: DocumentSessions;
  /**
   * Renders and tokenizes the prompt; reserves nothing. Need not finish once `signal` aborts. A request about a session waits here until its
   * document is there.
   * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED when prompt and answer cannot fit; CTKVR_INVALID_OPTION when the prompt is none,
   * such as messages that the model's chat template refuses.
   */
  prepare(request: GenerationRequest, signal: AbortSignal): Promise<PreparedChat>;
}

/** What the model's tokenizer and chat template make of text, without running the model. */
export interface EngineText {
  /** Token ids are below. */
  readonly vocabSize: number;
  /** '' when the model has none. */
  readonly bosToken: string;
  readonly eosToken: string;
  /** Jinja source; null when the model has none. */
  readonly chatTemplate: string | null;
  tokenize(text: string, options: TokenizeOptions): Promise<Int32Array>;
  /** The tokens that the model would be given. @throws {CtkvrError} as `ChatEngine.prepare`. */
  tokensOf(prompt: Prompt, signal: AbortSignal): Promise<Int32Array>;
  /** Bytes of one token, control tokens' too; they may end inside a character. */
  tokenBytes(tokenId: number): Uint8Array;
  /** The prompt that the template makes of messages. @throws {CtkvrError} as `ChatEngine.prepare`. */
  applyTemplate(prompt: MessagesPrompt, signal: AbortSignal): Promise<string>;
}

export interface TokenizeOptions {
  /** Whether to begin with BOS, where the model's prompts do. */
  readonly addSpecial: boolean;
  /** Whether the texts of control tokens are those tokens, or text like other text. */
  readonly parseSpecial: boolean;
}

export interface PreparedChat {
  readonly numPromptTokens: number;
  /**
   * Runs the request. The first event is `opened`, before any work on the prompt: what cannot start fails there. Before it comes `waiting`,
   * when memory is not free yet. Memory is held from `opened` until the generator ends, throws or is returned.
   * @throws {CtkvrError} CTKVR_OVERLOADED when too many wait for memory; CTKVR_OUT_OF_MEMORY when it can never be enough.
   */
  run(signal: AbortSignal): AsyncGenerator<ChatEvent, void, undefined>;
  /** Frees what is kept for it. To be called once, when no run goes on and none will begin. */
  close?(): void;
}

export type ChatEvent =
  | { readonly type: 'waiting' }
  | { readonly type: 'opened' }
  /** `tokens`, `readMap`: of the tokens that the text is of, when the request asked for them. */
  | {
      readonly type: 'text';
      readonly text: string;
      readonly tokens?: readonly ScoredToken[];
      readonly readMap?: ReadMap | null;
    }
  | { readonly type: 'finish'; readonly finish: ChatFinish };

export interface LikelyToken {
  /** They may end inside a character. */
  readonly bytes: Uint8Array;
  /** Natural logarithm, of the model's own distribution: before temperature. */
  readonly logprob: number;
}

export interface ScoredToken extends LikelyToken {
  /** The likeliest in its place, likeliest first. */
  readonly top: readonly LikelyToken[];
}

export interface ChatFinish {
  readonly reason: 'stop' | 'length';
  /** The one of the request's that ended it. */
  readonly stopString: string | null;
  readonly numCompletionTokens: number;
  /** Tokens of the prompt that were stored before. */
  readonly numCachedTokens: number;
  readonly statistics: ChatStatistics;
  /** Of the whole answer, when the request asked for it; null on a device. */
  readonly readMap?: ReadMap | null;
}

/** Our own addition to a response, under the key `ctkvr`. */
export interface ChatStatistics {
  /** From the start of the prefill to the first generated token; null when there was none. */
  readonly time_to_first_token_ms: number | null;
  /** Mean over the generated tokens after the first; null when there were fewer than two. */
  readonly ms_per_token: number | null;
  /** Keys read per KV head in the last decode step, of how many; null before the first decode step. */
  readonly keys_read_per_head: number | null;
  readonly keys_per_head: number | null;
}
