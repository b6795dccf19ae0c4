import { useMemo } from 'preact/hooks';
import { heats } from '../read-map/heat.js';
import { mostRead } from '../read-map/quotes.js';
import { readShares } from '../read-map/read-map.js';
import type { Answer } from '../state/conversation.js';
import { passagesOf } from '../state/passages.js';
import { seePassage, shownToken, shownTurn } from '../state/spotlight.js';
import { percent } from './numbers.js';
import { ReadStrip } from './read-strip.js';

const NUM_QUOTES = 4;

interface WhatWasReadProps {
  readonly turn: number;
  readonly answer: Answer;
  readonly documentId: string;
  /** Whether the quotes are shown at first. */
  readonly isOpen: boolean;
}

/** Where in the document an answer, or the shown token of it, comes from. */
export function WhatWasRead({ turn, answer, documentId, isOpen }: WhatWasReadProps) {
  const passages = passagesOf(documentId).value;
  const token = shownTurn.value === turn ? shownToken.value : null;
  const ofAnswer = useMemo(() => readShares(answer.readMaps, passages?.length ?? 0), [answer, passages]);
  if (passages === null) return null;
  const ofToken = token === null ? null : readShares([answer.readMaps[token] ?? []], passages.length);
  const quotes = mostRead(ofAnswer, passages, NUM_QUOTES);
  return (
    <div class="what-was-read">
      <p class="caption">
        <span>
          {token === null ? 'Read for this answer' : <>Read for the token “{answer.tokens[token]?.trim()}”</>}
        </span>
        <Legend />
      </p>
      <ReadStrip heats={heats(ofToken ?? ofAnswer)} onPassage={(passage) => seePassage(turn, passage)} />
      {quotes.length > 0 && (
        <details open={isOpen}>
          <summary>Passages read most</summary>
          <ol class="quotes">
            {quotes.map(({ passage, text, share }) => (
              <li key={passage}>
                <button type="button" class="quote" onClick={() => seePassage(turn, passage)}>
                  <span class="share">{percent(share)}</span>
                  <q>{text}</q>
                </button>
              </li>
            ))}
          </ol>
          <p class="hint">
            Shares of the attention that went to the document. Its first words are left out: models rest attention there
            that they have no use for.
          </p>
        </details>
      )}
    </div>
  );
}

function Legend() {
  return (
    <span class="legend">
      less <i class="scale" /> more, relative
    </span>
  );
}
