/**
 * Turns requests of several sequences into engine steps, one at a time. Each request is tokens to append to one sequence; the composer
 * decides what shares a step (compose-step.ts), gives every caller its result, and keeps callers apart: what one of them aborts or
 * gets wrong does not touch the work of another.
 */
import { CtkvrError, checkInteger, checkOptions, type OptionChecks, takes, UNBOUNDED } from '@ctkvr/core';
import { type ComposeLimits, composeStep, type Share } from './compose-step.js';
import { isDeviceLost } from './device-lost.js';
import type { EngineSequence, EngineStepResult, StepEngine, StepMeasures } from './step-engine.js';
import { type RequestResult, StepRequest, type StepRequestOptions } from './step-request.js';
import { type StepLoad, StepTimes } from './step-times.js';

export interface StepComposerOptions extends Partial<ComposeLimits> {
  /** Called once, when the engine says CTKVR_DEVICE_LOST: from then on nothing runs, and all that waits or comes is rejected with this error. */
  readonly onLost?: ((error: CtkvrError) => void) | undefined;
}

const optionChecks: OptionChecks<StepComposerOptions> = {
  prefillChunk: takes.anything,
  prefillChunkBesideDecode: takes.anything,
  decodeSlowdown: takes.anything,
  onLost: takes.optional(takes.func),
};
const appendChecks: OptionChecks<StepRequestOptions> = {
  phase: takes.oneOf(['prefill', 'decode']),
  output: takes.optional(takes.oneOf(['none', 'sample', 'logits', 'sampleAndLogits'])),
  audit: takes.optional(takes.boolean),
  readMap: takes.optional(takes.boolean),
  signal: takes.optional(takes.abortSignal),
  onProgress: takes.optional(takes.func),
};
const exclusiveChecks = { signal: takes.optional(takes.abortSignal) };

const defaultLimits: ComposeLimits = { prefillChunk: 512, prefillChunkBesideDecode: 128, decodeSlowdown: 3 };

/** Work that must have the engine to itself, such as building an index. */
interface ExclusiveWork {
  readonly run: () => Promise<void>;
  readonly fail: (error: unknown) => void;
  readonly signal: AbortSignal | undefined;
}

export class StepComposer<Sequence extends EngineSequence> {
  readonly #engine: StepEngine<Sequence>;
  readonly #limits: ComposeLimits;
  readonly #times = new StepTimes();
  /** Waiting or running, in order of arrival. */
  #decodes: StepRequest<Sequence>[] = [];
  /** Waiting or running, in the order in which they get their next chunk. */
  #prefills: StepRequest<Sequence>[] = [];
  #exclusive: ExclusiveWork[] = [];
  /** Requests of the step that runs now. */
  #running: ReadonlySet<StepRequest<Sequence>> = new Set();
  #runningExclusive: ExclusiveWork | null = null;
  #decodedLately = false;
  #stepsSinceExclusive = 0;
  #loop: Promise<void> | null = null;
  #closed = false;
  /** What the engine said when its device was lost. */
  #lost: CtkvrError | null = null;
  readonly #onLost: (error: CtkvrError) => void;

  constructor(engine: StepEngine<Sequence>, options: StepComposerOptions = {}) {
    checkOptions('StepComposer', options, optionChecks);
    this.#engine = engine;
    const { onLost = () => {}, ...limits } = options;
    this.#onLost = onLost;
    this.#limits = { ...defaultLimits, ...limits };
    for (const name of ['prefillChunk', 'prefillChunkBesideDecode'] as const) {
      checkInteger(this.#limits[name], { op: 'StepComposer', name, min: 1, max: UNBOUNDED });
    }
    const { decodeSlowdown } = this.#limits;
    if (!(Number.isFinite(decodeSlowdown) && decodeSlowdown > 1)) {
      throw new CtkvrError('CTKVR_INVALID_OPTION', `decodeSlowdown must be a number above 1, got ${decodeSlowdown}`, {
        fields: { option: 'decodeSlowdown', expected: 'a number above 1', actual: String(decodeSlowdown) },
      });
    }
  }

  /**
   * Appends tokens to a sequence: one that decodes, or any number that are prefilled and may take several steps. Resolves with what the
   * last token gave. When it rejects, the sequence is as it was before the request.
   * @param tokens token ids; copied.
   * @throws {CtkvrError} CTKVR_ABORTED by the signal, CTKVR_CLOSED after close(), CTKVR_BUSY when the sequence has a request already,
   * CTKVR_INVALID_OPTION for no tokens, or a decode of several; CTKVR_DEVICE_LOST once the engine has said so; and what the engine's step
   * rejects with.
   */
  async append(sequence: Sequence, tokens: ArrayLike<number>, options: StepRequestOptions): Promise<RequestResult> {
    this.#checkOpen();
    checkOptions('StepComposer.append', options, appendChecks);
    if (tokens.length === 0) {
      throw new CtkvrError('CTKVR_INVALID_OPTION', 'a step needs at least one token, got none', {
        fields: { option: 'tokens', actual: 0 },
      });
    }
    if (options.phase === 'decode' && tokens.length > 1) {
      throw new CtkvrError('CTKVR_INVALID_OPTION', `a decode has one token, got ${tokens.length}`, {
        fields: { option: 'tokens', expected: 1, actual: tokens.length },
      });
    }
    if ([...this.#decodes, ...this.#prefills].some((request) => request.sequence === sequence)) {
      throw new CtkvrError(
        'CTKVR_BUSY',
        'this sequence already has a request in the composer; wait for it or abort it',
      );
    }
    if (options.signal?.aborted) throw abortedError(options.signal);
    const request = new StepRequest(sequence, Int32Array.from(tokens), options);
    const onAbort = () => this.#abort(request, abortedError(options.signal));
    options.signal?.addEventListener('abort', onAbort, { once: true });
    (request.isDecode ? this.#decodes : this.#prefills).push(request);
    this.#start();
    try {
      return await request.promise;
    } finally {
      options.signal?.removeEventListener('abort', onAbort);
    }
  }

  /**
   * Runs `work` between two steps, with the engine to itself, and returns what it returns. An abort cancels the engine's running work.
   * @throws {CtkvrError} CTKVR_ABORTED, CTKVR_CLOSED, CTKVR_DEVICE_LOST; and what `work` rejects with.
   */
  async runExclusive<T>(
    work: () => Promise<T>,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    this.#checkOpen();
    checkOptions('StepComposer.runExclusive', options, exclusiveChecks);
    const { signal } = options;
    if (signal?.aborted) throw abortedError(signal);
    let entry!: ExclusiveWork;
    const done = new Promise<T>((resolve, reject) => {
      entry = { run: async () => resolve(await work()), fail: reject, signal };
    });
    const onAbort = () => this.#abortExclusive(entry, abortedError(signal));
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#exclusive.push(entry);
    this.#start();
    try {
      return await done;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Rejects what waits or runs with CTKVR_CLOSED; resolves when the engine has nothing of ours any more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const error = closedError();
    for (const entry of [...this.#exclusive]) this.#abortExclusive(entry, error);
    for (const request of [...this.#decodes, ...this.#prefills]) this.#abort(request, error);
    if (this.#runningExclusive !== null) this.#engine.cancel();
    await this.#loop;
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError();
    if (this.#lost !== null) throw this.#lost;
  }

  /** Ends a waiting request now; a running one when its step ends, or at once if nobody else needs the step. */
  #abort(request: StepRequest<Sequence>, error: CtkvrError): void {
    request.abortError = error;
    if (!this.#running.has(request)) {
      this.#remove(request);
      request.fail(error);
    } else if ([...this.#running].every((other) => other.abortError !== null)) {
      this.#engine.cancel();
    }
  }

  #abortExclusive(entry: ExclusiveWork, error: CtkvrError): void {
    if (this.#runningExclusive === entry) {
      this.#engine.cancel();
      return;
    }
    this.#exclusive = this.#exclusive.filter((other) => other !== entry);
    entry.fail(error);
  }

  #start(): void {
    this.#loop ??= this.#run();
  }

  /** Runs until nothing waits. */
  async #run(): Promise<void> {
    for (;;) {
      // Callers whose token has just arrived get their turn to ask for the next one, and timers and sockets get theirs.
      await new Promise((resolve) => setImmediate(resolve));
      const shares = this.#compose();
      if (this.#exclusive.length > 0 && (shares.length === 0 || this.#stepsSinceExclusive > 0)) {
        await this.#runNextExclusive();
      } else if (shares.length > 0) {
        await this.#runStep(shares);
      } else {
        this.#loop = null; // now, not when the promise settles: a request that comes in between must start a new loop
        return;
      }
    }
  }

  #compose(): Share<Sequence>[] {
    return composeStep({
      decodes: this.#decodes,
      prefills: this.#prefills,
      decodedLately: this.#decodedLately,
      times: this.#times,
      limits: this.#limits,
    });
  }

  async #runNextExclusive(): Promise<void> {
    const entry = this.#exclusive.shift();
    if (entry === undefined) return;
    this.#stepsSinceExclusive = 0;
    this.#runningExclusive = entry;
    try {
      await entry.run();
    } catch (error) {
      if (isDeviceLost(error)) this.#lose(error);
      entry.fail(this.#closed ? closedError() : entry.signal?.aborted ? abortedError(entry.signal) : error);
    } finally {
      this.#runningExclusive = null;
    }
  }

  async #runStep(shares: readonly Share<Sequence>[]): Promise<void> {
    this.#stepsSinceExclusive += 1;
    this.#running = new Set(shares.map((share) => share.request));
    const outcome = await this.#engineStep(shares);
    this.#running = new Set();
    this.#decodedLately = shares.some((share) => share.request.isDecode);
    if ('error' in outcome) this.#onStepFailed(shares, outcome.error);
    else {
      this.#times.observe(loadOf(shares, outcome));
      this.#onStepDone(shares, outcome);
    }
  }

  async #engineStep(shares: readonly Share<Sequence>[]): Promise<EngineStepResult | { readonly error: unknown }> {
    const plan = shares.map(({ request, numTokens }) => ({
      sequence: request.sequence,
      tokens: request.tokens.subarray(request.tokensDone, request.tokensDone + numTokens),
      phase: request.options.phase,
      output: numTokens === request.tokensLeft ? (request.options.output ?? 'none') : ('none' as const),
    }));
    try {
      const isWanted = (measure: keyof StepMeasures) => shares.some(({ request }) => request.options[measure] === true);
      return await this.#engine.step(plan, { audit: isWanted('audit'), readMap: isWanted('readMap') });
    } catch (error) {
      return { error };
    }
  }

  #onStepDone(shares: readonly Share<Sequence>[], step: EngineStepResult): void {
    shares.forEach(({ request, numTokens }, index) => {
      const output = step.sequences[index];
      if (request.abortError !== null || output === undefined) {
        this.#remove(request);
        request.fail(
          request.abortError ?? new CtkvrError('CTKVR_INTERNAL', 'the engine gave fewer results than entries'),
        );
        return;
      }
      request.mustRunAlone = false;
      try {
        this.#remove(request);
        const finished = request.advance(numTokens, output, step);
        // To the end of the queue, unless onProgress has aborted it.
        if (!finished && request.abortError === null) this.#prefills.push(request);
      } catch (error) {
        request.fail(error); // onProgress threw
      }
    });
  }

  /** The engine has put every sequence back. A shared step is tried again one request at a time, so that only the one at fault fails. */
  #onStepFailed(shares: readonly Share<Sequence>[], error: unknown): void {
    if (isDeviceLost(error)) {
      this.#lose(error);
      return;
    }
    for (const { request } of shares) {
      if (request.abortError !== null || shares.length === 1) {
        this.#remove(request);
        request.fail(request.abortError ?? error);
      } else {
        request.mustRunAlone = true;
      }
    }
  }

  /** Nobody gains by a second try: what was on the device is gone. */
  #lose(error: CtkvrError): void {
    if (this.#lost !== null) return;
    this.#lost = error;
    const [requests, works] = [[...this.#decodes, ...this.#prefills], this.#exclusive];
    [this.#decodes, this.#prefills, this.#exclusive] = [[], [], []];
    for (const request of requests) request.fail(request.abortError ?? error);
    for (const work of works) work.fail(error);
    this.#onLost(error);
  }

  #remove(request: StepRequest<Sequence>): void {
    this.#decodes = this.#decodes.filter((other) => other !== request);
    this.#prefills = this.#prefills.filter((other) => other !== request);
  }
}

function loadOf<Sequence extends EngineSequence>(shares: readonly Share<Sequence>[], step: EngineStepResult): StepLoad {
  const prefilled = shares.filter(({ request }) => !request.isDecode);
  return {
    numDecodes: shares.length - prefilled.length,
    numPrefillTokens: prefilled.reduce((sum, { numTokens }) => sum + numTokens, 0),
    totalMs: step.timings.totalMs - step.timings.indexMs,
  };
}

function abortedError(signal: AbortSignal | undefined): CtkvrError {
  if (CtkvrError.isInstance(signal?.reason)) return signal.reason;
  return new CtkvrError('CTKVR_ABORTED', 'the operation was cancelled', { cause: signal?.reason });
}

function closedError(): CtkvrError {
  return new CtkvrError('CTKVR_CLOSED', 'the model was closed while this work waited or ran; load it again to go on');
}
