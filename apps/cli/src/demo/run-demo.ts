/** The demo: one fact hidden in some 7,000 tokens, asked for three times over one prefill. */
import { randomInt } from 'node:crypto';
import type { Model, PrefillProgress, SelectorChoice, Session } from '@ctkvr/model-runner';
import { AnswerMeter, type AnswerStatistics } from '../answer-statistics.js';
import { denseReference } from '../fidelity/dense-reference.js';
import { type FittedPrompt, fitPrompt } from '../fidelity/fit-prompt.js';
import { measureSelector, type SelectorMeasure } from '../fidelity/measure-selector.js';
import { hideFact } from './hide-fact.js';
import { lighthouseFact, namesNumber, QUESTION } from './lighthouse.js';

/** With the answer it stays within the 8,192 tokens of the default model. */
const PROMPT_TOKENS = 7000;
const MAX_ANSWER_TOKENS = 40;
/** Steps over which the distributions are compared. */
const COMPARED_STEPS = 16;

export const demoSelectors: readonly {
  readonly name: string;
  readonly what: string;
  readonly choice: SelectorChoice;
}[] = [
  { name: 'dense', what: 'reads every key', choice: { selector: 'full' } },
  { name: 'CTkvr', what: 'reads what its index finds', choice: { preset: 'balanced' } },
  {
    name: 'window only',
    what: 'reads the first and the last tokens',
    choice: { selector: 'streaming', denseBelow: 0 },
  },
];

export interface DemoTask {
  readonly prompt: FittedPrompt;
  readonly number: number;
  /** Token of the prompt at which the fact begins. */
  readonly factAt: number;
}

export interface DemoAnswer {
  readonly name: string;
  readonly what: string;
  readonly text: string;
  readonly found: boolean;
  readonly statistics: AnswerStatistics;
  readonly measure: SelectorMeasure;
}

/** Draws a number and a depth and returns the prompt. */
export async function makeTask(model: Model, book: string): Promise<DemoTask> {
  const number = randomInt(100_000, 1_000_000);
  const depth = randomInt(20, 80) / 100;
  const fact = lighthouseFact(number);
  // The prompt is cut to size at its end: the fact goes into what remains.
  const plain = await fitPrompt({
    model,
    text: book,
    question: QUESTION,
    numTokens: PROMPT_TOKENS - (await model.tokenize(`\n\n${fact}`)).length,
  });
  const hidden = hideFact(plain.document, fact, depth);
  const prompt = await fitPrompt({ model, text: hidden.text, question: QUESTION, numTokens: PROMPT_TOKENS });
  return { prompt, number, factAt: (await model.tokenize(hidden.text.slice(0, hidden.at))).length };
}

/** Reads the prompt once. The caller closes the session. */
export async function readTask(
  model: Model,
  task: DemoTask,
  options: { readonly signal: AbortSignal; readonly onProgress: (progress: PrefillProgress) => void },
): Promise<{ readonly session: Session; readonly prefillMs: number }> {
  const contextLength = task.prompt.tokens.length + Math.max(MAX_ANSWER_TOKENS, COMPARED_STEPS);
  const session = model.createSession({ contextLength, selector: { selector: 'full' } });
  const { prefillMs } = await session.prefill(task.prompt.tokens, { ...options, buildIndex: false });
  return { session, prefillMs };
}

/** Asks with each selector in turn, from the same state. */
export async function* askThrice(input: {
  readonly model: Model;
  readonly task: DemoTask;
  readonly base: Session;
  readonly prefillMs: number;
  readonly signal: AbortSignal;
}): AsyncGenerator<DemoAnswer, void, undefined> {
  const { model, task, base, prefillMs, signal } = input;
  const reference = await denseReference({ model, base, numSteps: COMPARED_STEPS, signal });
  for (const { name, what, choice } of demoSelectors) {
    const { text, statistics } = await answer();
    const measure = await measureSelector({
      model,
      base,
      question: new Int32Array(),
      selector: choice,
      reference,
      signal,
    });
    yield { name, what, text, found: namesNumber(text, task.number), statistics, measure };

    async function answer(): Promise<{ text: string; statistics: AnswerStatistics }> {
      await using session = base.fork();
      session.setSelector(choice);
      const meter = new AnswerMeter(model.info.numQueryHeads / model.info.numKvHeads);
      await session.buildIndex({ signal });
      let text = '';
      for await (const event of session.generate({
        maxTokens: MAX_ANSWER_TOKENS,
        sampling: { temperature: 0 },
        signal,
      })) {
        meter.token(event.statistics.counters);
        text += event.text;
      }
      const own = meter.statistics(task.prompt.tokens.length);
      const timeToFirstTokenMs = own.timeToFirstTokenMs === null ? null : prefillMs + own.timeToFirstTokenMs;
      return { text: text.trim(), statistics: { ...own, timeToFirstTokenMs } };
    }
  }
}
