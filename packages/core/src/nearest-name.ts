/** Which known name a mistyped one probably means. */

/** Returns the candidate that is most like `name`, or null when none is: `threads` is `numThreads`, `max_tokens` is `maxTokens`. */
export function nearestName(name: string, candidates: readonly string[]): string | null {
  const asked = plain(name);
  let best: { candidate: string; cost: number } | null = null;
  for (const candidate of candidates) {
    const cost = costOf(asked, plain(candidate));
    if (cost !== null && (best === null || cost < best.cost)) best = { candidate, cost };
  }
  return best?.candidate ?? null;
}

/** How unlike two names are: 0 = the same but for case and punctuation; null = too much. */
function costOf(a: string, b: string): number | null {
  if (a === b) return 0;
  const distance = editDistance(a, b);
  const shorter = Math.min(a.length, b.length);
  // A name that contains the other is likely meant: the more of it matches the likelier, and a match at the beginning is likeliest.
  const isPart = shorter >= 3 && (a.includes(b) || b.includes(a));
  const isBeginning = a.startsWith(b) || b.startsWith(a);
  if (isPart) return (distance - (isBeginning ? 0.5 : 0)) / Math.max(a.length, b.length);
  return distance <= Math.max(1, Math.floor(Math.max(a.length, b.length) / 3)) ? distance : null;
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

/** Letters to insert, delete or replace (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
