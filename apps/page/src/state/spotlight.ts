/** What the highlights in the document stand for. */
import { signal } from '@preact/signals';

/** The answer whose reading is shown, by its turn; null = the newest one. */
export const shownTurn = signal<number | null>(null);

/** The token of that answer whose reading is shown alone; null = all of them together. */
export const shownToken = signal<number | null>(null);

/** The passage that was asked to be seen, with a count that makes a second wish for the same one another. */
export const wantedPassage = signal<{ readonly passage: number; readonly count: number } | null>(null);

const wide = matchMedia('(min-width: 1100px)');

/** Whether there is room for the text beside the conversation; else it lies over it. As in layout.css. */
export const isWide = signal(wide.matches);
wide.addEventListener('change', () => {
  isWide.value = wide.matches;
});

/** Whether the document's text is shown. */
export const textIsOpen = signal(wide.matches);

/** Shows a passage in the document's text. */
export function seePassage(turn: number, passage: number): void {
  shownTurn.value = turn;
  textIsOpen.value = true;
  wantedPassage.value = { passage, count: (wantedPassage.value?.count ?? 0) + 1 };
}

/** Forgets what was shown of another document. */
export function resetSpotlight(): void {
  shownTurn.value = null;
  shownToken.value = null;
  wantedPassage.value = null;
}
