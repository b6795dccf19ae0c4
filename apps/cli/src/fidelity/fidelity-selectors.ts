/** The selectors that `fidelity` compares, by the names its report uses. */
import type { SelectorChoice } from '@ctkvr/model-runner';

export const fidelitySelectors = ['full', 'exactTopK', 'streaming', 'ctkvr', 'ctkvr-paper'] as const;
export type FidelitySelector = (typeof fidelitySelectors)[number];

/**
 * Returns the settings behind a name. `maxSelected` replaces the values read per head of those that choose by score. Every one is
 * measured at any length: a dense fallback for short texts would only measure itself.
 */
export function selectorChoice(name: FidelitySelector, maxSelected: number | undefined): SelectorChoice {
  const limit = maxSelected === undefined ? {} : { maxSelected };
  switch (name) {
    case 'full':
      return { selector: 'full', denseBelow: 0 };
    case 'streaming':
      return { selector: 'streaming', denseBelow: 0 };
    case 'exactTopK':
      return { selector: 'exactTopK', denseBelow: 0, ...limit };
    case 'ctkvr':
      return { preset: 'balanced', denseBelow: 0, ...limit };
    case 'ctkvr-paper':
      return { preset: 'paper', denseBelow: 0, ...limit };
  }
}
