import { useEffect, useMemo, useRef } from 'preact/hooks';
import { heatLevel, heats } from '../read-map/heat.js';
import { readShares } from '../read-map/read-map.js';
import { conversation } from '../state/conversations.js';
import { passagesOf } from '../state/passages.js';
import { shownToken, shownTurn, textIsOpen, wantedPassage } from '../state/spotlight.js';
import { PassageView } from './passage-view.js';

/** The document's text, highlighted where the shown answer, or token, was read from. */
export function DocumentText({ documentId }: { documentId: string }) {
  const passages = passagesOf(documentId).value;
  const levels = useLevels(documentId, passages?.length ?? 0);
  const body = useRef<HTMLElement>(null);
  const cameFrom = useRef<Element | null>(null);
  const wanted = wantedPassage.value;
  useEffect(() => {
    const passage = wanted && body.current?.querySelector<HTMLElement>(`[data-passage="${wanted.passage}"]`);
    if (!passage) return;
    cameFrom.current = document.activeElement;
    const isStill = matchMedia('(prefers-reduced-motion: reduce)').matches;
    passage.scrollIntoView({ block: 'center', behavior: isStill ? 'instant' : 'smooth' });
    passage.focus({ preventScroll: true });
  }, [wanted, passages]);
  const close = () => {
    textIsOpen.value = false;
  };
  return (
    <aside
      class="document-text"
      aria-label="Text of the document"
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return;
        if (cameFrom.current instanceof HTMLElement) cameFrom.current.focus();
        else close();
      }}
    >
      <div class="title">
        <h2>Text</h2>
        <button type="button" class="quiet" onClick={close}>
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
        {passages?.map((text, passage) => (
          <PassageView
            key={passage}
            passage={passage}
            text={text}
            level={levels[passage] ?? 0}
            isWanted={wanted?.passage === passage}
          />
        ))}
      </section>
    </aside>
  );
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
