/**
 * Which prompts are kept for later requests, by namespace, and which leave first. Pure bookkeeping: what is kept, and how large it is, is
 * told; whoever keeps it frees it.
 */
import { PrefixTree } from './prefix-tree.js';

/** Something that costs memory for as long as it is kept. */
export interface Kept {
  /** Bytes that its end would free; may change. */
  readonly bytes: number;
  /** Frees it. Called once. */
  close(): void;
}

/** What is kept, and for which prompt. */
export interface KeptPrefix<T> {
  readonly namespace: string;
  readonly ids: Int32Array;
  readonly value: T;
}

export interface PrefixCacheOptions<T> {
  /** Bytes of all that is kept; 0 = nothing is. */
  readonly maxBytes: number;
  /** Takes over, and closes, what leaves for want of memory, or at the end. Default: closes it at once. */
  readonly onLeave?: ((left: KeptPrefix<T>) => void) | undefined;
}

export interface PrefixCacheUsage {
  readonly numPrefixes: number;
  readonly bytes: number;
  readonly maxBytes: number;
}

/** Prompts kept at most: their sizes are added up whenever memory changes hands. */
const MAX_PREFIXES = 256;

/** Shorter beginnings are read again: that takes as long as copying the page they end in, and the queries kept beside it. */
export const MIN_PREFIX_TOKENS = 64;

export class PrefixCache<T extends Kept> {
  readonly maxBytes: number;
  readonly #trees = new Map<string, PrefixTree<KeptPrefix<T>>>();
  /** Least recently used first. */
  readonly #entries = new Set<KeptPrefix<T>>();

  readonly #onLeave: (left: KeptPrefix<T>) => void;

  constructor({ maxBytes, onLeave = ({ value }) => value.close() }: PrefixCacheOptions<T>) {
    this.maxBytes = maxBytes;
    this.#onLeave = onLeave;
  }

  get bytes(): number {
    let bytes = 0;
    for (const { value } of this.#entries) bytes += value.bytes;
    return bytes;
  }

  get usage(): PrefixCacheUsage {
    return { numPrefixes: this.#entries.size, bytes: this.bytes, maxBytes: this.maxBytes };
  }

  /** Returns what has the longest common beginning with `ids`, in this namespace alone; null where that is too short to be worth it. */
  find(namespace: string, ids: Int32Array): { readonly value: T; readonly length: number } | null {
    const match = this.#trees.get(namespace)?.longest(ids);
    if (match == null || match.length < MIN_PREFIX_TOKENS) return null;
    const { value: entry, length } = match;
    this.#entries.delete(entry);
    this.#entries.add(entry);
    return { value: entry.value, length };
  }

  /**
   * Takes over what is kept for `ids`. It takes the place of what is kept for beginnings of them. Closed at once where the cache is off, or the
   * beginning too short.
   */
  keep(namespace: string, ids: Int32Array, value: T): void {
    if (this.maxBytes === 0 || ids.length < MIN_PREFIX_TOKENS) {
      value.close();
      return;
    }
    let tree = this.#trees.get(namespace);
    for (const entry of tree?.beginningsOf(ids) ?? []) {
      this.#forget(entry);
      entry.value.close();
    }
    tree = this.#trees.get(namespace); // the last of a namespace takes its tree along
    if (tree === undefined) {
      tree = new PrefixTree();
      this.#trees.set(namespace, tree);
    }
    const entry = { namespace, ids, value };
    tree.set(ids, entry);
    this.#entries.add(entry);
    this.trim(this.maxBytes);
  }

  /** Drops the least recently used until at most `maxBytes`, and what the cache may have, are held. */
  trim(maxBytes: number): void {
    const most = Math.max(0, Math.min(maxBytes, this.maxBytes));
    let { bytes } = this;
    for (const entry of this.#entries) {
      if (bytes <= most && this.#entries.size <= MAX_PREFIXES) return;
      bytes -= entry.value.bytes;
      this.#forget(entry);
      this.#onLeave(entry);
    }
  }

  /** Drops everything. */
  clear(): void {
    for (const entry of this.#entries) {
      this.#forget(entry);
      this.#onLeave(entry);
    }
  }

  #forget(entry: KeptPrefix<T>): void {
    this.#entries.delete(entry);
    const tree = this.#trees.get(entry.namespace);
    tree?.delete(entry.ids);
    if (tree?.isEmpty) this.#trees.delete(entry.namespace);
  }
}
