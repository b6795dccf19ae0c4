import { useEffect, useState } from 'preact/hooks';
import type { DocumentSession } from '../server/documents.js';
import { addMark, inWords, type ReadingMark, secondsLeft } from '../state/time-left.js';
import { count, percent } from './numbers.js';

/** How far a document has been read, and how long the rest will take. */
export function ReadingProgress({ document }: { document: DocumentSession }) {
  const { tokens_done: done, tokens_total: total, tokens_per_second: told } = document;
  const [marks, setMarks] = useState<readonly ReadingMark[]>([]);
  useEffect(() => {
    setMarks((known) => addMark(known, { at: performance.now(), tokens: done }));
  }, [done]);
  const seconds = told ? (total - done) / told : secondsLeft(marks, total);
  return (
    <div class="reading">
      <p id="reading" class="lead">
        Reading the document
      </p>
      <progress aria-labelledby="reading" max={total || 1} value={done} />
      <p class="figures">
        {total > 0 && (
          <span>
            {count(done)} of {count(total)} tokens, {percent(done / total)}
          </span>
        )}
        {told !== undefined && <span>{count(told)} tokens/s</span>}
        {seconds !== null && <span>{inWords(seconds)}</span>}
      </p>
      <p class="hint">This happens once. You may leave the page: the server goes on reading.</p>
    </div>
  );
}
