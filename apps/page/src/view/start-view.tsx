import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { newChat } from '../state/chats.js';
import { addFiles, addText, documents, sending } from '../state/documents.js';

/** Where a document is added. */
export function StartView() {
  if (documents.value === null) return <ChatOnly />;
  return (
    <div class="start">
      <h1>Ask a long document</h1>
      <p class="lead">
        It is read once. Then ask as many questions as you like, and see for every answer which passages were read.
      </p>
      <FileChoice />
      <TextEntry />
    </div>
  );
}

function FileChoice() {
  const input = useRef<HTMLInputElement>(null);
  return (
    <div class="drop-zone">
      <p>Drop a file here: plain text, Markdown, HTML, PDF, source code, or a .zip or .tar.gz of it.</p>
      <button type="button" class="button" onClick={() => input.current!.click()}>
        Choose a file
      </button>
      <input
        ref={input}
        type="file"
        hidden
        onChange={(event) => {
          addFiles([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = ''; // the same file can be chosen again
        }}
      />
      <p role="status" class="hint">
        {sending.value.length > 0 && `Sending ${sending.value.join(', ')} …`}
      </p>
    </div>
  );
}

function TextEntry() {
  const text = useSignal('');
  return (
    <form
      class="paste"
      onSubmit={(event) => {
        event.preventDefault();
        addText(text.value);
      }}
    >
      <label for="paste">Or paste a text</label>
      <textarea
        id="paste"
        rows={4}
        value={text.value}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
      />
      <button type="submit" disabled={text.value.trim() === ''}>
        Read this text
      </button>
    </form>
  );
}

function ChatOnly() {
  return (
    <div class="start">
      <h1>Ask the model</h1>
      <p class="lead">This server keeps no documents. You can chat with its model.</p>
      <button type="button" class="button" onClick={newChat}>
        New chat
      </button>
    </div>
  );
}
