/**
 * Prompts on disk that left memory: found again by their tokens, also by a process that comes later. Which tokens there are is read once and
 * held; the keys and values are read when a prompt begins from them.
 */
import { createHash } from 'node:crypto';
import { CtkvrError } from '@ctkvr/core';
import type { NativeRestoredSequence } from '@ctkvr/native';
import { KeptPrompt } from './kept-prompt.js';
import { type KeptPrefix, MIN_PREFIX_TOKENS } from './prefix-cache.js';
import { PrefixTree } from './prefix-tree.js';
import type { SnapshotStore } from './snapshot-store/snapshot-store.js';

export interface StoredPromptsParts {
  readonly store: SnapshotStore;
  /** The same for the same model and context. A model with other weights is told apart when a prompt is opened. */
  readonly modelName: string;
  /** Writes a prompt's sequence to a file, with notes. */
  readonly write: (prompt: KeptPrompt, path: string, notes: string) => Promise<{ bytes: number }>;
  readonly restore: (path: string) => Promise<NativeRestoredSequence>;
  /** Told when a prompt could not be kept, or opened. */
  readonly onFailed: (error: unknown) => void;
}

interface StoredPrompt {
  readonly namespace: string;
  readonly ids: Int32Array;
  readonly key: string;
  /** Settles when its file is there, or is not to be. Never rejects. */
  readonly written: Promise<void>;
}

/** What a prompt's sequence does not say of itself. */
interface PromptNotes {
  readonly indexedAt: number | null;
  readonly queriesFrom: number;
}

/** Shorter prompts are read again as fast. */
const MIN_STORED_TOKENS = 4 * MIN_PREFIX_TOKENS;

/** Prompts that wait to be written, and hold their memory meanwhile. More that leave are dropped. */
const MAX_WAITING = 2;

/** Raised when the notes change their meaning. */
const version = 1;

export class StoredPrompts {
  readonly #parts: StoredPromptsParts;
  readonly #trees = new Map<string, PrefixTree<StoredPrompt>>();
  /** What there was when this began. */
  readonly #read: Promise<void>;
  #lastWrite: Promise<void> = Promise.resolve();
  #numWaiting = 0;
  #isEnding = false;

  constructor(parts: StoredPromptsParts) {
    this.#parts = parts;
    this.#read = this.#readAll().catch(parts.onFailed);
  }

  /** Takes over a prompt that leaves memory, and closes it once it is written. Those that come while others wait are dropped. */
  take({ namespace, ids, value }: KeptPrefix<KeptPrompt>): void {
    const isWanted = ids.length >= MIN_STORED_TOKENS && (this.#isEnding || this.#numWaiting < MAX_WAITING);
    if (!isWanted || this.#trees.get(namespace)?.longest(ids)?.length === ids.length) {
      value.close();
      return;
    }
    const written: Promise<void> = this.#lastWrite.then(() => this.#write(prompt, value));
    const prompt: StoredPrompt = { namespace, ids, key: this.#keyOf(namespace, ids), written };
    this.#lastWrite = written;
    this.#numWaiting += 1;
    this.#remember(prompt);
  }

  /**
   * Returns the prompt with the longest common beginning, where that is longer than `length` by enough to be worth it; null where none is, or
   * it is gone. The caller closes it.
   */
  async open(
    namespace: string,
    ids: Int32Array,
    length: number,
  ): Promise<{ value: KeptPrompt; length: number } | null> {
    await this.#read;
    const match = this.#trees.get(namespace)?.longest(ids);
    if (match == null || match.length < length + MIN_STORED_TOKENS) return null;
    const value = await this.#open(match.value).catch((error: unknown) => {
      this.#parts.onFailed(error);
      return null;
    });
    if (value !== null) return { value, length: match.length };
    this.#forget(match.value);
    return null;
  }

  /** From now on all that leaves is written. */
  startEnding(): void {
    this.#isEnding = true;
  }

  /** Resolves when what was taken is written. */
  async idle(): Promise<void> {
    await this.#read;
    await this.#lastWrite;
  }

  async #readAll(): Promise<void> {
    const { store, modelName } = this.#parts;
    for (const snapshot of await store.list()) {
      if (snapshot.modelName !== modelName) continue;
      const found = readNotes(snapshot.notes);
      if (found !== null) this.#remember({ ...found, key: snapshot.key, written: Promise.resolve() });
    }
  }

  /** Never rejects. */
  async #write(prompt: StoredPrompt, value: KeptPrompt): Promise<void> {
    try {
      await this.#save(prompt, value);
    } catch (error) {
      this.#forget(prompt);
      this.#parts.onFailed(error);
    } finally {
      this.#numWaiting -= 1;
      value.close();
    }
  }

  /** It takes the place of its beginnings. */
  async #save(prompt: StoredPrompt, value: KeptPrompt): Promise<void> {
    const { store, modelName, write } = this.#parts;
    const { namespace, ids, key } = prompt;
    const { indexedAt, queriesFrom } = value;
    const about = { name: 'a prompt', modelName, numTokens: ids.length, notes: writeNotes(prompt) };
    const notes = JSON.stringify({ indexedAt, queriesFrom } satisfies PromptNotes);
    await store.save(key, about, (path) => write(value, path, notes));
    for (const beginning of this.#trees.get(namespace)?.beginningsOf(ids) ?? []) {
      if (beginning === prompt) continue;
      this.#forget(beginning);
      await store.remove(beginning.key);
    }
  }

  async #open({ key, ids, written }: StoredPrompt): Promise<KeptPrompt | null> {
    await written;
    const restored = await this.#parts.store.open(key, this.#parts.restore);
    if (restored === null) return null;
    const { sequence: native } = restored;
    try {
      const { indexedAt, queriesFrom } = JSON.parse(restored.notes) as PromptNotes;
      if (native.length === ids.length) return new KeptPrompt({ native, indexedAt, queriesFrom });
      const problem = `the stored prompt ${key} has ${native.length} tokens, expected ${ids.length}`;
      throw new CtkvrError('CTKVR_BAD_SNAPSHOT', problem, { fields: { key } });
    } catch (error) {
      native.close();
      throw error;
    }
  }

  #remember(prompt: StoredPrompt): void {
    let tree = this.#trees.get(prompt.namespace);
    if (tree === undefined) {
      tree = new PrefixTree();
      this.#trees.set(prompt.namespace, tree);
    }
    tree.set(prompt.ids, prompt);
  }

  #forget({ namespace, ids }: StoredPrompt): void {
    this.#trees.get(namespace)?.delete(ids);
  }

  #keyOf(namespace: string, ids: Int32Array): string {
    const hash = createHash('sha256').update(JSON.stringify([version, this.#parts.modelName, namespace]));
    return hash.update(bytesOf(ids)).digest('hex');
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function writeNotes({ namespace, ids }: StoredPrompt): string {
  return JSON.stringify({ version, namespace, ids: bytesOf(ids).toString('base64') });
}

/** Returns null for what `writeNotes` of this version did not write. */
function readNotes(notes: string | undefined): Pick<StoredPrompt, 'namespace' | 'ids'> | null {
  try {
    const { version: read, namespace, ids } = JSON.parse(notes ?? '') as Record<string, unknown>;
    if (read !== version || typeof namespace !== 'string' || typeof ids !== 'string') return null;
    const bytes = Buffer.from(ids, 'base64');
    return bytes.length > 0 && bytes.length % 4 === 0
      ? { namespace, ids: new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)) }
      : null;
  } catch {
    return null;
  }
}
