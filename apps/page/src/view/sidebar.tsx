import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { chats, newChat } from '../state/chats.js';
import { documents, sending } from '../state/documents.js';
import { model, models } from '../state/models.js';
import { place } from '../state/place.js';
import { ChatItem } from './chat-item.js';
import { DocumentItem } from './document-item.js';
import { count } from './numbers.js';

/** Documents and chats. On a phone it is a menu that a button opens. */
export function Sidebar() {
  const isOpen = useSignal(false);
  const here = place.value;
  // Who has chosen something wants to see it.
  useEffect(() => {
    isOpen.value = false;
  }, [here, isOpen]);
  return (
    <header class="sidebar">
      <div class="brand">
        <a href="#/">CTkvr</a>
        <button
          type="button"
          class="menu-button"
          aria-expanded={isOpen.value}
          aria-controls="menu"
          onClick={() => {
            isOpen.value = !isOpen.value;
          }}
        >
          {isOpen.value ? 'Close' : 'Menu'}
        </button>
      </div>
      <nav id="menu" class={isOpen.value ? 'menu open' : 'menu'} aria-label="Documents and chats">
        <div class="new">
          {documents.value !== null && (
            <a class="button" href="#/" aria-current={here.kind === 'start' ? 'page' : undefined}>
              Add a document
            </a>
          )}
          <button type="button" onClick={newChat}>
            New chat
          </button>
        </div>
        {documents.value !== null && <Documents />}
        {chats.value.length > 0 && (
          <section>
            <h2>Chats</h2>
            <ul>
              {chats.value.map((chat) => (
                <ChatItem key={chat.id} chat={chat} isCurrent={here.kind === 'chat' && here.id === chat.id} />
              ))}
            </ul>
          </section>
        )}
        <ModelChoice />
      </nav>
    </header>
  );
}

function Documents() {
  const here = place.value;
  const listed = documents.value ?? [];
  return (
    <section>
      <h2>Documents</h2>
      {listed.length + sending.value.length === 0 && <p class="hint">None yet.</p>}
      <ul>
        {sending.value.map((name) => (
          <li key={`sending ${name}`} class="item">
            <span class="name">{name}</span>
            <span class="meta">being sent</span>
          </li>
        ))}
        {listed.map((document) => (
          <DocumentItem
            key={document.id}
            document={document}
            isCurrent={here.kind === 'document' && here.id === document.id}
          />
        ))}
      </ul>
    </section>
  );
}

/** The model that reads new documents and is asked in chats; a choice only where there is one. */
function ModelChoice() {
  const chosen = models.value.find(({ id }) => id === model.value);
  if (chosen === undefined) return null;
  return (
    <footer class="model">
      {models.value.length > 1 ? (
        <label>
          Model
          <select
            value={model.value}
            onChange={(event) => {
              model.value = event.currentTarget.value;
            }}
          >
            {models.value.map(({ id }) => (
              <option key={id}>{id}</option>
            ))}
          </select>
        </label>
      ) : (
        <span class="name">{chosen.id}</span>
      )}
      {chosen.context_length !== undefined && (
        <span class="meta">{count(chosen.context_length)} tokens of context</span>
      )}
    </footer>
  );
}
