/** One selector's answer to a prompt that has been read. */
import { groupSizeOf, type Model, type SelectorChoice, type Session } from '@ctkvr/model-runner';
import { AnswerMeter, type AnswerStatistics } from '../answer-statistics.js';

export const MAX_ANSWER_TOKENS = 40;

/** Answers greedily on a fork of `base`, which stays as it is. The statistics count from the fork on. */
export async function greedyAnswer(input: {
  readonly model: Model;
  readonly base: Session;
  /** The index is built anew for it. Without it, the selector and the index of `base` serve. */
  readonly choice?: SelectorChoice;
  /** Read first, without a new index. */
  readonly question?: Int32Array;
  readonly signal: AbortSignal;
}): Promise<{ readonly text: string; readonly statistics: AnswerStatistics }> {
  const { model, base, choice, question, signal } = input;
  await using session = base.fork();
  const meter = new AnswerMeter(groupSizeOf(model.info));
  if (choice) {
    session.setSelector(choice);
    await session.buildIndex({ signal });
  }
  if (question) await session.prefill(question, { buildIndex: false, signal });
  const numPromptTokens = session.length;
  let text = '';
  const options = { maxTokens: MAX_ANSWER_TOKENS, sampling: { temperature: 0 }, signal };
  for await (const event of session.generate(options)) {
    meter.token(event.statistics.counters);
    text += event.text;
  }
  return { text: text.trim(), statistics: meter.statistics(numPromptTokens) };
}
