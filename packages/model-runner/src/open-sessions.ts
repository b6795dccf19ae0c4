/** A model's open sessions, and the memory that they and the kept prompts share. */
import type { NativeModelInfo } from '@ctkvr/native';
import type { FoundPrompt, KeptPrompt } from './kept-prompt.js';
import { MemoryAdmission } from './memory-admission.js';
import { checkMemory } from './memory-estimate.js';
import { type KeptPrefix, PrefixCache } from './prefix-cache.js';
import type { ClosableSession, SessionNeed } from './session-host.js';
import type { StoredPrompts } from './stored-prompts.js';

export interface SessionMemoryParts {
  readonly info: NativeModelInfo;
  /** Tokens of a page of keys and values. */
  readonly pageSize: number;
  /** Bytes that all sessions together may hold. */
  readonly sessionMemoryBytes: number;
  /** Bytes of them that prompts may take which are kept for later requests. */
  readonly prefixCacheBytes: number;
  /** Where prompts go that leave memory; null: they are lost. */
  readonly storedPrompts: StoredPrompts | null;
  /** Bytes that can still be allocated where sessions are kept, asked each time. */
  readonly availableMemoryBytes: () => number;
}

export class OpenSessions {
  readonly prefixes: PrefixCache<KeptPrompt>;
  readonly admission: MemoryAdmission;
  readonly #parts: SessionMemoryParts;
  readonly #sessions = new Set<ClosableSession>();

  constructor(parts: SessionMemoryParts) {
    this.#parts = parts;
    const { prefixCacheBytes: maxBytes, storedPrompts } = parts;
    const onLeave = storedPrompts === null ? undefined : (left: KeptPrefix<KeptPrompt>) => storedPrompts.take(left);
    this.prefixes = new PrefixCache({ maxBytes, onLeave });
    this.admission = new MemoryAdmission({
      pageSize: parts.pageSize,
      budgetBytes: () => this.#admissionBudget(),
      onSpareBytes: (bytes) => this.prefixes.trim(bytes),
    });
  }

  add(session: ClosableSession): void {
    this.#sessions.add(session);
    this.admission.update(); // what it is promised may have been lent to kept prompts
  }

  delete(session: ClosableSession): void {
    this.#sessions.delete(session);
    this.admission.update();
  }

  get usedBytes(): number {
    let bytes = 0;
    for (const session of this.#sessions) bytes += session.heldBytes;
    return bytes;
  }

  /** @throws {CtkvrError} CTKVR_OUT_OF_MEMORY for what would have no room beside what is open. */
  check({ sharedBytes, ...settings }: SessionNeed): void {
    let [reservedBytes, heldBytes] = [0, 0];
    for (const session of this.#sessions) {
      reservedBytes += session.reservedBytes;
      heldBytes += session.heldBytes;
    }
    const { info, availableMemoryBytes, sessionMemoryBytes } = this.#parts;
    // Kept prompts make way.
    const freeBytes = Math.min(availableMemoryBytes() + this.prefixes.bytes, sessionMemoryBytes - heldBytes);
    checkMemory({ info, ...settings, availableBytes: freeBytes + sharedBytes, reservedBytes });
  }

  /** Returns the longest kept beginning of a prompt: in memory, or on disk where that is longer by far. */
  async findPrompt(namespace: string, ids: Int32Array): Promise<FoundPrompt | null> {
    const length = this.prefixes.find(namespace, ids)?.length ?? 0;
    const stored = (await this.#parts.storedPrompts?.open(namespace, ids, length)) ?? null;
    if (stored !== null) return { ...stored, isOwn: true };
    const kept = this.prefixes.find(namespace, ids); // as it is now: memory may have changed hands
    return kept && { ...kept, isOwn: false };
  }

  async close(): Promise<void> {
    this.admission.close();
    await Promise.all([...this.#sessions].map((session) => session.close()));
    this.#parts.storedPrompts?.startEnding();
    this.prefixes.clear();
    await this.#parts.storedPrompts?.idle();
  }

  /** What is not promised to sessions that were created with their whole context. */
  #admissionBudget(): number {
    let budgetBytes = this.#parts.sessionMemoryBytes;
    for (const session of this.#sessions) {
      if (!session.isAdmitted) budgetBytes -= session.heldBytes + session.reservedBytes;
    }
    return budgetBytes;
  }
}
