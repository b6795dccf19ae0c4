/** How a model's query heads share its KV heads. */
import type { NativeModelInfo } from '@ctkvr/native';

/** Returns the query heads per KV head. */
export function groupSizeOf({
  numQueryHeads,
  numKvHeads,
}: Pick<NativeModelInfo, 'numQueryHeads' | 'numKvHeads'>): number {
  return numQueryHeads / numKvHeads;
}
