/** A prompt as it was read, before its answer: a fork of the engine's sequence that later requests begin from. */
import type { NativeSequence } from '@ctkvr/native';
import type { Kept } from './prefix-cache.js';
import type { KeptBeginning } from './prompt-stages.js';

export interface KeptPromptParts extends Pick<KeptBeginning, 'indexedAt' | 'queriesFrom'> {
  readonly native: NativeSequence;
}

export class KeptPrompt implements Kept {
  readonly native: NativeSequence;
  readonly indexedAt: number | null;
  readonly queriesFrom: number;
  #isShared = true;

  constructor({ native, indexedAt, queriesFrom }: KeptPromptParts) {
    this.native = native;
    this.indexedAt = indexedAt;
    this.queriesFrom = queriesFrom;
  }

  /** While the session that read it has its pages, they are counted there. */
  get bytes(): number {
    const { kvBytes, indexBytes } = this.native.memory;
    return this.#isShared ? indexBytes : kvBytes + indexBytes;
  }

  /** What is left of it when its first `length` tokens are the same. */
  cut(length: number): KeptBeginning {
    return { length, indexedAt: this.indexedAt, queriesFrom: this.queriesFrom };
  }

  /** The session that read it has given its pages up. */
  stopSharing(): void {
    this.#isShared = false;
  }

  close(): void {
    this.native.close();
  }
}

/** What a prompt may begin from. */
export interface FoundPrompt {
  readonly value: KeptPrompt;
  readonly length: number;
  /** Whether it was read from disk for this one use, which then closes it. */
  readonly isOwn: boolean;
}
