import type { RefObject } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { heatLevel, heats } from '../read-map/heat.js';
import { readShares } from '../read-map/read-map.js';
import { conversation } from '../state/conversations.js';
import { passagesOf } from '../state/passages.js';
import { isWide, shownToken, shownTurn, textIsOpen, wantedPassage } from '../state/spotlight.js';

/** The document's text, highlighted where the shown answer, or token, was read from. */
export function DocumentText({ documentId }: { documentId: string }) {
  const passages = passagesOf(documentId).value;
  const body = useRef<HTMLElement>(null);
  // Made once: a long document has thousands of passages, of which a movement of the pointer changes few.
  const spans = useMemo(() => <PassageSpans passages={passages ?? []} />, [passages]);
  useHighlights(body, useLevels(documentId, passages?.length ?? 0));
  const cameFrom = useRef<HTMLElement | null>(null);
  const wanted = wantedPassage.value;
  useEffect(() => {
    const passage = wanted && body.current?.querySelector<HTMLElement>(`[data-passage="${wanted.passage}"]`);
    if (!passage) return;
    if (document.activeElement instanceof HTMLElement) cameFrom.current = document.activeElement;
    const isStill = matchMedia('(prefers-reduced-motion: reduce)').matches;
    passage.scrollIntoView({ block: 'center', behavior: isStill ? 'instant' : 'smooth' });
    passage.focus({ preventScroll: true });
    passage.classList.add('wanted');
    return () => passage.classList.remove('wanted');
  }, [wanted, passages]);
  const goBack = (closes: boolean) => {
    if (closes) textIsOpen.value = false;
    // Only when the text lies over it no more can what was left have the focus again.
    requestAnimationFrame(() => cameFrom.current?.focus());
  };
  return (
    <aside
      class="document-text"
      aria-label="Text of the document"
      onKeyDown={(event) => {
        if (event.key === 'Escape') goBack(!isWide.value);
      }}
    >
      <div class="title">
        <h2>Text</h2>
        <button type="button" class="quiet" onClick={() => goBack(true)}>
          Close
        </button>
      </div>
      <section
        ref={body}
        class="passages"
        aria-label="Passages"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached with the keyboard.
        tabIndex={0}
      >
        {spans}
      </section>
    </aside>
  );
}

function PassageSpans({ passages }: { passages: readonly string[] }) {
  return (
    <>
      {passages.map((text, passage) => (
        <span key={passage} data-passage={passage} tabIndex={-1}>
          {text}
        </span>
      ))}
    </>
  );
}

/** Marks the passages, which are the element's children, with their levels. */
function useHighlights(body: RefObject<HTMLElement | null>, levels: readonly number[]): void {
  const shown = useRef<readonly number[]>([]);
  useEffect(() => {
    const passages = body.current!.children;
    levels.forEach((level, passage) => {
      if (level !== (shown.current[passage] ?? 0)) passages[passage]?.setAttribute('data-heat', String(level));
    });
    shown.current = levels;
  }, [body, levels]);
}

/** Levels of heat by passage: of the shown token, or of the shown answer, or of the newest one. */
function useLevels(documentId: string, numPassages: number): number[] {
  const turns = conversation(`document.${documentId}`).value;
  const answer = turns[shownTurn.value ?? turns.length - 1]?.answer;
  const token = shownToken.value;
  return useMemo(() => {
    const maps = answer?.readMaps ?? [];
    const shown = token === null ? maps : maps.slice(token, token + 1);
    return Array.from(heats(readShares(shown, numPassages)), heatLevel);
  }, [answer, token, numPassages]);
}
