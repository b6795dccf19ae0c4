/** The work of `session.prefill`: what to add, storing it, and the index over it. */
import type { Conversation } from './conversation.js';
import { shouldBuildAfterPrefill } from './index-policy.js';
import type { Operation } from './operation.js';
import { contextExceededError } from './operation-errors.js';
import { type PromptInput, planPrompt } from './prompt-plan.js';
import type { SessionHost } from './session-host.js';
import type { PrefillOptions, PrefillResult } from './session-types.js';
import type { PrefixSource, StoredSequence } from './stored-sequence.js';

export interface PrefillInput {
  readonly host: SessionHost;
  readonly sequence: StoredSequence;
  readonly contextLength: number;
  /** The session's messages so far; null when it holds text that came from no message. */
  readonly conversation: Conversation | null;
  readonly operation: Operation;
  /** Where a first prompt may begin; null for one that begins anew. */
  readonly prefixes: PrefixSource | null;
  /** Whether the session has been closed meanwhile: then there is nothing to undo. */
  readonly isClosing: () => boolean;
}

export interface Prefilled {
  readonly result: PrefillResult;
  /** The session's messages afterwards. */
  readonly conversation: Conversation | null;
}

/** Adds a prompt. When it rejects, the sequence is as before, but for what a template that renders anew made it drop. */
export async function prefillPrompt(
  prompt: PromptInput,
  options: PrefillOptions,
  { host, sequence, contextLength, operation, prefixes, isClosing, ...before }: PrefillInput,
): Promise<Prefilled> {
  const startedAt = performance.now();
  const { addGenerationPrompt = true, buildIndex = true } = options;
  const { signal } = operation;
  const context = { host, sequence, conversation: before.conversation, addGenerationPrompt, signal };
  const { keep, added, conversation } = await planPrompt(prompt, context);
  operation.check();
  if (keep + added.length > contextLength) {
    const { trainedContext } = host.info;
    throw contextExceededError({ contextLength, trainedContext, length: keep, added: added.length, maxNew: 0 });
  }
  const report = (phase: 'prefill' | 'index', tokensDone: number) => {
    const tokensPerSecond = (tokensDone / (performance.now() - startedAt)) * 1000;
    options.onProgress?.({ phase, tokensDone, tokensTotal: added.length, tokensPerSecond });
  };
  sequence.truncate(keep);
  try {
    sequence.push(added);
    const onStored = (done: number) => report('prefill', Math.min(done, added.length));
    const isFirst = keep === 0 && buildIndex;
    const prompt = isFirst && prefixes !== null ? await sequence.storePrompt(operation, prefixes, onStored) : null;
    const numStored = prompt === null ? await sequence.store(operation, onStored) : 0;
    const prefillMs = performance.now() - startedAt;
    report('prefill', added.length);
    const state = { sequence: sequence.native, selector: sequence.selector };
    const isDue = prompt?.buildsEnd ?? (buildIndex && shouldBuildAfterPrefill(state, numStored));
    if (isDue) report('index', added.length);
    const index = isDue ? await sequence.buildIndex(operation) : null;
    const tokensPerSecond = (added.length / prefillMs) * 1000;
    const numCachedTokens = prompt?.numCached ?? 0;
    return { result: { numTokens: added.length, numCachedTokens, prefillMs, tokensPerSecond, index }, conversation };
  } catch (error) {
    if (!isClosing()) sequence.truncate(keep);
    throw error;
  }
}
