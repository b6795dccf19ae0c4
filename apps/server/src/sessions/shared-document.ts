/** A document in memory, or on its way there. A session and its forks share one. */
import type { PrefillProgress, ReadDocument } from '@ctkvr/model-runner';
import type { SessionInfo, SessionState } from './document-sessions.js';
import { toSessionError } from './session-error.js';

/** What brings a document into memory. */
export type DocumentWork = (
  signal: AbortSignal,
  onProgress: (progress: PrefillProgress) => void,
) => Promise<ReadDocument>;

export class SharedDocument {
  /** Rejects when it could not be read or restored. */
  readonly opened: Promise<ReadDocument>;
  readonly #stop = new AbortController();
  #state: SessionState;
  #tokens: Pick<SessionInfo, 'tokensDone' | 'tokensTotal'>;
  #error: SessionInfo['error'] = null;
  #numUses = 0;
  #change: { readonly happened: Promise<void>; readonly tell: () => void } = newChange();

  /**
   * @param state while the work goes on: 'reading', or 'saved' when it restores.
   * @param numTokens if they are known.
   */
  constructor(state: 'reading' | 'saved', work: DocumentWork, numTokens = 0) {
    this.#state = state;
    this.#tokens = { tokensDone: numTokens, tokensTotal: numTokens };
    this.opened = this.#open(work);
    this.opened.catch(() => {}); // its state tells
  }

  get facts(): Pick<SessionInfo, 'state' | 'tokensDone' | 'tokensTotal' | 'error'> {
    return { state: this.#state, ...this.#tokens, error: this.#error };
  }

  get state(): SessionState {
    return this.#state;
  }

  get isUsed(): boolean {
    return this.#numUses > 0;
  }

  /** Resolves when the facts are others than now. */
  get change(): Promise<void> {
    return this.#change.happened;
  }

  /** Keeps it in memory until what comes back is called, once. */
  hold(): () => void {
    this.#numUses += 1;
    return () => {
      this.#numUses -= 1;
    };
  }

  /** Ends what is being read or answered and frees the memory. Idempotent. */
  async close(): Promise<void> {
    this.#stop.abort();
    const document = await this.opened.catch(() => null);
    await document?.close();
    this.#tell();
  }

  async #open(work: DocumentWork): Promise<ReadDocument> {
    try {
      const document = await work(this.#stop.signal, ({ tokensDone, tokensTotal }) => {
        this.#tokens = { tokensDone, tokensTotal };
        this.#tell();
      });
      this.#tokens = { tokensDone: document.numTokens, tokensTotal: document.numTokens };
      this.#state = 'ready';
      return document;
    } catch (error) {
      const { message, code } = toSessionError(error, 'text');
      this.#error = { message, code };
      this.#state = 'failed';
      throw error;
    } finally {
      this.#tell();
    }
  }

  #tell(): void {
    const { tell } = this.#change;
    this.#change = newChange();
    tell();
  }
}

function newChange() {
  let tell!: () => void;
  const happened = new Promise<void>((resolve) => {
    tell = resolve;
  });
  return { happened, tell };
}
