import { type DocumentSession, isRead } from '../server/documents.js';
import { models } from '../state/models.js';
import type { Place } from '../state/place.js';
import { textIsOpen } from '../state/spotlight.js';
import { Composer } from './composer.js';
import { Conversation } from './conversation.js';
import { count } from './numbers.js';
import { ReadingProgress } from './reading-progress.js';

/** A document: how far it has been read, then what is asked of it. */
export function DocumentView({ here, document }: { here: Place; document: DocumentSession }) {
  const { id, model, name, state, tokens_total, error } = document;
  return (
    <>
      <div class="title">
        <h1>{name}</h1>
        {isRead(document) && (
          <>
            <span class="meta">
              {count(tokens_total)} tokens
              {models.value.length > 1 && `, read by ${model}`}
            </span>
            <button
              type="button"
              aria-expanded={textIsOpen.value}
              onClick={() => {
                textIsOpen.value = !textIsOpen.value;
              }}
            >
              {textIsOpen.value ? 'Hide text' : 'Show text'}
            </button>
          </>
        )}
      </div>
      {state === 'reading' && <ReadingProgress document={document} />}
      {state === 'failed' && (
        <div class="failure">
          <p>
            <strong>The document could not be read.</strong> {error?.message} Delete it, and add it again in another
            form.
          </p>
        </div>
      )}
      {isRead(document) && (
        <>
          <Conversation
            here={here}
            documentId={id}
            hint="The document has been read. Each question is answered from it alone, whatever was asked before."
          />
          <Composer here={here} label="Question" />
        </>
      )}
    </>
  );
}
