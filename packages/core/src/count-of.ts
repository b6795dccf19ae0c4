/** A number with its noun, for messages. */

/** Returns `1 token`, `2 tokens`, `0 tokens`. @param digits of the count, where they are not simply those. */
export function countOf(count: number, noun: string, digits = String(count)): string {
  return `${digits} ${noun}${count === 1 ? '' : 's'}`;
}
