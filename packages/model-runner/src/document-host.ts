/** What a document needs of its model. Internal: `Model` has it; so the two files do not import each other. */
import type { ChatMessage } from './chat-template.js';
import type { Session } from './session.js';
import type { SessionOptions } from './session-types.js';

export interface DocumentHost {
  /** Context of a session that does not ask for its own. */
  readonly contextLength: number;
  /** Jinja source; null when the model has none. */
  readonly chatTemplate: string | null;
  /** Tokens of a passage. */
  readonly passageSize: number;
  tokenBytes(tokenId: number): Uint8Array;
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: { readonly signal?: AbortSignal | undefined },
  ): Promise<Int32Array>;
  createSession(options: SessionOptions): Session;
}
