/** What an answer cost, gathered token by token: the statistics line of `ask` and `chat`, and their JSON. */
import type { SelectionCounters } from '@ctkvr/core';
import { significant } from '@ctkvr/evaluation';
import { formatBytes, formatCount, formatCounted, formatDuration } from './format.js';

export interface AnswerStatistics {
  readonly promptTokens: number;
  readonly answerTokens: number;
  /** From the start of the prefill to the first token. */
  readonly timeToFirstTokenMs: number | null;
  /** Mean over the tokens after the first; null when there are none. */
  readonly msPerToken: number | null;
  /** Mean keys scored per KV head and token, and what dense attention would have read. null when nothing was decoded. */
  readonly keysReadPerHead: number | null;
  readonly keysPerHead: number | null;
  /** 0 to 1: share of the attention that falls on what was read, as the engine estimates it. */
  readonly estimatedAttentionMass: number | null;
  /** Mean of |estimated - measured mass| over the query heads that were measured on the way; null when none was. */
  readonly attentionMassError: number | null;
  readonly bytesReadPerToken: number | null;
  /** Of the whole process so far. */
  readonly peakMemoryBytes: number;
}

export class AnswerMeter {
  readonly #startedAt = performance.now();
  readonly #groupSize: number;
  #firstAt: number | null = null;
  #lastAt = 0;
  #numTokens = 0;
  #decoded = {
    steps: 0,
    heads: 0,
    keysRead: 0,
    keysTotal: 0,
    estimatedMass: 0,
    bytesRead: 0,
    auditedHeads: 0,
    massError: 0,
  };

  /** Made when the prefill starts. @param groupSize query heads per KV head. */
  constructor(groupSize: number) {
    this.#groupSize = groupSize;
  }

  /** One token came; `counters` is null when it came out of a prefill. */
  token(counters: SelectionCounters | null): void {
    this.#lastAt = performance.now();
    this.#firstAt ??= this.#lastAt;
    this.#numTokens += 1;
    if (counters === null || counters.heads === 0) return;
    const sum = this.#decoded;
    sum.steps += 1;
    sum.heads += counters.heads;
    sum.keysRead += counters.keysRead;
    sum.keysTotal += counters.keysTotal;
    sum.estimatedMass += counters.estimatedMass;
    sum.bytesRead += counters.bytesRead;
    sum.auditedHeads += counters.auditedHeads;
    sum.massError += counters.massError;
  }

  statistics(promptTokens: number): AnswerStatistics {
    const { steps, heads, keysRead, keysTotal, estimatedMass, bytesRead, auditedHeads, massError } = this.#decoded;
    const perHead = (sum: number) => (heads === 0 ? null : significant(sum / heads));
    const later = this.#numTokens - 1;
    return {
      promptTokens,
      answerTokens: this.#numTokens,
      timeToFirstTokenMs: this.#firstAt === null ? null : significant(this.#firstAt - this.#startedAt),
      msPerToken: this.#firstAt === null || later < 1 ? null : significant((this.#lastAt - this.#firstAt) / later),
      keysReadPerHead: perHead(keysRead),
      keysPerHead: perHead(keysTotal),
      estimatedAttentionMass: perHead(estimatedMass / this.#groupSize),
      attentionMassError: auditedHeads === 0 ? null : significant(massError / (auditedHeads * this.#groupSize)),
      bytesReadPerToken: steps === 0 ? null : Math.round(bytesRead / steps),
      peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    };
  }
}

/** The one line after an answer. */
export function statisticsLine(s: AnswerStatistics): string {
  const parts = [`${formatCounted(s.promptTokens, 'token')} read, ${formatCount(s.answerTokens)} written`];
  if (s.timeToFirstTokenMs !== null) parts.push(`first token after ${formatDuration(s.timeToFirstTokenMs)}`);
  if (s.msPerToken !== null) parts.push(`${s.msPerToken.toFixed(1)} ms/token`);
  if (s.keysReadPerHead !== null && s.keysPerHead !== null) {
    parts.push(`keys read per head ${formatCount(s.keysReadPerHead)} of ${formatCount(s.keysPerHead)}`);
  }
  if (s.estimatedAttentionMass !== null) {
    const error = s.attentionMassError === null ? '' : ` ± ${percent(s.attentionMassError)}`;
    parts.push(`estimated attention mass ${percent(s.estimatedAttentionMass)}${error} %`);
  }
  parts.push(`peak memory ${formatBytes(s.peakMemoryBytes)}`);
  return parts.join(' | ');
}

function percent(share: number): string {
  return (share * 100).toFixed(1);
}
