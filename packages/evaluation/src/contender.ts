/**
 * The selectors of a comparison: names of the report, each alone or with settings of its own, as `ctkvr:numProbes=8:listLength=2048`, so that
 * one prefill can serve a whole study.
 */
import {
  centroidBounds,
  resolveSelectorOptions,
  type SelectorMethod,
  type SelectorOptions,
  selectorMethods,
} from '@ctkvr/core';
import type { SelectorChoice } from '@ctkvr/model-runner';

/** The selectors, and CTkvr with the settings of its paper. */
export const contenderNames = [...selectorMethods, 'ctkvr-paper'] as const;
export type ContenderName = (typeof contenderNames)[number];

export interface Contender {
  /** As it was written: what the report calls it. */
  readonly label: string;
  readonly choice: SelectorChoice;
}

/** 0, so that short texts are not decoded densely: that would compare dense attention with itself. */
const denseBelow = 0;

/**
 * Parses `name` or `name:option=value:option=value`.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION for an option or a value that a selector does not have.
 * @throws {RangeError} for a name that is none of `contenderNames`, or an option without a value.
 */
export function parseContender(text: string): Contender {
  const [name, ...settings] = text.split(':');
  const base = choiceOf(name ?? '');
  const given: Record<string, unknown> = {};
  for (const setting of settings) {
    const [option, value] = setting.split('=');
    if (!option || value === undefined) throw new RangeError(`"${setting}" is not option=value`);
    given[option] = parsedValue(value);
  }
  const choice = { ...base, ...(given as Partial<SelectorOptions>) };
  resolveSelectorOptions(choice);
  return { label: text, choice };
}

/** These read by position, or as many keys as their hashes select. */
const withoutBudget: readonly SelectorMethod[] = ['full', 'streaming', 'magicpig'];

/** `maxSelected` replaces the values read per head of a contender that has such a budget and does not set its own. */
export function withMaxSelected(contender: Contender, maxSelected: number | undefined): Contender {
  const { method } = resolveSelectorOptions(contender.choice);
  if (maxSelected === undefined || withoutBudget.includes(method)) return contender;
  if (contender.label.includes('maxSelected=')) return contender;
  return { ...contender, choice: { ...contender.choice, maxSelected } };
}

/** Queries that the shared starting state must hold: as many as the contender with the most centroids needs. */
export function numCentroidsOf(contenders: readonly Contender[]): number {
  return Math.max(1, ...contenders.map(({ choice }) => centroidBounds(resolveSelectorOptions(choice)).most));
}

function choiceOf(name: string): SelectorChoice {
  if (name === 'ctkvr-paper') return { preset: 'paper', denseBelow };
  if (selectorMethods.includes(name as SelectorMethod)) return { method: name as SelectorMethod, denseBelow };
  throw new RangeError(`"${name}" is none of ${contenderNames.join(', ')}`);
}

/** A truth value or a number where the text is one; the options' own check refuses what they do not take. */
function parsedValue(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return text === '' || Number.isNaN(Number(text)) ? text : Number(text);
}
