/** A session from a file that `session.save` or `document.save` wrote. */
import type { NativeModel, NativeSequence } from '@ctkvr/native';
import type { StepComposer } from '@ctkvr/scheduler';
import { Conversation } from './conversation.js';
import { savedContextError } from './operation-errors.js';
import { Session } from './session.js';
import type { SessionHost } from './session-host.js';
import { readNotes, type SavedDocument } from './session-notes.js';
import { StoredSequence } from './stored-sequence.js';

/** What a restored session needs of its model. */
interface RestoringModel {
  readonly native: NativeModel;
  readonly composer: StepComposer<NativeSequence>;
  readonly host: SessionHost;
  /** The longest that a session may have. */
  readonly contextLength: number;
  /** Throws when the model was closed meanwhile. */
  readonly checkOpen: () => void;
}

export interface RestoredSession {
  readonly session: Session;
  /** null for a session that holds no document. */
  readonly document: SavedDocument | null;
}

/** @throws {CtkvrError} as `Model.restoreSession`. */
export async function restoreSession(
  { native: model, composer, host, contextLength: longest, checkOpen }: RestoringModel,
  path: string,
  signal: AbortSignal | undefined,
): Promise<RestoredSession> {
  const restored = await composer.runExclusive(() => model.restoreSequence(path), { signal });
  const { sequence: native, selector, kvFormat, maxTokens: contextLength } = restored;
  try {
    checkOpen();
    const { tokens, conversation, document } = readNotes(path, restored.notes);
    if (contextLength > longest || tokens.length > contextLength) {
      throw savedContextError({ path, saved: contextLength, contextLength: longest });
    }
    host.checkMemory({ contextLength, kvFormat, selector, sharedBytes: native.memory.kvBytes });
    const sequence = new StoredSequence({ native, composer, selector });
    sequence.resume(tokens);
    const parts = { host, sequence, contextLength, kvFormat };
    return {
      session: new Session({ ...parts, conversation: conversation && Conversation.restored(conversation) }),
      document,
    };
  } catch (error) {
    native.close();
    throw error;
  }
}
