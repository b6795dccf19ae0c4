/** What a study found; `study.json` holds it. */
import type { SelectorMeasure } from '@ctkvr/evaluation';
import type { ResultHead } from '../suites/result-head.js';

export interface StudyResult extends ResultHead {
  /** Tokens of each prompt; the later turns of a dialogue are longer. */
  readonly tokens: number;
  readonly steps: number;
  readonly situations: readonly StudySituation[];
}

/** One text with one question, or one turn of a dialogue. */
export interface StudySituation {
  readonly name: string;
  readonly question: string;
  /** Tokens before the first step. */
  readonly tokens: number;
  /** Of the document; the turns of a dialogue share it. */
  readonly prefillMs: number;
  /** Bytes of f16 keys and values of those tokens, all layers. */
  readonly kvBytes: number;
  readonly rows: readonly StudyRow[];
}

export interface StudyRow extends SelectorMeasure {
  readonly selector: string;
  /** In a turn of a dialogue, the mean KL on the same tokens with an index built after the question; null elsewhere. */
  readonly meanKlBuiltAnew: number | null;
}
