import { useEffect } from 'preact/hooks';
import { isRead } from '../server/documents.js';
import { keyOf } from '../state/conversations.js';
import { currentDocument, documents, documentsAreListed, loadDocuments } from '../state/documents.js';
import { load } from '../state/load.js';
import { report } from '../state/notice.js';
import { place } from '../state/place.js';
import { isWide, resetSpotlight, textIsOpen } from '../state/spotlight.js';
import { ChatView } from './chat-view.js';
import { DocumentText } from './document-text.js';
import { DocumentView } from './document-view.js';
import { DropTarget } from './drop-target.js';
import { KeyDialog } from './key-dialog.js';
import { Notice } from './notice.js';
import { Sidebar } from './sidebar.js';
import { StartView } from './start-view.js';

export function App() {
  const here = place.value;
  const document = currentDocument.value;
  useEffect(() => {
    load();
  }, []);
  const key = keyOf(here);
  useEffect(resetSpotlight, [key]);
  const name = document?.name;
  useEffect(() => {
    window.document.title = name === undefined ? 'CTkvr' : `${name} - CTkvr`;
  }, [name]);
  const hasText = document !== null && isRead(document) && textIsOpen.value;
  return (
    <div class={hasText ? 'app with-text' : 'app'}>
      {/* What lies under the text cannot be reached with the keyboard either. */}
      <div class="behind" inert={hasText && !isWide.value}>
        <SkipLink />
        <Sidebar />
        <main id="main" class="main" tabIndex={-1}>
          <Notice />
          {here.kind === 'start' && <StartView />}
          {here.kind === 'chat' && <ChatView key={key} here={here} />}
          {here.kind === 'document' && document !== null && <DocumentView key={key} here={here} document={document} />}
          {here.kind === 'document' && document === null && documentsAreListed.value && <NoDocument id={here.id} />}
        </main>
      </div>
      {hasText && <DocumentText key={key} documentId={document.id} />}
      {documents.value !== null && <DropTarget />}
      <KeyDialog />
    </div>
  );
}

/** A button, because the address's part after `#` says where the reader is. */
function SkipLink() {
  return (
    <button type="button" class="skip-link" onClick={() => document.getElementById('main')?.focus()}>
      Skip to the conversation
    </button>
  );
}

/** Another page or client may have added it since the list came. */
function NoDocument({ id }: { id: string }) {
  useEffect(() => {
    loadDocuments().catch(report);
  }, [id]);
  return (
    <div class="start">
      <h1>This document is not on the server</h1>
      <p class="lead">It was deleted, or the server was started anew without it.</p>
      <p>
        <a class="button" href="#/">
          Add a document
        </a>
      </p>
    </div>
  );
}
