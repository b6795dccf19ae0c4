/** API keys as a server knows them: by name and hash. The key itself is shown once, when it is made. */
import { createHash, randomBytes } from 'node:crypto';
import { CtkvrError, checkKnownKeys, checkOption, type OptionChecks, takes } from '@ctkvr/core';

export interface ApiKey {
  /** Who has it: in logs and metrics, and what separates its prompts from those of others. */
  readonly name: string;
  /** SHA-256 of the key, 64 hexadecimal digits. */
  readonly sha256: string;
  /** Its share of tokens where several keys wait. Default 1. */
  readonly weight?: number | undefined;
  /** Requests of a higher one go first, but for one start in eight. Default 0. */
  readonly priority?: number | undefined;
  /** Its requests that run at once. Default: as many as the server runs. */
  readonly maxRunning?: number | undefined;
  /** Its requests that may wait. Default: half of the server's, so that no key alone fills the queue. */
  readonly maxQueued?: number | undefined;
}

const maxCount = 0x7fff_ffff;

const checks: OptionChecks<ApiKey> = {
  name: { ...takes.text, expected: 'a name of 1 to 64 letters, digits, _, . or -', accepts: isName },
  sha256: { ...takes.text, expected: "a key's SHA-256, 64 hexadecimal digits", accepts: isSha256 },
  weight: takes.optional(takes.number(0.001, 1000)),
  priority: takes.optional(takes.integer(-1000, 1000)),
  maxRunning: takes.optional(takes.integer(1, maxCount)),
  maxQueued: takes.optional(takes.integer(0, maxCount)),
};

/** @throws {CtkvrError} CTKVR_INVALID_OPTION naming the field at fault, or what two keys have in common. */
export function checkApiKeys(keys: readonly ApiKey[]): void {
  checkOption('apiKeys', 'apiKeys', keys, takes.list);
  const seen = new Set<string>();
  for (const [index, key] of keys.entries()) {
    const op = `apiKeys[${index}]`;
    checkKnownKeys(op, key, Object.keys(checks));
    for (const name of Object.keys(checks) as (keyof ApiKey)[]) checkOption(op, name, key[name], checks[name]);
    for (const unique of [key.name, key.sha256.toLowerCase()]) {
      if (seen.has(unique)) throw notUnique(op, unique);
      seen.add(unique);
    }
  }
}

/** Returns a new key, 256 random bits, and what a server is told of it. */
export function makeApiKey(name: string): { readonly key: string; readonly entry: ApiKey } {
  const key = `ctkvr-${randomBytes(32).toString('base64url')}`;
  const entry = { name, sha256: hashOf(key).toString('hex') };
  checkApiKeys([entry]);
  return { key, entry };
}

/** 32 bytes. A plain hash: keys are random, so there is nothing to guess that a slow one would protect. */
export function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && /^[\w.-]{1,64}$/.test(value);
}

function isSha256(value: unknown): boolean {
  return typeof value === 'string' && /^[0-9a-f]{64}$/i.test(value);
}

function notUnique(op: string, value: string): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `${op}: another key has the same name or hash, ${value}`, {
    fields: { op, actual: value },
  });
}
