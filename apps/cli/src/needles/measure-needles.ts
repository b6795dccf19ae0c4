/** How often a selector's answer names a hidden number that dense attention's answer names. */
import { type Contender, numCentroidsOf, significant } from '@ctkvr/evaluation';
import type { Model, PrefillProgress, Session } from '@ctkvr/model-runner';
import { drawNeedle, drawNeedles } from './draw-needle.js';
import { greedyAnswer, MAX_ANSWER_TOKENS } from './greedy-answer.js';
import { namesNumber } from './lighthouse.js';
import { type HiddenNeedle, type NeedlePrompt, needlePrompt } from './needle-prompt.js';

export interface NeedleTrial {
  /** Whose number it is; null when the prompt has one only. */
  readonly place: string | null;
  readonly number: number;
  /** Token at which the fact begins, of how many. */
  readonly factAt: number;
  readonly tokens: number;
  readonly dense: NeedleAnswer;
  /** One per selector, in order; empty when dense attention did not find the number either. */
  readonly answers: readonly NeedleAnswer[];
}

export interface NeedleAnswer {
  readonly selector: string;
  readonly found: boolean;
  readonly text: string;
  readonly keysReadPerHead: number | null;
  readonly bytesReadPerToken: number | null;
}

export interface NeedleReport {
  readonly trials: readonly NeedleTrial[];
  readonly foundByDense: number;
  readonly selectors: readonly {
    readonly selector: string;
    /** Of the trials that dense attention solved. */
    readonly found: number;
    /** The same, 0 to 1; null when dense attention solved none. */
    readonly share: number | null;
    /** Means over those trials. */
    readonly keysReadPerHead: number | null;
    readonly bytesReadPerToken: number | null;
  }[];
}

export interface NeedlesInput {
  readonly model: Model;
  readonly text: string;
  readonly numTokens: number;
  readonly numTrials: number;
  /** Numbers hidden in each prompt; the last may have fewer. */
  readonly needlesPerPrompt: number;
  /** Build each index over the document alone, once a prompt; the questions are read afterwards. */
  readonly indexBeforeQuestion: boolean;
  readonly seed: number;
  readonly contenders: readonly Contender[];
  readonly signal: AbortSignal;
  readonly onPrefill: (prompt: number, progress: PrefillProgress) => void;
  readonly onTrial: (trial: NeedleTrial) => void | Promise<void>;
}

const dense: Contender = { label: 'full', choice: { method: 'full', denseBelow: 0 } };

/** Runs trial after trial, those of a prompt over one prefill. Numbers and depths are drawn from the seed and the prompt's index alone. */
export async function measureNeedles(input: NeedlesInput): Promise<NeedleReport> {
  const { model, text, numTokens, numTrials, needlesPerPrompt, seed, contenders } = input;
  const trials: NeedleTrial[] = [];
  for (let i = 0; trials.length < numTrials; i++) {
    const count = Math.min(needlesPerPrompt, numTrials - trials.length);
    const needles = needlesPerPrompt === 1 ? [drawNeedle(seed, i)] : drawNeedles(seed, i, count);
    const prompt = await needlePrompt({ model, text, numTokens, needles });
    for await (const trial of promptTrials(prompt, i, input)) {
      trials.push(trial);
      await input.onTrial(trial);
    }
  }
  const solved = trials.filter((trial) => trial.dense.found);
  const mean = (values: readonly (number | null)[]) =>
    values.length === 0 ? null : significant(values.reduce<number>((sum, x) => sum + (x ?? 0), 0) / values.length);
  const selectors = contenders.map(({ label }, c) => {
    const answers = solved.map((trial) => trial.answers[c]!);
    const found = answers.filter((answer) => answer.found).length;
    return {
      selector: label,
      found,
      share: solved.length === 0 ? null : significant(found / solved.length),
      keysReadPerHead: mean(answers.map((answer) => answer.keysReadPerHead)),
      bytesReadPerToken: mean(answers.map((answer) => answer.bytesReadPerToken)),
    };
  });
  return { trials, foundByDense: solved.length, selectors };
}

/** Reads the document once; each question is read on a fork. */
async function* promptTrials(
  { document, needles }: NeedlePrompt,
  index: number,
  input: NeedlesInput,
): AsyncGenerator<NeedleTrial, void, undefined> {
  const { model, contenders, indexBeforeQuestion, signal } = input;
  const numQuestionTokens = Math.max(...needles.map(({ question }) => question.length));
  await using base = model.createSession({
    contextLength: document.length + numQuestionTokens + MAX_ANSWER_TOKENS,
    selector: { method: 'full', numCentroids: numCentroidsOf(contenders) },
  });
  const onProgress = (progress: PrefillProgress) => input.onPrefill(index, progress);
  await base.prefill(document, { buildIndex: false, signal, onProgress });
  const indexed: Session[] = [];
  try {
    for (const { choice } of indexBeforeQuestion ? contenders : []) {
      const session = base.fork();
      indexed.push(session);
      session.setSelector(choice);
      await session.buildIndex({ signal });
    }
    for (const needle of needles) yield await askAll({ base, indexed, needle }, input);
  } finally {
    await Promise.all(indexed.map((session) => session.close()));
  }
}

/** Asks for one number: dense attention first, the others only when it finds it. */
async function askAll(
  prompt: {
    readonly base: Session;
    /** Per contender, when indexes are built before the question: the document with its index. */
    readonly indexed: readonly Session[];
    readonly needle: HiddenNeedle;
  },
  { model, contenders, signal }: NeedlesInput,
): Promise<NeedleTrial> {
  const { base, indexed, needle } = prompt;
  const { number, place, factAt, question } = needle;
  await using asked = base.fork();
  await asked.prefill(question, { buildIndex: false, signal });
  const ask = async ({ label, choice }: Contender, early?: Session): Promise<NeedleAnswer> => {
    const from = early ? { base: early, question } : { base: asked, choice };
    const { text, statistics } = await greedyAnswer({ model, ...from, signal });
    const { keysReadPerHead, bytesReadPerToken } = statistics;
    return { selector: label, found: namesNumber(text, number), text, keysReadPerHead, bytesReadPerToken };
  };
  const reference = await ask(dense);
  const answers: NeedleAnswer[] = [];
  for (const [i, contender] of (reference.found ? contenders : []).entries()) {
    answers.push(await ask(contender, indexed[i]));
  }
  return { place, number, factAt, tokens: asked.length, dense: reference, answers };
}
