/** One selector's answer to a prompt that has been read. */
import type { Model, SelectorChoice, Session } from '@ctkvr/model-runner';
import { AnswerMeter, type AnswerStatistics } from '../answer-statistics.js';

export const MAX_ANSWER_TOKENS = 40;

/** Answers greedily on a fork of `base`, which stays as it is. The statistics count from the fork on. */
export async function greedyAnswer(input: {
  readonly model: Model;
  readonly base: Session;
  readonly choice: SelectorChoice;
  readonly signal: AbortSignal;
}): Promise<{ readonly text: string; readonly statistics: AnswerStatistics }> {
  const { model, base, choice, signal } = input;
  await using session = base.fork();
  session.setSelector(choice);
  const meter = new AnswerMeter(model.info.numQueryHeads / model.info.numKvHeads);
  await session.buildIndex({ signal });
  let text = '';
  const options = { maxTokens: MAX_ANSWER_TOKENS, sampling: { temperature: 0 }, signal };
  for await (const event of session.generate(options)) {
    meter.token(event.statistics.counters);
    text += event.text;
  }
  return { text: text.trim(), statistics: meter.statistics(base.length) };
}
