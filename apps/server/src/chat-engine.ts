/**
 * The interface between the routes and the model. `SessionChatEngine` implements it; the routes know nothing of sessions, and `ProcessEngine`
 * forwards it to a process of the model's own.
 */

import type { GenerationRequest, MessagesPrompt, Prompt } from './generation-request.js';
import type { ReadMap } from './read-map.js';
import type { DocumentSessions } from './sessions/document-sessions.js';
import type { AnswerCall } from './tools/tool-use.js';

export interface ChatEngine {
  /** The name clients send as `model`. */
  readonly modelId: string;
  /** Seconds since 1970 at which the model was loaded. */
  readonly createdAt: number;
  /** Tokens that prompt and answer may have together; null as long as the model was never loaded. */
  readonly contextLength: number | null;
  /** Whether a request would have to wait for the model. Left out: 'ready'. */
  readonly state?: EngineState;
  /** Why it answers nothing any more, a word of the errors' codes; null or left out while all is well. */
  readonly failure?: string | null;
  /** Of keys, values and indexes; null while the model is not loaded, left out where it is never known. */
  memory?(): Promise<EngineMemory | null>;
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

/** unloaded = until the next request; failed = for good. */
export type EngineState = 'ready' | 'unloaded' | 'loading' | 'restarting' | 'failed';

export interface EngineMemory {
  /** Bytes that running requests hold; prompts that are kept for later ones are not counted, as they make way. */
  readonly usedBytes: number;
  readonly maxBytes: number;
}

/** What does not change of a model's tokenizer and chat template. */
export interface TextFacts {
  /** Token ids are below. */
  readonly vocabSize: number;
  /** '' when the model has none. */
  readonly bosToken: string;
  readonly eosToken: string;
  /** Jinja source; null when the model has none. */
  readonly chatTemplate: string | null;
}

/** What the model's tokenizer and chat template make of text, without running the model. */
export interface EngineText {
  facts(): Promise<TextFacts>;
  tokenize(text: string, options: TokenizeOptions): Promise<Int32Array>;
  /**
   * The tokens that the model would be given. A text that cannot be as few as `maxTokens` need not be tokenized.
   * @throws {CtkvrError} as `ChatEngine.prepare`.
   */
  tokensOf(prompt: Prompt, signal: AbortSignal, maxTokens?: number): Promise<Int32Array>;
  /** Bytes of each token, control tokens' too; they may end inside a character. */
  bytesOf(tokens: ArrayLike<number>): Promise<readonly Uint8Array[]>;
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
  | { readonly type: 'thinking'; readonly text: string; readonly tokens?: readonly ScoredToken[] }
  /** A whole call of a tool. */
  | { readonly type: 'toolCall'; readonly call: AnswerCall; readonly tokens?: readonly ScoredToken[] }
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
  /** toolCalls = stop, and the answer has calls of tools. */
  readonly reason: 'stop' | 'length' | 'toolCalls';
  /** The one of the request's that ended it. */
  readonly stopString: string | null;
  readonly numCompletionTokens: number;
  /** Tokens of the prompt that were stored before. */
  readonly numCachedTokens: number;
  readonly statistics: ChatStatistics;
  /** Of the whole answer, when the request asked for it; null on a device. */
  readonly readMap?: ReadMap | null;
}

/** Mean milliseconds of the steps of the generated tokens after the first, the work for others in the same steps included. */
export interface StageMilliseconds {
  /** Everything but what follows. */
  readonly linear: number;
  /** Finding the keys to read. */
  readonly retrieval: number;
  /** Attention over them; threads waiting for each other. */
  readonly attention: number;
  readonly sampling: number;
  /** Growing the index. */
  readonly index: number;
}

/** Our own addition to a response, under the key `ctkvr`. */
export interface ChatStatistics {
  /** From the start of the prefill to the first generated token; null when there was none. */
  readonly time_to_first_token_ms: number | null;
  /** Mean over the generated tokens after the first; null when there were fewer than two. */
  readonly ms_per_token: number | null;
  /** Of `ms_per_token`, the part inside the engine. */
  readonly ms_by_stage: StageMilliseconds | null;
  /** Keys read per KV head in the last decode step, of how many; null before the first decode step. */
  readonly keys_read_per_head: number | null;
  readonly keys_per_head: number | null;
  /** Attention mass that the last decode step read exactly, 0 to 1, as it estimates it; null before the first decode step. */
  readonly attention_mass: number | null;
}
