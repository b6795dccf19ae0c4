/** What a choice of selector means for a model: its defaults go by the model's heads. */
import { resolveSelectorOptions, type SelectorOptions } from '@ctkvr/core';
import type { NativeModelInfo } from '@ctkvr/native';
import { groupSizeOf } from './group-size.js';
import type { SelectorChoice } from './session-types.js';

/** Returns complete, checked settings. @throws {CtkvrError} CTKVR_INVALID_OPTION naming the field. */
export function selectorFor(
  info: Pick<NativeModelInfo, 'numQueryHeads' | 'numKvHeads'>,
  choice: SelectorChoice = {},
): SelectorOptions {
  return resolveSelectorOptions(choice, { groupSize: groupSizeOf(info) });
}
