/** How far the reading of a document was, and when. */
export interface ReadingMark {
  /** ms on any clock that only goes forward. */
  readonly at: number;
  readonly tokens: number;
}

/** Marks older than this do not count: reading gets slower as a document gets longer. */
const WINDOW_MS = 20_000;

/** Returns the marks with one more, without those that are too old to tell the present speed. */
export function addMark(marks: readonly ReadingMark[], mark: ReadingMark): ReadingMark[] {
  return [...marks.filter(({ at }) => mark.at - at <= WINDOW_MS), mark];
}

/** Seconds that are left at the speed between the first and the last mark; null = not known yet. */
export function secondsLeft(marks: readonly ReadingMark[], tokensTotal: number): number | null {
  const [first, last] = [marks[0], marks.at(-1)];
  if (first === undefined || last === undefined || last.tokens <= first.tokens) return null;
  return ((tokensTotal - last.tokens) * (last.at - first.at)) / (last.tokens - first.tokens) / 1000;
}

/** A time as a person would say it: nobody needs the seconds of an hour. */
export function inWords(seconds: number): string {
  if (seconds < 5) return 'a few seconds left';
  if (seconds < 60) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 3600) return `about ${Math.round(seconds / 60)} min left`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.round((seconds % 3600) / 60)];
  return `about ${hours} h ${minutes} min left`;
}
