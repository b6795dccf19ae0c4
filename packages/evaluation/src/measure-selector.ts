/** One selector against the dense reference, from a prefilled state, with an index built for this measurement. */
import { checkOptions, type OptionChecks, type SelectorMethod, takes } from '@ctkvr/core';
import { groupSizeOf, type Model, type SelectorChoice, type Session } from '@ctkvr/model-runner';
import type { DenseReference } from './dense-reference.js';
import { measureSteps, type StepsMeasure } from './measure-steps.js';
import { significant } from './significant.js';

export interface SelectorMeasure extends StepsMeasure {
  /** 0 for selectors without an index. */
  readonly indexBuildMs: number;
  /** The recent queries from which centroids are made count, also where no index is built from them. */
  readonly indexBytes: number;
}

export interface MeasureInput {
  readonly model: Model;
  /** Holds the prompt, or the part of it before `question`; left as it is. */
  readonly base: Session;
  /** Tokens of the prompt that are read after the index was built; empty when `base` holds all. */
  readonly question: Int32Array;
  readonly selector: SelectorChoice;
  readonly reference: DenseReference;
  readonly signal: AbortSignal;
  readonly onStep?: (step: number, numSteps: number) => void;
}

const inputChecks: OptionChecks<MeasureInput> = {
  model: takes.object,
  base: takes.object,
  question: takes.int32,
  selector: takes.object,
  reference: takes.object,
  signal: takes.abortSignal,
  onStep: takes.optional(takes.func),
};

/** @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED, CTKVR_INVALID_OPTION. */
export async function measureSelector(input: MeasureInput): Promise<SelectorMeasure> {
  checkOptions('measureSelector', input, inputChecks);
  const { model, base, question, selector, reference, signal, onStep } = input;
  await using session = base.fork();
  session.setSelector(selector);
  const index = await buildMeasured(session, signal);
  if (question.length > 0) await session.prefill(question, { buildIndex: false, signal });
  const groupSize = groupSizeOf(model.info);
  return { ...(await measureSteps({ session, reference, groupSize, signal, onStep })), ...index };
}

/** Their build only sets the region. */
const withoutIndex: readonly SelectorMethod[] = ['full', 'exactTopK', 'streaming'];

/** Builds a session's index; tells what it took and how large it is. */
async function buildMeasured(
  session: Session,
  signal: AbortSignal,
): Promise<Pick<SelectorMeasure, 'indexBuildMs' | 'indexBytes'>> {
  const { buildMs } = await session.buildIndex({ signal });
  const { indexBytes } = session.memory;
  return { indexBuildMs: withoutIndex.includes(session.selector.method) ? 0 : significant(buildMs), indexBytes };
}
