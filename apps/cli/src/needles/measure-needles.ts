/** How often a selector's answer names a hidden number that dense attention's answer names. */
import { type Contender, significant } from '@ctkvr/evaluation';
import type { Model, PrefillProgress } from '@ctkvr/model-runner';
import { drawNeedle } from './draw-needle.js';
import { greedyAnswer, MAX_ANSWER_TOKENS } from './greedy-answer.js';
import { namesNumber } from './lighthouse.js';
import { type NeedleTask, needleTask } from './needle-task.js';

export interface NeedleTrial {
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

const dense: Contender = { label: 'full', choice: { selector: 'full', denseBelow: 0 } };

/** Runs trial after trial; number and depth of each are drawn from `seed` and the trial's index alone. */
export async function measureNeedles(input: {
  readonly model: Model;
  readonly text: string;
  readonly numTokens: number;
  readonly numTrials: number;
  readonly seed: number;
  readonly contenders: readonly Contender[];
  readonly signal: AbortSignal;
  readonly onPrefill: (trial: number, progress: PrefillProgress) => void;
  readonly onTrial: (trial: NeedleTrial) => void | Promise<void>;
}): Promise<NeedleReport> {
  const { model, text, numTokens, numTrials, seed, contenders } = input;
  const trials: NeedleTrial[] = [];
  for (let i = 0; i < numTrials; i++) {
    const task = await needleTask({ model, text, numTokens, ...drawNeedle(seed, i) });
    const trial = await runTrial(task, { ...input, onProgress: (progress) => input.onPrefill(i, progress) });
    trials.push(trial);
    await input.onTrial(trial);
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

async function runTrial(
  task: NeedleTask,
  input: {
    readonly model: Model;
    readonly contenders: readonly Contender[];
    readonly signal: AbortSignal;
    readonly onProgress: (progress: PrefillProgress) => void;
  },
): Promise<NeedleTrial> {
  const { model, contenders, signal, onProgress } = input;
  const { tokens } = task.prompt;
  await using base = model.createSession({
    contextLength: tokens.length + MAX_ANSWER_TOKENS,
    selector: { selector: 'full' },
  });
  await base.prefill(tokens, { buildIndex: false, signal, onProgress });
  const ask = async ({ label, choice }: Contender): Promise<NeedleAnswer> => {
    const { text, statistics } = await greedyAnswer({ model, base, choice, signal });
    const { keysReadPerHead, bytesReadPerToken } = statistics;
    return { selector: label, found: namesNumber(text, task.number), text, keysReadPerHead, bytesReadPerToken };
  };
  const reference = await ask(dense);
  const answers: NeedleAnswer[] = [];
  for (const contender of reference.found ? contenders : []) answers.push(await ask(contender));
  return { number: task.number, factAt: task.factAt, tokens: tokens.length, dense: reference, answers };
}
