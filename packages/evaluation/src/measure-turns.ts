/**
 * Questions asked one after another over one document. Dense attention answers each, and its answers are the history of every session; a
 * selector's session lives through all turns and keeps its index up to date as it does for users. Beside it, each question is asked of an
 * index built at the end of the same history: what the turns before have cost shows in the difference.
 */
import { checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import {
  commonPrefixLength,
  documentTurn,
  groupSizeOf,
  type Model,
  type PrefillProgress,
  type Session,
} from '@ctkvr/model-runner';
import { type Contender, numCentroidsOf } from './contender.js';
import { type DenseReference, denseReference } from './dense-reference.js';
import type { FittedPrompt } from './fit-prompt.js';
import { measureSelector, type SelectorMeasure } from './measure-selector.js';
import { measureSteps, type StepsMeasure } from './measure-steps.js';
import { significant } from './significant.js';

/** Room for the template's words around a turn. */
const TEMPLATE_TOKENS = 64;

export interface TurnsInput {
  readonly model: Model;
  /** Document and first question. */
  readonly prompt: FittedPrompt;
  /** At least one; `prompt` was made with the first. */
  readonly questions: readonly string[];
  /** Tokens of each answer. */
  readonly numSteps: number;
  readonly contenders: readonly Contender[];
  readonly signal: AbortSignal;
  readonly onPrefill?: (progress: PrefillProgress) => void;
  readonly onStep?: (what: string, step: number, numSteps: number) => void;
}

const inputChecks: OptionChecks<TurnsInput> = {
  model: takes.object,
  prompt: takes.object,
  questions: takes.list,
  numSteps: takes.integer(1, 0x7fff_ffff),
  contenders: takes.list,
  signal: takes.abortSignal,
  onPrefill: takes.optional(takes.func),
  onStep: takes.optional(takes.func),
};

export interface TurnsMeasure {
  readonly prefillMs: number;
  readonly turns: readonly {
    readonly question: string;
    /** Dense attention's answer, cut at `numSteps` tokens. */
    readonly answer: string;
    /** Tokens before the answer. */
    readonly tokens: number;
    readonly selectors: readonly TurnMeasure[];
  }[];
}

export interface TurnMeasure {
  readonly selector: string;
  /** In the session that lived through the turns before. `questionMs`: wall clock of reading the question, the index included. */
  readonly inTurn: StepsMeasure & { readonly questionMs: number; readonly indexBytes: number };
  /** On the same tokens, with an index built after the question. */
  readonly atEnd: SelectorMeasure;
}

interface AskedTurn {
  readonly question: string;
  readonly answer: string;
  /** The whole conversation up to the answer. */
  readonly tokens: Int32Array;
  /** Holds `tokens`; dense. */
  readonly asked: Session;
  readonly reference: DenseReference;
}

/** @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED, CTKVR_INVALID_OPTION. */
export async function measureTurns(input: TurnsInput): Promise<TurnsMeasure> {
  checkOptions('measureTurns', input, inputChecks);
  const { model, prompt, contenders, signal } = input;
  await using base = model.createSession({
    contextLength: prompt.tokens.length + (await turnsLength(input)),
    selector: { method: 'full', denseBelow: 0, numCentroids: numCentroidsOf(contenders) },
  });
  const document = prompt.tokens.subarray(0, prompt.numDocumentTokens);
  const { prefillMs } = await base.prefill(document, { signal, onProgress: input.onPrefill, buildIndex: false });
  const turns: AskedTurn[] = [];
  try {
    await askDense(input, base, turns);
    const selectors = await followTurns(input, base, turns);
    return {
      prefillMs: significant(prefillMs),
      turns: turns.map(({ question, answer, tokens }, turn) => ({
        question,
        answer,
        tokens: tokens.length,
        selectors: selectors[turn]!,
      })),
    };
  } finally {
    await Promise.all(turns.map(({ asked }) => asked.close()));
  }
}

/** Every contender on every turn. Returns the measures by turn. */
async function followTurns(input: TurnsInput, base: Session, turns: readonly AskedTurn[]): Promise<TurnMeasure[][]> {
  const { model, contenders, signal } = input;
  const groupSize = groupSizeOf(model.info);
  const measures: TurnMeasure[][] = turns.map(() => []);
  for (const contender of contenders) {
    await using living = base.fork();
    living.setSelector(contender.choice);
    await living.buildIndex({ signal });
    for (const [turn, { tokens, asked, reference }] of turns.entries()) {
      const where = `${contender.label}, turn ${turn + 1}`;
      const onStep = (step: number, of: number) => input.onStep?.(where, step, of);
      const startedAt = performance.now();
      await hold(living, tokens, { signal });
      const questionMs = significant(performance.now() - startedAt);
      const { indexBytes } = living.memory;
      const steps = await measureSteps({ session: living, reference, groupSize, signal, onStep });
      const atEnd = await measureSelector({
        model,
        base: asked,
        question: new Int32Array(),
        selector: contender.choice,
        reference,
        signal,
        onStep,
      });
      measures[turn]!.push({ selector: contender.label, inTurn: { ...steps, questionMs, indexBytes }, atEnd });
    }
  }
  return measures;
}

/** Dense attention answers each question; adds the turns to `turns`, whose owner closes their sessions. */
async function askDense(input: TurnsInput, base: Session, turns: AskedTurn[]): Promise<void> {
  const { model, prompt, numSteps, signal } = input;
  const messages: { role: string; content: string }[] = [];
  await using session = base.fork();
  for (const [turn, question] of input.questions.entries()) {
    const content = turn === 0 ? documentTurn({ document: prompt.document, question }) : question;
    messages.push({ role: 'user', content });
    const tokens = await model.applyChatTemplate(messages);
    await hold(session, tokens, { signal, buildIndex: false });
    const asked = session.fork();
    try {
      const onStep = (step: number) => input.onStep?.(`dense, turn ${turn + 1}`, step, numSteps);
      const reference = await denseReference({ model, base: asked, numSteps, signal, onStep });
      const answer = model.detokenize(reference.tokens);
      messages.push({ role: 'assistant', content: answer });
      // One by one as in every other session: read at once, the answer's keys and values would come out a little different.
      for await (const _step of session.force(reference.tokens, { signal }));
      turns.push({ question, answer, tokens, asked, reference });
    } catch (error) {
      await asked.close();
      throw error;
    }
  }
}

/** Makes a session hold exactly `tokens`, reading only what it does not hold yet. */
async function hold(session: Session, tokens: Int32Array, options: Parameters<Session['prefill']>[1]): Promise<void> {
  const kept = Math.min(commonPrefixLength(session.tokens, tokens), tokens.length - 1);
  session.truncate(kept);
  await session.prefill(tokens.subarray(kept), options);
}

/** Tokens that questions and answers can take at most. */
async function turnsLength({ model, questions, numSteps }: TurnsInput): Promise<number> {
  let length = 0;
  for (const question of questions) length += (await model.tokenize(question)).length;
  return length + questions.length * (numSteps + TEMPLATE_TOKENS);
}
