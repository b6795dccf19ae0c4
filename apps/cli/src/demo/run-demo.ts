/** The demo: one fact hidden in some 7,000 tokens, asked for three times over one prefill. */
import { denseReference, measureSelector, type SelectorMeasure } from '@ctkvr/evaluation';
import type { Model, PrefillProgress, SelectorChoice, Session } from '@ctkvr/model-runner';
import type { AnswerStatistics } from '../answer-statistics.js';
import { drawNeedle } from '../needles/draw-needle.js';
import { greedyAnswer, MAX_ANSWER_TOKENS } from '../needles/greedy-answer.js';
import { namesNumber } from '../needles/lighthouse.js';
import { needlePrompt } from '../needles/needle-prompt.js';

/** With the answer it stays within the 8,192 tokens of the default model. */
const PROMPT_TOKENS = 7000;
/** Steps over which the distributions are compared. */
const COMPARED_STEPS = 16;

export const demoSelectors: readonly {
  readonly name: string;
  readonly what: string;
  readonly choice: SelectorChoice;
}[] = [
  { name: 'dense', what: 'reads every key', choice: { method: 'full' } },
  { name: 'CTkvr', what: 'reads what its index finds', choice: { preset: 'balanced' } },
  {
    name: 'window only',
    what: 'reads the first and the last tokens',
    choice: { method: 'streaming', denseBelow: 0 },
  },
];

export interface DemoAnswer {
  readonly name: string;
  readonly what: string;
  readonly text: string;
  readonly found: boolean;
  readonly statistics: AnswerStatistics;
  readonly measure: SelectorMeasure;
}

export interface DemoTask {
  readonly number: number;
  /** Token of the text at which the fact begins. */
  readonly factAt: number;
  /** The whole prompt. */
  readonly tokens: Int32Array;
}

/** Draws a number and a depth from `seed`, others for each `draw`, and returns the prompt. */
export async function makeTask(input: {
  readonly model: Model;
  readonly book: string;
  readonly seed: number;
  readonly draw: number;
}): Promise<DemoTask> {
  const { model, book, seed, draw } = input;
  const prompt = await needlePrompt({
    model,
    text: book,
    numTokens: PROMPT_TOKENS,
    needles: [drawNeedle(seed, draw)],
  });
  const { number, factAt, question } = prompt.needles[0]!;
  return { number, factAt, tokens: Int32Array.from([...prompt.document, ...question]) };
}

/** Reads the prompt once. The caller closes the session. */
export async function readTask(
  model: Model,
  task: DemoTask,
  options: { readonly signal: AbortSignal; readonly onProgress: (progress: PrefillProgress) => void },
): Promise<{ readonly session: Session; readonly prefillMs: number }> {
  const contextLength = task.tokens.length + Math.max(MAX_ANSWER_TOKENS, COMPARED_STEPS);
  const session = model.createSession({ contextLength, selector: { method: 'full' } });
  const { prefillMs } = await session.prefill(task.tokens, { ...options, buildIndex: false });
  return { session, prefillMs };
}

/** Asks with each selector in turn, from the same state. */
export async function* askThrice(input: {
  readonly model: Model;
  readonly task: DemoTask;
  readonly base: Session;
  readonly prefillMs: number;
  /** Told what begins. */
  readonly onStage: (label: string) => void;
  readonly signal: AbortSignal;
}): AsyncGenerator<DemoAnswer, void, undefined> {
  const { model, task, base, prefillMs, onStage, signal } = input;
  onStage('answering densely, for the comparison');
  const reference = await denseReference({ model, base, numSteps: COMPARED_STEPS, signal });
  for (const { name, what, choice } of demoSelectors) {
    onStage(`asking: ${name}`);
    const { text, statistics: own } = await greedyAnswer({ model, base, choice, signal });
    const timeToFirstTokenMs = own.timeToFirstTokenMs === null ? null : prefillMs + own.timeToFirstTokenMs;
    const statistics = { ...own, timeToFirstTokenMs };
    const measure = await measureSelector({
      model,
      base,
      question: new Int32Array(),
      selector: choice,
      reference,
      signal,
    });
    yield { name, what, text, found: namesNumber(text, task.number), statistics, measure };
  }
}
