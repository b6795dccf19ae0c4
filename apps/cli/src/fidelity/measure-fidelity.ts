/** The whole measurement behind `ctkvr fidelity`: one prefill, one dense decode, then every selector on the same tokens. */
import type { Model, PrefillProgress } from '@ctkvr/model-runner';
import { significant } from '../format.js';
import { denseReference } from './dense-reference.js';
import type { FidelityContender } from './fidelity-selectors.js';
import type { FittedPrompt } from './fit-prompt.js';
import { measureSelector, type SelectorMeasure } from './measure-selector.js';

export interface FidelityInput {
  readonly model: Model;
  readonly prompt: FittedPrompt;
  readonly numSteps: number;
  readonly contenders: readonly FidelityContender[];
  /** Build each index over the document alone; the question is read afterwards. */
  readonly indexBeforeQuestion: boolean;
  readonly signal: AbortSignal;
  readonly onPrefill?: (progress: PrefillProgress) => void;
  readonly onStep?: (what: string, step: number, numSteps: number) => void;
}

export interface FidelityMeasure {
  readonly prefillMs: number;
  /** Of `ctkvr`, else of the first selector that has an index; null when none has. */
  readonly indexBuildMs: number | null;
  readonly selectors: readonly ({ readonly selector: string } & SelectorMeasure)[];
}

/** @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED. */
export async function measureFidelity(input: FidelityInput): Promise<FidelityMeasure> {
  const { model, prompt, numSteps, signal, onStep } = input;
  const split = input.indexBeforeQuestion ? prompt.numDocumentTokens : prompt.tokens.length;
  const question = prompt.tokens.subarray(split);
  await using base = model.createSession({
    contextLength: prompt.tokens.length + numSteps,
    selector: { selector: 'full', denseBelow: 0 },
  });
  const { prefillMs } = await base.prefill(prompt.tokens.subarray(0, split), {
    signal,
    onProgress: input.onPrefill,
    buildIndex: false,
  });
  const reference = await (async () => {
    await using asked = base.fork();
    if (question.length > 0) await asked.prefill(question, { signal, buildIndex: false });
    return await denseReference({
      model,
      base: asked,
      numSteps,
      signal,
      onStep: (step) => onStep?.('dense', step, numSteps),
    });
  })();
  const selectors: ({ selector: string } & SelectorMeasure)[] = [];
  for (const { label, choice } of input.contenders) {
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
  return { prefillMs: significant(prefillMs), indexBuildMs, selectors };
}
