/**
 * The selectors that `fidelity` compares: names of the report, each alone or with settings of its own, as `ctkvr:numProbes=8:listLength=2048`,
 * so that one prefill can serve a whole study.
 */
import { resolveSelectorOptions, type SelectorOptions } from '@ctkvr/core';
import type { SelectorChoice } from '@ctkvr/model-runner';

export const fidelitySelectors = ['full', 'exactTopK', 'streaming', 'ctkvr', 'ctkvr-paper'] as const;
export type FidelitySelector = (typeof fidelitySelectors)[number];

/** One contender of a comparison. */
export interface FidelityContender {
  /** As it was written: what the report calls it. */
  readonly label: string;
  readonly choice: SelectorChoice;
}

/** Every one is measured at any length: a dense fallback for short texts would only measure itself. */
const choices: Record<FidelitySelector, SelectorChoice> = {
  full: { selector: 'full', denseBelow: 0 },
  exactTopK: { selector: 'exactTopK', denseBelow: 0 },
  streaming: { selector: 'streaming', denseBelow: 0 },
  ctkvr: { preset: 'balanced', denseBelow: 0 },
  'ctkvr-paper': { preset: 'paper', denseBelow: 0 },
};

/**
 * Parses `name` or `name:option=value:option=value`.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION for an option or a value that a selector does not have.
 * @throws {RangeError} for a name that is none of `fidelitySelectors`, or an option without a value.
 */
export function parseContender(text: string): FidelityContender {
  const [name, ...settings] = text.split(':');
  if (!fidelitySelectors.includes(name as FidelitySelector)) {
    throw new RangeError(`"${name}" is none of ${fidelitySelectors.join(', ')}`);
  }
  const given: Record<string, unknown> = {};
  for (const setting of settings) {
    const [option, value] = setting.split('=');
    if (!option || value === undefined) throw new RangeError(`"${setting}" is not option=value`);
    given[option] = value === 'true' || value === 'false' ? value === 'true' : Number(value || Number.NaN);
  }
  const choice = { ...choices[name as FidelitySelector], ...(given as Partial<SelectorOptions>) };
  resolveSelectorOptions(choice);
  return { label: text, choice };
}

/** `maxSelected` replaces the values read per head of a contender that chooses by score and does not set its own. */
export function withMaxSelected(contender: FidelityContender, maxSelected: number | undefined): FidelityContender {
  const { selector } = resolveSelectorOptions(contender.choice);
  if (maxSelected === undefined || selector === 'full' || selector === 'streaming') return contender;
  if (contender.label.includes('maxSelected=')) return contender;
  return { ...contender, choice: { ...contender.choice, maxSelected } };
}
