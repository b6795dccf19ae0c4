import { useSignal } from '@preact/signals';
import { type DocumentSession, isRead } from '../server/documents.js';
import { stop } from '../state/asking.js';
import { deleteDocument, exportDocument, renameDocument } from '../state/documents.js';
import { addressOf } from '../state/place.js';
import { useConfirmation } from './confirm-dialog.js';
import { count, percent } from './numbers.js';
import { TextDialog } from './text-dialog.js';

export function DocumentItem({ document, isCurrent }: { document: DocumentSession; isCurrent: boolean }) {
  const { id, name } = document;
  const here = { kind: 'document', id } as const;
  const isRenaming = useSignal(false);
  const [confirm, confirmation] = useConfirmation({
    title: 'Delete this document?',
    text: `The server forgets “${name}” and all that it read. This browser forgets what was asked.`,
    action: 'Delete',
    onConfirm: () => {
      stop(here);
      deleteDocument(id);
    },
  });
  return (
    <li class={isCurrent ? 'item current' : 'item'}>
      <a href={addressOf(here)} aria-current={isCurrent ? 'page' : undefined}>
        <span class="name">{name}</span>
        <span class="meta">{stateInWords(document)}</span>
      </a>
      {isCurrent && (
        <div class="actions">
          <button
            type="button"
            class="quiet"
            onClick={() => {
              isRenaming.value = true;
            }}
          >
            Rename
          </button>
          {isRead(document) && (
            <button type="button" class="quiet" onClick={() => exportDocument(document)}>
              Export
            </button>
          )}
          <button type="button" class="quiet" onClick={confirm}>
            Delete
          </button>
        </div>
      )}
      {confirmation}
      {isRenaming.value && (
        <TextDialog
          title="Rename the document"
          label="Name"
          value={name}
          action="Rename"
          onDone={(text) => {
            isRenaming.value = false;
            if (text !== null && text !== name) renameDocument(id, text);
          }}
        />
      )}
    </li>
  );
}

function stateInWords(document: DocumentSession): string {
  const { state, tokens_done, tokens_total } = document;
  if (state === 'failed') return 'could not be read';
  if (isRead(document)) return `${count(tokens_total)} tokens`;
  return tokens_total === 0 ? 'being read' : `being read, ${percent(tokens_done / tokens_total)}`;
}
