/**
 * A real, small engine for the composer's tests: its sequences store tokens, its "model" predicts from every stored token, it refuses
 * what an engine must refuse, and a failed or cancelled step leaves every sequence as it was. Steps end when the test lets them.
 */
import { CtkvrError } from '@ctkvr/core';
import type { EngineSequence, EngineStepResult, StepEngine, StepEntry, StepPhase } from '../src/index.js';

/** Tokens below this are known; others make their step fail, as an id beyond the vocabulary would. */
export const VOCAB_SIZE = 1000;

export class CountingSequence implements EngineSequence {
  readonly tokens: number[] = [];
  readonly maxTokens: number;

  constructor(maxTokens = 10_000) {
    this.maxTokens = maxTokens;
  }

  get length(): number {
    return this.tokens.length;
  }

  truncate(length: number): void {
    if (length > this.tokens.length) throw new Error(`cannot truncate ${this.tokens.length} tokens to ${length}`);
    this.tokens.length = length;
  }

  /** Depends on every token and on their order. */
  predict(): number {
    return this.tokens.reduce((state, token, position) => (state * 31 + token + position) % 997, 7);
  }
}

type Plan = readonly StepEntry<CountingSequence>[];

export class CountingEngine implements StepEngine<CountingSequence> {
  /** Entries of every step that was asked for: tokens and phase per entry, in order. */
  readonly plans: { readonly sequence: CountingSequence; readonly numTokens: number; readonly phase: StepPhase }[][] =
    [];
  numCancelled = 0;
  /** Runs in the middle of each step: the place where a test makes something happen during it. */
  duringStep: (stepIndex: number) => void | Promise<void> = () => {};
  #running = false;
  #cancelled = false;

  async step(plan: Plan): Promise<EngineStepResult> {
    if (this.#running) throw new CtkvrError('CTKVR_BUSY', 'a step runs');
    this.#running = true;
    this.#cancelled = false;
    this.plans.push(plan.map(({ sequence, tokens, phase }) => ({ sequence, numTokens: tokens.length, phase })));
    try {
      await this.duringStep(this.plans.length - 1);
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#cancelled) throw new CtkvrError('CTKVR_ABORTED', 'cancelled');
      for (const entry of plan) check(entry);
      return { sequences: plan.map(append), timings };
    } finally {
      this.#running = false;
    }
  }

  /** Work that must not meet a step, as an index build. */
  async exclusive<T>(result: T): Promise<T> {
    if (this.#running) throw new CtkvrError('CTKVR_BUSY', 'a step runs');
    this.#running = true;
    this.#cancelled = false;
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
    this.#running = false;
    if (this.#cancelled) throw new CtkvrError('CTKVR_ABORTED', 'cancelled');
    return result;
  }

  cancel(): void {
    if (!this.#running) return;
    this.#cancelled = true;
    this.numCancelled += 1;
  }
}

const timings = { totalMs: 2, linearMs: 1, retrievalMs: 0, attentionMs: 1, samplingMs: 0, indexMs: 0 };

function check({ sequence, tokens, phase }: StepEntry<CountingSequence>): void {
  if (sequence.length + tokens.length > sequence.maxTokens) {
    throw new CtkvrError('CTKVR_CONTEXT_EXCEEDED', 'too long');
  }
  if (phase === 'decode' && tokens.length !== 1) throw new CtkvrError('CTKVR_INVALID_OPTION', 'a decode has one token');
  for (const token of tokens) {
    if (token >= VOCAB_SIZE) throw new CtkvrError('CTKVR_INVALID_OPTION', `no token ${token}`);
  }
}

function append({ sequence, tokens, output }: StepEntry<CountingSequence>) {
  sequence.tokens.push(...tokens);
  const wantsToken = output === 'sample' || output === 'sampleAndLogits';
  return { tokenId: wantsToken ? sequence.predict() : null, logits: null, counters: null, readMap: null };
}
