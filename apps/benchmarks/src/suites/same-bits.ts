/**
 * Whether a greedy answer depends on other requests in the same steps, or on the number of threads: all questions by one client, and again by several at the
 * same time, on models of different numbers of threads. Every distribution is compared, not only the tokens that it led to.
 */

import { createHash } from 'node:crypto';
import { countOf } from '@ctkvr/core';
import { loadModel, type Model } from '@ctkvr/model-runner';
import type { SameBitsRow } from './same-bits-result.js';

export interface SameBitsOptions {
  readonly modelPath: string;
  readonly questions: readonly string[];
  readonly tokensPerAnswer: number;
  readonly threads: readonly number[];
  readonly clients: readonly number[];
  readonly rounds: number;
  readonly onProgress: (line: string) => void;
}

interface Answer {
  readonly tokens: readonly number[];
  /** SHA-256 of all distributions. */
  readonly distributions: string;
  readonly mostInStep: number;
}

export async function sameBitsSuite(options: SameBitsOptions): Promise<SameBitsRow[]> {
  const rows: SameBitsRow[] = [];
  let expected: readonly Answer[] | null = null;
  for (const numThreads of options.threads) {
    await using model = await loadModel(options.modelPath, { numThreads });
    for (const clients of [1, ...options.clients]) {
      options.onProgress(`${countOf(numThreads, 'thread')}, ${countOf(clients, 'client')}`);
      const answers: Answer[] = [];
      for (let round = 0; round < options.rounds; round++) answers.push(...(await askAll(model, clients, options)));
      expected ??= answers.slice(0, options.questions.length);
      rows.push(toRow({ threads: numThreads, clients }, answers, expected));
    }
  }
  return rows;
}

/** @param answers of some rounds. @param expected of one round. */
export function toRow(
  way: Pick<SameBitsRow, 'threads' | 'clients'>,
  answers: readonly Answer[],
  expected: readonly Answer[],
): SameBitsRow {
  const pairs = answers.map((answer, i) => [answer, expected[i % expected.length]!] as const);
  const sameTokens = pairs.filter(([a, b]) => a.tokens.join() === b.tokens.join());
  return {
    ...way,
    mostInStep: Math.max(...answers.map((answer) => answer.mostInStep)),
    numAnswers: answers.length,
    sameTokens: sameTokens.length,
    sameBits: sameTokens.filter(([a, b]) => a.distributions === b.distributions).length,
  };
}

async function askAll(model: Model, clients: number, options: SameBitsOptions): Promise<Answer[]> {
  const { questions, tokensPerAnswer } = options;
  const answers: Answer[] = [];
  let next = 0;
  const client = async () => {
    for (let i = next++; i < questions.length; i = next++) {
      answers[i] = await ask(model, questions[i]!, tokensPerAnswer);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return answers;
}

async function ask(model: Model, content: string, maxTokens: number): Promise<Answer> {
  await using session = model.createSession();
  await session.prefill([{ role: 'user', content }]);
  const hash = createHash('sha256');
  const tokens: number[] = [];
  let mostInStep = 0;
  for await (const { tokenId, logits, statistics } of session.generate({ maxTokens, logits: true })) {
    tokens.push(tokenId);
    if (logits !== null) hash.update(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength));
    mostInStep = Math.max(mostInStep, statistics.numSequences);
  }
  return { tokens, distributions: hash.digest('hex'), mostInStep };
}
