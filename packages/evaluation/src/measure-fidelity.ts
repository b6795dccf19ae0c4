/** One prefill, one dense decode, then every selector on the same tokens. */
import { checkOptions, type KvFormat, kvFormats, type OptionChecks, takes } from '@ctkvr/core';
import type { Model, PrefillProgress, Session } from '@ctkvr/model-runner';
import { type Contender, numCentroidsOf } from './contender.js';
import { denseReference } from './dense-reference.js';
import type { FittedPrompt } from './fit-prompt.js';
import { measureSelector, type SelectorMeasure } from './measure-selector.js';
import { significant } from './significant.js';

export interface FidelityInput {
  readonly model: Model;
  readonly prompt: FittedPrompt;
  readonly numSteps: number;
  readonly contenders: readonly Contender[];
  /**
   * How the contenders' session stores keys and values; default 'f16'. The reference is always dense attention over f16: another format
   * has a prefill of its own, and `full` then shows what it costs alone.
   */
  readonly kvFormat?: KvFormat;
  /** Build each index over the document alone; the question is read afterwards. */
  readonly indexBeforeQuestion: boolean;
  readonly signal: AbortSignal;
  readonly onPrefill?: (progress: PrefillProgress) => void;
  readonly onStep?: (what: string, step: number, numSteps: number) => void;
}

const inputChecks: OptionChecks<FidelityInput> = {
  model: takes.object,
  prompt: takes.object,
  numSteps: takes.integer(1, 0x7fff_ffff),
  contenders: takes.list,
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  indexBeforeQuestion: takes.boolean,
  signal: takes.abortSignal,
  onPrefill: takes.optional(takes.func),
  onStep: takes.optional(takes.func),
};

export interface FidelityMeasure {
  /** Of the contenders' session. */
  readonly prefillMs: number;
  /** Of its keys and values, all of the prompt and the room that its pages have beyond. */
  readonly kvBytes: number;
  /** Of `ctkvr`, else of the first selector that has an index; null when none has. */
  readonly indexBuildMs: number | null;
  readonly selectors: readonly ({ readonly selector: string } & SelectorMeasure)[];
}

/** @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED. */
export async function measureFidelity(input: FidelityInput): Promise<FidelityMeasure> {
  checkOptions('measureFidelity', input, inputChecks);
  const { model, prompt, numSteps, contenders, kvFormat = 'f16', signal, onStep } = input;
  const split = input.indexBeforeQuestion ? prompt.numDocumentTokens : prompt.tokens.length;
  const question = prompt.tokens.subarray(split);
  const create = (format: KvFormat) =>
    model.createSession({
      contextLength: prompt.tokens.length + numSteps,
      kvFormat: format,
      selector: { method: 'full', denseBelow: 0, numCentroids: numCentroidsOf(contenders) },
    });
  const read = (session: Session) =>
    session.prefill(prompt.tokens.subarray(0, split), { signal, onProgress: input.onPrefill, buildIndex: false });
  await using dense = create('f16');
  const densePrefill = await read(dense);
  await using own = kvFormat === 'f16' ? null : create(kvFormat);
  const { prefillMs } = own === null ? densePrefill : await read(own);
  const base = own ?? dense;
  const { kvBytes } = base.memory;
  // Stays open: a long reference decodes on it again for each selector.
  await using asked = dense.fork();
  if (question.length > 0) await asked.prefill(question, { signal, buildIndex: false });
  const onDenseStep = (step: number) => onStep?.('dense', step, numSteps);
  const reference = await denseReference({ model, base: asked, numSteps, signal, onStep: onDenseStep });
  const selectors: ({ selector: string } & SelectorMeasure)[] = [];
  for (const { label, choice } of contenders) {
    const measure = await measureSelector({
      model,
      base,
      question,
      selector: choice,
      reference,
      signal,
      onStep: (step, of) => onStep?.(label, step, of),
    });
    selectors.push({ selector: label, ...measure });
  }
  const indexed = selectors.filter((measure) => measure.indexBuildMs > 0);
  const indexBuildMs = (indexed.find(({ selector }) => selector === 'ctkvr') ?? indexed[0])?.indexBuildMs ?? null;
  return { prefillMs: significant(prefillMs), kvBytes, indexBuildMs, selectors };
}
