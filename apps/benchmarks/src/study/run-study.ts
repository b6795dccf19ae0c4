/** Measures every contender in every situation, one prefill a situation. */
import { readFile } from 'node:fs/promises';
import { type Contender, fitPrompt, measureFidelity, measureTurns } from '@ctkvr/evaluation';
import type { Model } from '@ctkvr/model-runner';
import { evaluationTextFile } from '../evaluation-texts.js';
import { type SituationKind, situations } from './situations.js';
import type { StudySituation } from './study-result.js';

export interface StudyInput {
  readonly model: Model;
  readonly kinds: readonly SituationKind[];
  readonly numTokens: number;
  readonly numSteps: number;
  readonly contenders: readonly Contender[];
  readonly signal: AbortSignal;
  /** Called when a contender begins to be measured. */
  readonly onProgress: (line: string) => void;
}

/**
 * Yields each situation as it is done; a dialogue gives one a turn.
 * @throws {CtkvrError} what `measureFidelity` and `evaluationTextFile` throw; CTKVR_INVALID_OPTION when a text is too short.
 */
export async function* runStudy(input: StudyInput): AsyncGenerator<StudySituation, void, undefined> {
  for (const kind of input.kinds) yield* runSituation(kind, input);
}

async function* runSituation(kind: SituationKind, input: StudyInput): AsyncGenerator<StudySituation, void, undefined> {
  const { model, numTokens, numSteps, contenders, signal } = input;
  const { text: name, questions } = situations[kind];
  const text = await readFile(await evaluationTextFile(name, { signal }), 'utf8');
  const [question] = questions;
  const prompt = await fitPrompt({ model, text, question, numTokens });
  const onStep = (what: string, step: number) => {
    if (step === 1) input.onProgress(`${kind}: ${what}`);
  };
  input.onProgress(`${kind}: reading ${prompt.tokens.length} tokens`);
  const measured = { model, prompt, numSteps, contenders, signal, onStep };
  const { kvBytesPerToken } = model.info;
  if (kind !== 'dialogue') {
    const { prefillMs, selectors } = await measureFidelity({ ...measured, indexBeforeQuestion: false });
    const tokens = prompt.tokens.length;
    const rows = selectors.map((measure) => ({ ...measure, meanKlBuiltAnew: null }));
    yield { name: kind, question, tokens, prefillMs, kvBytes: tokens * kvBytesPerToken, rows };
    return;
  }
  const { prefillMs, turns } = await measureTurns({ ...measured, questions });
  for (const [turn, { question: asked, tokens, selectors }] of turns.entries()) {
    const rows = selectors.map(({ selector, inTurn: { questionMs: _questionMs, ...inTurn }, atEnd }) => ({
      selector,
      ...inTurn,
      indexBuildMs: atEnd.indexBuildMs,
      meanKlBuiltAnew: atEnd.meanKl,
    }));
    const kvBytes = tokens * kvBytesPerToken;
    yield { name: `${kind}, turn ${turn + 1}`, question: asked, tokens, prefillMs, kvBytes, rows };
  }
}
